//go:build !linux

package main

import (
	"context"
	"errors"
	"net"
)

// nodeAddress is the host's first global address, else loopback: simulated pods
// are not reached over a network.
func nodeAddress(context.Context, string) (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() && network.IP.To4() != nil {
			return network.IP.String(), nil
		}
	}
	return "127.0.0.1", nil
}

func secondAddress(string) string { return "" }

func removeStandIn() error { return nil }

func unmount(string) error { return nil }

func diskOf(path string) (disk, error) {
	return disk{}, errors.New("the disk of " + path + " is looked at on Linux only")
}
