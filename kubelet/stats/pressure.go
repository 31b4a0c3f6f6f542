package stats

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// ProcPressure is where the kernel tells how long the whole machine waited.
const ProcPressure = "/proc/pressure"

// Pressure is how long processes waited for a resource ("cpu", "memory", "io"), by the kernel's file below dir; nil where it
// keeps none (KEP-4205). Totals are in microseconds.
func Pressure(dir, resource string) *statsapi.PSIStats {
	text, err := os.ReadFile(filepath.Join(dir, resource))
	if err != nil {
		return nil
	}
	found := map[string]statsapi.PSIData{}
	for line := range strings.Lines(string(text)) {
		var who string
		var d statsapi.PSIData
		if _, err := fmt.Sscanf(line, "%s avg10=%f avg60=%f avg300=%f total=%d", &who, &d.Avg10, &d.Avg60, &d.Avg300, &d.Total); err == nil {
			found[who] = d
		}
	}
	if len(found) == 0 {
		return nil // the file is there and cannot be read where PSI was switched off at boot
	}
	return &statsapi.PSIStats{Some: found["some"], Full: found["full"]}
}
