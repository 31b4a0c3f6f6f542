package cm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A pod's memory limit is not lowered below what its processes use: on cgroup v2 the kernel would kill them. What stays or
// grows is let through although cached files fill a group up to its limit.
func TestCheckMemory(t *testing.T) {
	const mib = int64(1) << 20
	for name, c := range map[string]struct {
		current, max string
		wanted       int64
		refused      string
	}{
		"lower, room enough":     {"10485760", "104857600", 50 * mib, ""},
		"lower than used":        {"62914560", "104857600", 50 * mib, "attempting to set pod memory limit (52428800) below current usage (62914560)"},
		"a first limit, too low": {"62914560", "max", 50 * mib, "attempting to set pod memory limit (52428800) below current usage (62914560)"},
		"as it was, full":        {"52428800", "52428800", 50 * mib, ""},
		"raised, full":           {"52428800", "52428800", 60 * mib, ""},
		"no limit wanted":        {"52428800", "52428800", 0, ""},
		"taken away":             {"52428800", "52428800", -1, ""},
		"no memory controller":   {"", "", 50 * mib, ""},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"memory.current": c.current, "memory.max": c.max} {
			if text != "" {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := checkMemory(dir, c.wanted)
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v, want %q", name, err, c.refused)
		}
	}
}
