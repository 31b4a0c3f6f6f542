package nodeshutdown

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// logind on the bus; org.freedesktop.login1(5).
const (
	loginService   = "org.freedesktop.login1"
	loginPath      = dbus.ObjectPath("/org/freedesktop/login1")
	loginManager   = "org.freedesktop.login1.Manager"
	systemdService = "org.freedesktop.systemd1"
	systemdPath    = dbus.ObjectPath("/org/freedesktop/systemd1")
	systemdManager = "org.freedesktop.systemd1.Manager"
	// dropIn is upstream's name, so that one replaces the other.
	dropIn = "99-kubelet.conf"
)

// logind is systemd-logind over the system's D-Bus.
type logind struct {
	bus *dbus.Conn
	// dropIns is where logind reads additions to its configuration.
	dropIns string
	close   func()
}

// ConnectLogind connects to logind until ctx ends, which ends a call that is not answered too.
func ConnectLogind(ctx context.Context) (Inhibitor, error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return newLogind(bus, "/etc/systemd/logind.conf.d"), nil
}

func newLogind(bus *dbus.Conn, dropIns string) *logind {
	return &logind{bus: bus, dropIns: dropIns, close: sync.OnceFunc(func() { bus.Close() })}
}

func (l *logind) MaxDelay() (time.Duration, error) {
	value, err := l.bus.Object(loginService, loginPath).GetProperty(loginManager + ".InhibitDelayMaxUSec")
	if err != nil {
		return 0, fmt.Errorf("reading logind's InhibitDelayMaxUSec: %w", err)
	}
	microseconds, ok := value.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("logind's InhibitDelayMaxUSec is a %T, not a uint64", value.Value())
	}
	return time.Duration(microseconds) * time.Microsecond, nil
}

// RaiseMaxDelay writes an addition to logind's configuration and has it read (SIGHUP).
func (l *logind) RaiseMaxDelay(delay time.Duration) error {
	if err := os.MkdirAll(l.dropIns, 0o755); err != nil {
		return err
	}
	content := fmt.Sprintf("# Written by hyperkube's kubelet (--shutdown-grace-period): pods may take so long to end.\n[Login]\nInhibitDelayMaxSec=%.0f\n", delay.Seconds())
	if err := os.WriteFile(filepath.Join(l.dropIns, dropIn), []byte(content), 0o644); err != nil {
		return err
	}
	return l.bus.Object(systemdService, systemdPath).Call(systemdManager+".KillUnit", 0, "systemd-logind.service", "all", int32(1)).Err
}

func (l *logind) Inhibit() (release func(), err error) {
	var fd dbus.UnixFD
	err = l.bus.Object(loginService, loginPath).
		Call(loginManager+".Inhibit", 0, "shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay").Store(&fd)
	if err != nil {
		return nil, err
	}
	lock := os.NewFile(uintptr(fd), "inhibitor")
	if lock == nil {
		return nil, errors.New("logind's inhibitor is no file")
	}
	return func() { lock.Close() }, nil
}

func (l *logind) Shutdowns() (<-chan bool, error) {
	err := l.bus.AddMatchSignal(dbus.WithMatchObjectPath(loginPath), dbus.WithMatchInterface(loginManager), dbus.WithMatchMember("PrepareForShutdown"))
	if err != nil {
		return nil, err
	}
	signals, shutdowns := make(chan *dbus.Signal, 10), make(chan bool, 10)
	l.bus.Signal(signals)
	go func() { // until the connection ends, which closes signals
		defer close(shutdowns)
		for signal := range signals {
			if signal.Name != loginManager+".PrepareForShutdown" || len(signal.Body) != 1 {
				continue
			}
			if now, ok := signal.Body[0].(bool); ok {
				shutdowns <- now
			}
		}
	}()
	return shutdowns, nil
}

func (l *logind) Close() { l.close() }
