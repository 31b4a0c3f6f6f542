package flow

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// bench is a gate with named watches, as a test drives it.
type bench struct {
	*testing.T
	gate    *watchGate
	watches map[string]*gateQueue
}

func newBench(t *testing.T, line int64, watches ...string) *bench {
	b := &bench{T: t, gate: newWatchGate(line, maxWaiting), watches: map[string]*gateQueue{}}
	for _, name := range watches {
		b.watches[name] = &gateQueue{}
		b.gate.queues[b.watches[name]] = struct{}{}
	}
	return b
}

func (b *bench) arrive(watch string, revisions ...int64) {
	for _, r := range revisions {
		b.gate.arrive(b.watches[watch], queuedEvent{GateEvent: GateEvent{Type: "ADDED", Name: watch, Revision: r}, payload: r})
	}
}

// takes checks what a watch may send now, and how it goes on.
func (b *bench) takes(watch string, want gateVerdict, revisions ...int64) {
	b.Helper()
	passing, verdict := b.gate.take(b.watches[watch])
	got := []int64{}
	for _, e := range passing {
		got = append(got, e.payload.(int64))
	}
	if fmt.Sprint(got) != fmt.Sprint(append([]int64{}, revisions...)) || verdict != want {
		b.Errorf("%s takes %v and %s; want %v and %s", watch, got, verdict, revisions, want)
	}
}

func (b *bench) one(want int64) {
	b.Helper()
	if e, ok := b.gate.one(); e.Revision != want || ok != (want != 0) {
		b.Errorf("one let %d through, want %d", e.Revision, want)
	}
}

// What was written before the gate was closed passes, also when it comes late; what
// comes after waits, and goes one revision at a time, in the order of revisions over all
// watches.
func TestGateStepsInOrderOfRevisions(t *testing.T) {
	b := newBench(t, 10, "pods", "services")
	b.arrive("pods", 9, 10, 12, 15)
	b.arrive("services", 11, 14)
	b.takes("pods", gateWaits, 9, 10)
	b.takes("services", gateWaits)
	b.one(11)
	b.takes("pods", gateWaits)
	b.takes("services", gateWaits, 11)
	b.one(12)
	b.one(14) // before anybody has taken 12: it has passed nevertheless
	b.takes("pods", gateWaits, 12)
	b.takes("services", gateWaits, 14)
	if first, count := b.gate.steps(20); count != 1 || first[0].Revision != 15 {
		t.Errorf("waiting: %d, first %v; want 15 alone", count, first)
	}
	b.one(15)
	b.one(0)
	if b.gate.passed != 4 || b.gate.line != 15 {
		t.Errorf("passed %d, line %d; want 4 and 15", b.gate.passed, b.gate.line)
	}
}

// One revision is one step, for all watches that want it.
func TestGateOneRevisionIsOneStep(t *testing.T) {
	b := newBench(t, 10, "pods", "pods of n1")
	b.arrive("pods", 11, 12)
	b.arrive("pods of n1", 11)
	if _, count := b.gate.steps(20); count != 2 {
		t.Errorf("%d steps wait, want 2", count)
	}
	b.one(11)
	b.takes("pods", gateWaits, 11)
	b.takes("pods of n1", gateWaits, 11)
}

// A client that got a bookmark beyond the line would resume behind what it has not been told.
func TestGateLeavesOutBookmarksBeyondTheLine(t *testing.T) {
	b := newBench(t, 10, "pods")
	mark := func(r int64) {
		b.gate.arrive(b.watches["pods"], queuedEvent{GateEvent: GateEvent{Type: "BOOKMARK", Revision: r}, bookmark: true, payload: r})
	}
	mark(10)
	b.takes("pods", gateWaits, 10)
	mark(11)
	b.arrive("pods", 12)
	b.one(12)
	mark(12) // behind 12, which nobody has taken
	b.takes("pods", gateWaits, 12)
	mark(12)
	b.takes("pods", gateWaits, 12)
	b.one(0)
}

