package cgroups

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Pressure is how long a group's processes waited for want of something (PSI, Documentation/accounting/psi.rst in Linux).
type Pressure struct {
	Some, Full Stall // some of them waited; all of them did
}

// Stall is a share of time in percent, averaged over the last 10, 60 and 300 seconds, and all of it in microseconds.
type Stall struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

// Pressure reads a group's pressure for "cpu", "memory" or "io"; nil where the kernel does not keep it: on v1, and where PSI is off.
func (h *Host) Pressure(group, resource string) *Pressure {
	if !h.V2() {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(h.Unified, group, resource+".pressure"))
	if err != nil {
		return nil
	}
	return parsePressure(string(data))
}

// parsePressure reads lines such as "some avg10=0.12 avg60=0.00 avg300=0.00 total=1234". It is pure.
func parsePressure(text string) *Pressure {
	found := map[string]Stall{}
	for line := range strings.Lines(text) {
		var who string
		var s Stall
		if _, err := fmt.Sscanf(line, "%s avg10=%f avg60=%f avg300=%f total=%d", &who, &s.Avg10, &s.Avg60, &s.Avg300, &s.Total); err == nil {
			found[who] = s
		}
	}
	return &Pressure{Some: found["some"], Full: found["full"]}
}
