package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
)

// addresses is the list of given addresses: a file an address, which holds its
// owner. The file system makes giving one an atomic act, and survives us. Both
// families share the directory: a family's subnet says which files are its own.
type addresses struct {
	dir    string
	subnet netip.Prefix
}

// allocate gives an owner the next free address. The search goes on from the
// last one given: an address is not used again while someone may still know it.
func (a *addresses) allocate(owner string) (netip.Addr, error) {
	unlock, err := a.lock()
	if err != nil {
		return netip.Addr{}, err
	}
	defer unlock()
	if have := a.ownedBy(owner); have != "" {
		return netip.ParseAddr(have)
	}
	last := filepath.Join(a.dir, "last")
	if a.subnet.Addr().Is6() {
		last += "6"
	}
	start := gatewayOf(a.subnet)
	if data, err := os.ReadFile(last); err == nil {
		if ip, err := netip.ParseAddr(string(data)); err == nil && a.subnet.Contains(ip) {
			start = ip
		}
	}
	for ip := a.after(start); ; ip = a.after(ip) {
		f, err := os.OpenFile(filepath.Join(a.dir, ip.String()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.WriteString(owner)
			if err = errors.Join(err, f.Close(), os.WriteFile(last, []byte(ip.String()), 0o644)); err != nil {
				os.Remove(f.Name())
			}
			return ip, err
		}
		if !errors.Is(err, os.ErrExist) {
			return netip.Addr{}, err
		}
		if ip == start {
			return netip.Addr{}, fmt.Errorf("no address is free in %s", a.subnet)
		}
	}
}

// after is the next address that a pod may have: not the network's own, the
// gateway's, nor the broadcast address.
func (a *addresses) after(ip netip.Addr) netip.Addr {
	next := ip.Next()
	if !a.subnet.Contains(next) || !a.subnet.Contains(next.Next()) {
		next = gatewayOf(a.subnet).Next()
	}
	return next
}

func (a *addresses) lock() (unlock func(), err error) {
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(a.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func (a *addresses) each(use func(ip, owner string)) {
	entries, _ := os.ReadDir(a.dir)
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err == nil {
			owner, _ := os.ReadFile(filepath.Join(a.dir, e.Name()))
			use(e.Name(), string(owner))
		}
	}
}

func (a *addresses) ownedBy(owner string) (found string) {
	a.each(func(ip, by string) {
		if parsed, err := netip.ParseAddr(ip); err == nil && by == owner && a.subnet.Contains(parsed) {
			found = ip
		}
	})
	return found
}

func (a *addresses) owners() (all []string) {
	a.each(func(_, by string) {
		if by != "" {
			all = append(all, by)
		}
	})
	return all
}

func (a *addresses) release(owner string) error {
	unlock, err := a.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	a.each(func(ip, by string) {
		if by == owner {
			errs = append(errs, os.Remove(filepath.Join(a.dir, ip)))
		}
	})
	return errors.Join(errs...)
}
