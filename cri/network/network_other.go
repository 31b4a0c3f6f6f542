//go:build !linux

package network

import "io"

// PluginMain handles nothing: pods have networks on Linux only.
func PluginMain(string, io.Reader, io.Writer) (code int, handled bool) { return 0, false }
