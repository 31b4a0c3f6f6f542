// Command podparent is the parent process of one pod. It holds the pod's
// namespaces, starts its containers, writes their logs and keeps their exit
// codes, so that they outlive the runtime. It is a program of its own because
// there is one of it for each pod: without Kubernetes, TLS and HTTP it takes a
// fraction of the memory. `make build` embeds it into hyperkube; without that,
// hyperkube acts as podparent itself.
package main

import (
	"os"

	"hyperkube/cri/podparent"
)

func main() { os.Exit(podparent.Main(os.Args[1:])) }
