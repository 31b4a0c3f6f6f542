// Command box is all the programs of the demo image in one small static file: it
// runs the tool it is called as (argv[0]), or the one named by its first argument.
package main

import (
	"os"

	"hyperkube/cmd/box/tools"
)

func main() { os.Exit(tools.Main(os.Args)) }
