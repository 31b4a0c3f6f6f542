//go:build !linux

package volume

func newMounter(bool) mounter { return noMounts{} }
