//go:build !linux

package podparent

import (
	"fmt"
	"os"
)

// Main refuses: namespaces and cgroups are Linux's.
func Main([]string) int {
	fmt.Fprintln(os.Stderr, "podparent: needs Linux")
	return 1
}
