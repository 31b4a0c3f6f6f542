//go:build !linux

package cm

import "errors"

func openTree() (tree, error) { return nil, errors.New("cgroups are Linux's") }
