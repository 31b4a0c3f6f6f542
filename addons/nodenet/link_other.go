//go:build !linux

package nodenet

import (
	"context"
	"errors"
)

var errNoLinux = errors.New("several nodes on one machine need Linux and its network namespaces; simulated ones do not: --fake-nodes=N")

// Plug needs Linux, like all below.
func (n Network) Plug(context.Context, string, int) error { return errNoLinux }

// Unplug has nothing to do.
func (n Network) Unplug(int) error { return nil }

// Remove has nothing to do.
func (n Network) Remove(string, int) error { return nil }

// CleanUp has nothing to do.
func (n Network) CleanUp(context.Context) error { return nil }

// Inside needs Linux.
func (n Network) Inside(string, func() error) error { return errNoLinux }

func (n Network) setRoutes(string, []Route) (int, error) { return 0, errNotPlugged }