// Opened, a gate lets everything go, in order, and nothing is left behind.
func TestGateOpens(t *testing.T) {
	b := newBench(t, 10, "pods")
	b.arrive("pods", 11, 12)
	b.gate.opened = true
	b.arrive("pods", 13)
	b.takes("pods", gateOpen, 11, 12, 13)
	if b.gate.waiting != 0 {
		t.Errorf("%d wait", b.gate.waiting)
	}
}

// A full gate keeps what it has, says so, and ends the watch after it: the client then
// lists anew where it stands, and misses nothing.
func TestGateIsBounded(t *testing.T) {
	b := newBench(t, 10, "pods", "services")
	b.gate.limit = 2
	b.arrive("pods", 11, 12, 13, 14)
	b.arrive("services", 15)
	b.takes("pods", gateWaits)
	if !b.watches["pods"].cut || !b.watches["services"].cut || b.gate.waiting != 2 || b.gate.note == "" {
		t.Fatalf("cut %v %v, %d wait, note %q", b.watches["pods"].cut, b.watches["services"].cut, b.gate.waiting, b.gate.note)
	}
	b.one(11)
	b.takes("pods", gateWaits, 11)
	b.one(12)
	b.takes("pods", gateCut, 12)
	b.takes("services", gateCut)
	b.gate.leave(b.watches["pods"])
	if b.gate.line != 12 {
		t.Errorf("line %d: a client that lists there would miss 13", b.gate.line)
	}
}

// A watch that ends takes its events with it: they come back when it begins anew.
func TestGateForgetsWatchesThatEnd(t *testing.T) {
	b := newBench(t, 10, "pods", "services")
	b.arrive("pods", 11)
	b.arrive("services", 12)
	b.gate.leave(b.watches["pods"])
	if b.gate.waiting != 1 {
		t.Errorf("%d wait, want 1", b.gate.waiting)
	}
	b.one(12)
}

// Where history has been lost the line moves on, never back.
func TestGateLosesHistory(t *testing.T) {
	b := newBench(t, 10, "pods")
	b.gate.lost(9)
	if b.gate.line != 10 || b.gate.note != "" {
		t.Errorf("line %d, note %q", b.gate.line, b.gate.note)
	}
	b.arrive("pods", 11, 30)
	b.gate.lost(20)
	b.takes("pods", gateWaits, 11)
	if b.gate.line != 20 || b.gate.note == "" {
		t.Errorf("line %d, note %q", b.gate.line, b.gate.note)
	}
}

// newGates are the gates of a record, over a store at revision 100.
func newGates(t *testing.T) *Gates {
	t.Helper()
	gates := NewRecord(0).Gates()
	gates.Attach(func(context.Context) (int64, error) { return 100, nil }, func(resource string) bool { return resource == "pods" || resource == "nodes" || resource == "leases" })
	return gates
}

