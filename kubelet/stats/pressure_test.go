package stats

import (
	"os"
	"path/filepath"
	"testing"

	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// The node's pressure is what the kernel says of the machine; a kernel without it leaves it out.
func TestPressure(t *testing.T) {
	dir := t.TempDir()
	text := "some avg10=1.50 avg60=0.25 avg300=0.01 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=789\n"
	if err := os.WriteFile(filepath.Join(dir, "cpu"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	want := statsapi.PSIStats{Some: statsapi.PSIData{Avg10: 1.5, Avg60: 0.25, Avg300: 0.01, Total: 123456}, Full: statsapi.PSIData{Total: 789}}
	if got := Pressure(dir, "cpu"); got == nil || *got != want {
		t.Errorf("Pressure of the CPU is %+v, want %+v", got, want)
	}
	if got := Pressure(dir, "io"); got != nil {
		t.Errorf("pressure without a file: %+v", got)
	}
}
