package main

import (
	"os"
	"runtime"

	"hyperkube/component"
)

// tuneRuntime tells Go's runtime what is known of a process that is one component. It
// is measured on two cores, where a client, the apiserver and etcd share them.
func tuneRuntime(name string) {
	if name != "etcd" && name != "apiserver" {
		return
	}
	component.KeepHeadroom(32 << 20)
	// A write passes through etcd from goroutine to goroutine: gRPC, raft, log, database. With
	// a thread a core each step wakes another one, which makes a write cost a quarter more.
	if name == "etcd" && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}
