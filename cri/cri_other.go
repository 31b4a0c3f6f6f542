//go:build !linux

package cri

import (
	"context"
	"errors"
)

var errNeedsLinux = errors.New("the container runtime needs Linux; on this system use --container-runtime=simulated")

// CRI is the container runtime; on this system there is none.
type CRI struct{}

// New refuses: containers are made of what only Linux has.
func New(Config) (*CRI, error) { return nil, errNeedsLinux }

// Run never gets called, since New fails.
func (*CRI) Run(context.Context) error { return errNeedsLinux }

// CleanUp has nothing to remove.
func CleanUp(context.Context, Config) error { return nil }
