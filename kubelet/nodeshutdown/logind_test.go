package nodeshutdown

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// login is a logind on a bus of the test's own.
type login struct {
	bus   *dbus.Conn
	delay uint64
	lock  *os.File // our end of the inhibitor
	asked chan string
}

func (l *login) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.lock = ours
	l.asked <- fmt.Sprintf("inhibit %s %s %s", what, who, mode)
	return dbus.UnixFD(theirs.Fd()), nil // stays open here: the test asks whether it has come, not when it goes
}

func (l *login) KillUnit(unit, who string, signal int32) *dbus.Error {
	l.delay = 30_000_000
	l.asked <- fmt.Sprintf("kill %s %s %d", unit, who, signal)
	return nil
}

// Get is org.freedesktop.DBus.Properties'.
func (l *login) Get(of, name string) (dbus.Variant, *dbus.Error) {
	if of+"."+name != loginManager+".InhibitDelayMaxUSec" {
		return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("no %s of %s", name, of))
	}
	return dbus.MakeVariant(l.delay), nil
}

// startBus runs a message bus that lets anybody own any name.
func startBus(t *testing.T) (address string) {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("needs dbus-daemon")
	}
	dir := t.TempDir()
	address = "unix:path=" + dir + "/bus"
	config := `<busconfig><listen>` + address + `</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*" eavesdrop="true"/><allow own="*"/><allow user="*"/></policy></busconfig>`
	if err := os.WriteFile(dir+"/bus.conf", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--nosyslog", "--print-address=1", "--config-file="+dir+"/bus.conf")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 200)); err != nil { // it has printed its address: it listens
		t.Fatal(err)
	}
	return address
}

func connect(t *testing.T, address string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// What is asked of logind over a real bus: its delay is read, raised by a file and a
// SIGHUP, an inhibitor comes as a file descriptor, shutdowns are heard, and a bus that goes is noticed.
func TestLogindOnTheBus(t *testing.T) {
	address := startBus(t)
	service := &login{bus: connect(t, address), delay: 5_000_000, asked: make(chan string, 10)}
	for _, export := range []struct {
		path dbus.ObjectPath
		as   string
	}{{loginPath, loginManager}, {loginPath, "org.freedesktop.DBus.Properties"}, {systemdPath, systemdManager}} {
		if err := service.bus.Export(service, export.path, export.as); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{loginService, systemdService} {
		if _, err := service.bus.RequestName(name, 0); err != nil {
			t.Fatal(err)
		}
	}
	dropIns := filepath.Join(t.TempDir(), "logind.conf.d")
	client := newLogind(connect(t, address), dropIns)
	defer client.Close()
	if delay, err := client.MaxDelay(); err != nil || delay != 5*time.Second {
		t.Errorf("delay %v, %v", delay, err)
	}
	if err := client.RaiseMaxDelay(30 * time.Second); err != nil {
		t.Error(err)
	}
	if asked := <-service.asked; asked != "kill systemd-logind.service all 1" {
		t.Error(asked)
	}
	if text, err := os.ReadFile(dropIns + "/99-kubelet.conf"); err != nil || !strings.HasSuffix(string(text), "[Login]\nInhibitDelayMaxSec=30\n") {
		t.Errorf("%q, %v", text, err)
	}
	if delay, err := client.MaxDelay(); err != nil || delay != 30*time.Second {
		t.Errorf("delay %v, %v", delay, err)
	}
	release, err := client.Inhibit()
	if err != nil {
		t.Fatal(err)
	}
	if asked := <-service.asked; asked != "inhibit shutdown kubelet delay" {
		t.Error(asked)
	}
	release()
	shutdowns, err := client.Shutdowns()
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []bool{true, false} {
		if err := service.bus.Emit(loginPath, loginManager+".PrepareForShutdown", now); err != nil {
			t.Fatal(err)
		}
		if got := <-shutdowns; got != now {
			t.Errorf("heard %v, said %v", got, now)
		}
	}
	client.Close()
	if _, open := <-shutdowns; open {
		t.Error("a connection that is closed goes on")
	}
}