func closeGate(t *testing.T, gates *Gates, name GateName) {
	t.Helper()
	if _, err := gates.Close(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// Who is held: by user where the user says which component it is, else by program.
// Leases never are; nodes only by name.
func TestWhoIsHeld(t *testing.T) {
	schedulerUser := "system:kube-scheduler"
	for _, test := range []struct {
		gate   GateName
		client Client
		held   bool
	}{
		{GateName{Component: "scheduler"}, Client{schedulerUser, "scheduler/hyperkube", "pods"}, true},
		{GateName{Component: "scheduler"}, Client{schedulerUser, "kube-scheduler/v1.37.2", "pods"}, true},
		{GateName{Component: "scheduler"}, Client{schedulerUser, "scheduler/hyperkube", "leases"}, false},
		{GateName{Component: "scheduler"}, Client{schedulerUser, "scheduler/hyperkube", "nodes"}, false},
		{GateName{Component: "scheduler", Resource: "nodes"}, Client{schedulerUser, "scheduler/hyperkube", "nodes"}, true},
		{GateName{Component: "scheduler", Resource: "nodes"}, Client{schedulerUser, "scheduler/hyperkube", "pods"}, false},
		{GateName{Component: "kubectl"}, Client{schedulerUser, "kubectl/v1", "pods"}, false}, // it is the scheduler, whatever it calls itself
		{GateName{Component: "kubectl"}, Client{"kubernetes-admin", "kubectl/v1.32 (linux)", "pods"}, true},
		{GateName{Component: "kubelet-n1"}, Client{"system:node:n1", "kubelet/v1.37", "pods"}, true},
		{GateName{Component: "kubelet-n1"}, Client{"system:node:n2", "kubelet/v1.37", "pods"}, false},
		{GateName{Component: "kubelet"}, Client{"system:node:n2", "kubelet-n2/hyperkube", "pods"}, true},
		{GateName{Component: "proxy"}, Client{"system:kube-proxy", "proxy-node-2/hyperkube", "services"}, true},
		{GateName{Component: "proxy-node-2"}, Client{"system:kube-proxy", "proxy-node-2/hyperkube", "services"}, true},
		{GateName{Component: "proxy-node-2"}, Client{"system:kube-proxy", "proxy/hyperkube", "services"}, false},
		{GateName{Component: "controller-manager", Controller: "deployment"}, Client{"system:kube-controller-manager", "controller-manager/x", "pods"}, false},
	} {
		gates := newGates(t)
		if gates.Held(test.client) || !gates.AllOpen() {
			t.Fatal("held with no gate closed")
		}
		closeGate(t, gates, test.gate)
		if line, held := gates.Line(test.client); held != test.held || held && line != 100 {
			t.Errorf("%s holds %+v: %v at %d, want %v", test.gate, test.client, held, line, test.held)
		}
		if _, err := gates.Continue(GateName{}); err != nil || gates.Held(test.client) || gates.Oldest() != 0 {
			t.Errorf("%s: after continue: %v, held %v, oldest %d", test.gate, err, gates.Held(test.client), gates.Oldest())
		}
	}
}

// What can hold nothing, or would hold an event twice, is refused with what to do.
func TestGatesRefuse(t *testing.T) {
	gates := newGates(t)
	closeGate(t, gates, GateName{Component: "scheduler", Resource: "pods"})
	for want, name := range map[string]GateName{
		"400 no component: say whom to hold, as ?component=scheduler":                                                                 {},
		"400 etcd watches nothing through the API: hold one of those that do (see `hyperkube connections`)":                           {Component: "etcd"},
		"400 leases are never held: dns would lose its leadership while you look":                                                     {Component: "dns", Resource: "leases"},
		"400 no resource \"pod\": say its name in the plural, as `hyperkube kubectl api-resources` has it":                            {Component: "dns", Resource: "pod"},
		"409 scheduler --resource pods is held already, and the two would hold the same events: first `hyperkube continue scheduler`": {Component: "scheduler"},
		"400 a controller is held at its queue, whatever the resource: leave out one of the two":                                      {Component: "dns", Resource: "pods", Controller: "x"},
	} {
		_, err := gates.Close(t.Context(), name)
		refused, _ := err.(*GateError)
		if refused == nil || fmt.Sprint(refused.Code, " ", refused.Message) != want {
			t.Errorf("%+v: %v\nwant %s", name, err, want)
		}
	}
	if _, err := gates.Close(t.Context(), GateName{Component: "scheduler", Resource: "nodes"}); err != nil {
		t.Errorf("a second resource: %v", err)
	}
	if _, _, err := gates.One(t.Context(), GateName{Component: "scheduler"}, 0); err == nil {
		t.Error("one of two gates was stepped without saying which")
	}
	if _, _, err := gates.One(t.Context(), GateName{Component: "dns"}, 0); err == nil {
		t.Error("a gate that is not closed was stepped")
	}
}

// A step waits for an event; one that finds none lets nothing through later.
func TestStepWaits(t *testing.T) {
	gates := newGates(t)
	name, client := GateName{Component: "scheduler"}, Client{"system:kube-scheduler", "scheduler/x", "pods"}
	closeGate(t, gates, name)
	if e, note, err := gates.One(t.Context(), name, 0); e != nil || note == "" || err != nil {
		t.Fatalf("passed %v, note %q, %v; nothing waits", e, note, err)
	}
	watch := gates.Hold(client)
	watch.Add(GateEvent{Type: "ADDED", Revision: 101}, false, "a")
	if payloads, _, _ := watch.Take(); len(payloads) != 0 {
		t.Fatal("the step that found nothing let the next event through")
	}
	done := make(chan *GateEvent)
	step := func() {
		e, _, err := gates.One(t.Context(), name, time.Minute)
		if err != nil {
			t.Error(err)
		}
		done <- e
	}
	go step()
	if e := <-done; e == nil || e.Revision != 101 {
		t.Errorf("passed %v, want 101", e)
	}
	<-watch.Wake()
	if payloads, _, _ := watch.Take(); len(payloads) != 1 {
		t.Error("what was let through is not there to take")
	}
	if gates.Oldest() != 101 {
		t.Errorf("history is kept from %d on, want 101", gates.Oldest())
	}
	go step()
	watch.Add(GateEvent{Type: "ADDED", Revision: 102}, false, "b")
	if e := <-done; e == nil || e.Revision != 102 {
		t.Errorf("passed %v, want 102, which came while the step waited", e)
	}
	// Opening it ends a step that waits.
	failed := make(chan error)
	go func() { _, _, err := gates.One(t.Context(), name, time.Minute); failed <- err }()
	if _, err := gates.Continue(name); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("a step waits at a gate that is open")
	}
	if _, opened, _ := watch.Take(); !opened {
		t.Error("the watch has not heard that the gate is open")
	}
}

// The keys of a controller go one by one, each once, however often the process reports it.
func TestKeysAreLetThroughOnce(t *testing.T) {
	gates := newGates(t)
	manager := Client{User: "system:kube-controller-manager", UserAgent: "controller-manager/x"}
	name := GateName{Component: "controller-manager", Controller: "deployment"}
	link := gates.Link(manager)
	report := KeyReport{Link: link.Wish().Link, Controllers: []string{"deployment", "job"}, Held: []HeldKey{
		{ID: 1, Controller: "job", Key: GateEvent{Name: "other"}},
		{ID: 2, Controller: "deployment", Key: GateEvent{Name: "a"}, Queued: 2},
		{ID: 3, Controller: "deployment", Key: GateEvent{Name: "b"}, Queued: 2},
	}}
	if gates.Report(Client{User: "system:kube-scheduler"}, report) {
		t.Fatal("the scheduler reported for the controller-manager")
	}
	if !gates.Report(manager, report) {
		t.Fatal("the report was refused")
	}
	if _, err := gates.Close(t.Context(), GateName{Component: "controller-manager", Controller: "deploy"}); err == nil {
		t.Error("a controller that is not there was held")
	}
	closeGate(t, gates, name)
	if wish := link.Wish(); fmt.Sprint(wish.Hold, wish.Pass) != "[deployment] []" {
		t.Fatalf("wish %+v", wish)
	}
	status := gates.Status()[0]
	if status.Held != 4 || status.Next.Name != "a" || !status.Connected {
		t.Errorf("%+v, want 4 held: two at the gate and two in the queue", status)
	}
	for _, want := range []string{"a", "b"} {
		e, _, err := gates.One(t.Context(), name, 0)
		if e == nil || e.Name != want || err != nil {
			t.Errorf("passed %v, %v; want %s", e, err, want)
		}
		gates.Report(manager, report) // from before the wish has reached the process
	}
	if wish := link.Wish(); !slices.Equal(wish.Pass, []int64{2, 3}) {
		t.Errorf("pass %v, want 2 and 3", wish.Pass)
	}
	report.Held = report.Held[:1]
	gates.Report(manager, report)
	if wish := link.Wish(); len(wish.Pass) != 0 {
		t.Errorf("pass %v: they have passed", wish.Pass)
	}
	link.Close()
	if gates.Report(manager, report) || gates.Status()[0].Connected {
		t.Error("a process that has gone is still there")
	}
}

// With no gate closed, a watch that asks pays nothing.
func TestOpenGatesCostNothing(t *testing.T) {
	gates := newGates(t)
	client := Client{"system:kube-scheduler", "scheduler/x", "pods"}
	if n := testing.AllocsPerRun(100, func() {
		if !gates.AllOpen() || gates.Hold(client) != nil {
			t.Error("held")
		}
	}); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}
