//go:build !linux

package main

import "errors"

// askKernel needs Linux: containers are made of it.
func (i *inspection) askKernel(int) error { return errors.New("containers run on Linux only") }
