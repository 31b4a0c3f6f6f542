package main

import (
	"strings"
	"testing"
	"time"

	"hyperkube/controllers"
	"hyperkube/reconcile"
)

// The table says of each controller what it does, did last, and failed at (S0-05), and what
// time alone will bring (S0-06).
func TestControllersTable(t *testing.T) {
	now := time.Unix(1000, 0)
	list := []controllers.ControllerStatus{
		{Status: reconcile.Status{Name: "deployment", Synced: true, QueueLength: 2, Syncs: 7, Errors: 1, LastKey: "ns/web", LastTime: now.Add(-3 * time.Second),
			LastError: "first line\nsecond", LastErrorKey: "ns/old", LastErrorTime: now.Add(-time.Minute), Running: []string{"ns/now"}}, Enabled: true, Running: true},
		{Status: reconcile.Status{Name: "nodelifecycle", Synced: true}, Enabled: true, Running: true, Timers: []string{"node a: heard of 1s ago"}},
		{Status: reconcile.Status{Name: "job"}, Enabled: true},
		{Status: reconcile.Status{Name: "podgc"}},
	}
	var out strings.Builder
	printControllers(&out, list, now)
	want := `CONTROLLER     STATE      QUEUE  RUNS  ERRORS  LAST KEY  AGO  LAST ERROR
deployment     at ns/now  2      7     1       ns/web    3s   ns/old, 1m0s ago: first line
nodelifecycle  waiting    0      0     0       -         -    -
job            idle       0      0     0       -         -    -
podgc          off        0      0     0       -         -    -
nodelifecycle waits: node a: heard of 1s ago
`
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", &out, want)
	}
	for name, chosen := range map[string]int{"deployment": 1, "podgc": 1, "nonsense": 0} {
		if got, err := namedControllers(list, []string{name}); len(got) != chosen || (err == nil) != (chosen == 1) {
			t.Errorf("%s: %d, %v", name, len(got), err)
		}
	}
}
