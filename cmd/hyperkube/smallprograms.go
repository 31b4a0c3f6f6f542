package main

import (
	"os"
	"path/filepath"

	"hyperkube/cmd/box/tools"
	"hyperkube/cri/network"
	"hyperkube/cri/podparent"
)

// runHelperProgram plays the small programs that a build without `make` does not
// carry, and the CNI plugin: all are this binary under another name.
func runHelperProgram(argv []string) (ran bool, code int) {
	switch name := filepath.Base(argv[0]); {
	case name == "podparent":
		return true, podparent.Main(argv[1:])
	case name == "box" || tools.Has(name) && find(name) == nil:
		return true, tools.Main(argv)
	default:
		code, ran = network.PluginMain(name, os.Stdin, os.Stdout)
		return ran, code
	}
}
