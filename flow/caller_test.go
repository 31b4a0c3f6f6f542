package flow

import (
	"fmt"
	"strings"
	"testing"
)

// A function is named as people name it, its file by its path in this module (S4-05): whatever machine
// built the binary.
func TestPosition(t *testing.T) {
	for _, test := range []struct{ function, file, want string }{
		{"hyperkube/controllers/deployment.(*DeploymentController).sync", "/x/y/sync.go", "controllers/deployment/sync.go:7 DeploymentController.sync"},
		{"hyperkube/scheduler.(*Scheduler).ScheduleOne.func1.2", "/x/schedule_one.go", "scheduler/schedule_one.go:7 Scheduler.ScheduleOne"},
		{"hyperkube/scheduler.(*Scheduler).ScheduleOne.func1-range1", "/x/schedule_one.go", "scheduler/schedule_one.go:7 Scheduler.ScheduleOne"},
		{"hyperkube/scheduler.functional", "/x/s.go", "scheduler/s.go:7 functional"},
		{"main.runTrace", "/x/trace.go", "cmd/hyperkube/trace.go:7 runTrace"},
		{"hyperkube/kubelet_test.TestX", "/x/kubelet_test.go", "kubelet/kubelet_test.go:7 TestX"},
		{"hyperkube/client.(*flowTransport).RoundTrip", "/x/flow.go", ""},
		{"k8s.io/client-go/rest.(*Request).Do", "/x/request.go", ""},
	} {
		if got := position(test.function, test.file, 7); got != test.want {
			t.Errorf("%s: %q, want %q", test.function, got, test.want)
		}
	}
}

// What a header says is read back as it was said, and nonsense is left out.
func TestHeadersAreReadBack(t *testing.T) {
	const header = "ADDED Deployment default/web@12, MODIFIED Node n1@13; more=3"
	causes := parseCauses(header)
	if got := formatCauses(causes); got != header || causes.List[1].Namespace != "" || causes.More != 3 {
		t.Errorf("%+v is written as %q", causes, got)
	}
	for _, nonsense := range []string{"", ",,,", "a b", "a b c", "; more=x", strings.Repeat("ADDED Pod a/b@1, ", 100)} {
		if got := parseCauses(nonsense); len(got.List) > 16 || got.More != 0 {
			t.Errorf("%.20q gives %d causes and %d more", nonsense, len(got.List), got.More)
		}
	}
	source := Source{File: "a/b.go", Line: 3, Function: "T.f", Loop: "deployment", Key: "default/web"}
	if got := parseSource(fmt.Sprintf("%s; loop=%s; key=%s", source, source.Loop, source.Key)); got != source {
		t.Errorf("%+v", got)
	}
}
