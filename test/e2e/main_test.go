package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// inside is set in the environment of the tests' second life, in their own namespaces.
const inside = "HYPERKUBE_E2E_INSIDE"

// binary is the program under test.
var binary string

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	path, err := filepath.Abs("../../bin/hyperkube")
	if err != nil {
		return 1, err
	}
	binary = path
	if reason := cannotRun(); reason != "" {
		fmt.Printf("SKIP: test/e2e: %s\n", reason)
		return 0, nil
	}
	if os.Getenv(inside) == "" {
		return again()
	}
	if err := prepareNamespaces(); err != nil {
		return 1, err
	}
	code := m.Run()
	if common != nil {
		if err := common.interrupt(); err != nil {
			return 1, fmt.Errorf("stopping the shared cluster: %w", err)
		}
		os.RemoveAll(common.dir)
	}
	return code, nil
}

func cannotRun() string {
	if os.Geteuid() != 0 {
		return "needs root"
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		return "needs iptables"
	}
	if _, err := os.Stat(binary); errors.Is(err, os.ErrNotExist) {
		return "needs bin/hyperkube: run `make build`"
	}
	return ""
}

// again runs these tests once more in new network, mount and host name namespaces.
func again() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("starting the tests in their own namespaces: %w", err)
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// prepareNamespaces makes mounts private, sets loopback up, and adds a link with
// an address, as a machine has one. The host name is this run's own: the node is
// called so, and its cgroups after it. Otherwise a run that ends beside
// another one on the machine would kill the other's containers.
func prepareNamespaces() error {
	if err := syscall.Sethostname(fmt.Appendf(nil, "e2e-%d", os.Getpid())); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	uplink := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink0"}, PeerName: "router0"}
	if err := netlink.LinkAdd(uplink); err != nil {
		return err
	}
	address, err := netlink.ParseAddr("192.0.2.10/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(uplink, address); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(uplink); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.ParseIP("192.0.2.1")})
}
