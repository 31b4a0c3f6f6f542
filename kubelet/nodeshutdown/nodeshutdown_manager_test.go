package nodeshutdown

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// fakeLogind keeps what is asked of it.
type fakeLogind struct {
	shutdowns chan bool
	raised    time.Duration
	stubborn  bool // takes no longer delay

	mu   sync.Mutex
	told []string
}

func (f *fakeLogind) tell(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

func (f *fakeLogind) story() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.told, "; ")
}

func (f *fakeLogind) MaxDelay() (time.Duration, error) { return max(5*time.Second, f.raised), nil }

func (f *fakeLogind) RaiseMaxDelay(d time.Duration) error {
	if !f.stubborn {
		f.raised = d
	}
	f.tell("raise %v", d)
	return nil
}

func (f *fakeLogind) Inhibit() (func(), error) {
	f.tell("inhibit")
	return func() { f.tell("release") }, nil
}

func (f *fakeLogind) Shutdowns() (<-chan bool, error) { return f.shutdowns, nil }
func (f *fakeLogind) Close()                          { f.tell("close") }

func pod(name string, priority int32, grace int64) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PodSpec{Priority: &priority, TerminationGracePeriodSeconds: &grace}}
}

// Each pod is in the last group whose priority is not above its own (KEP-2712's table).
func TestGroupByPriority(t *testing.T) {
	groups := groupByPriority([]GracePeriod{{0, 10}, {1000, 20}, {systemCriticalPriority, 30}}, []*v1.Pod{
		pod("below", -5, 0), pod("zero", 0, 0), pod("middle", 999, 0), pod("edge", 1000, 0), pod("high", 99999, 0), pod("critical", systemCriticalPriority, 0), pod("node", systemCriticalPriority+1000, 0),
	})
	var got []string
	for _, g := range groups {
		names := []string{}
		for _, p := range g.pods {
			names = append(names, p.Name)
		}
		got = append(got, strings.Join(names, " "))
	}
	if want := []string{"below zero middle", "edge high", "critical node"}; !slices.Equal(got, want) {
		t.Errorf("groups %q, want %q", got, want)
	}
}

func TestGracePeriods(t *testing.T) {
	if periods, err := GracePeriods(30*time.Second, 10*time.Second); err != nil || !slices.Equal(periods, []GracePeriod{{0, 20 * time.Second}, {systemCriticalPriority, 10 * time.Second}}) {
		t.Errorf("%v %v", periods, err)
	}
	if periods, err := GracePeriods(0, 0); err != nil || periods != nil {
		t.Errorf("by default: %v %v", periods, err)
	}
	for _, wrong := range [][2]time.Duration{{time.Second, 2 * time.Second}, {-time.Second, 0}, {time.Millisecond, 0}, {time.Second, time.Millisecond}} {
		if _, err := GracePeriods(wrong[0], wrong[1]); err == nil {
			t.Errorf("%v is accepted", wrong)
		}
	}
}

// shutdown is a manager with pods that end when the test lets them.
type shutdown struct {
	*Manager
	logind *fakeLogind
	clock  *clocktesting.FakeClock
	events *record.FakeRecorder
	end    map[string]chan struct{}
	done   chan struct{}
	told   chan string // a line for each pod that is being ended, and for each change
}

func start(t *testing.T, logind *fakeLogind, connect error, pods ...*v1.Pod) *shutdown {
	s := &shutdown{logind: logind, clock: clocktesting.NewFakeClock(time.Now()), events: record.NewFakeRecorder(10), end: map[string]chan struct{}{}, told: make(chan string, 20), done: make(chan struct{})}
	for _, p := range pods {
		s.end[p.Name] = make(chan struct{})
	}
	s.Manager = NewManager(Config{
		GracePeriods: []GracePeriod{{systemCriticalPriority, 10 * time.Second}, {0, 20 * time.Second}},
		Connect:      func(context.Context) (Inhibitor, error) { return logind, connect },
		ActivePods:   func() []*v1.Pod { return pods },
		Kill: func(_ context.Context, p *v1.Pod, grace int64, status func(*v1.PodStatus)) {
			told := v1.PodStatus{Phase: v1.PodRunning}
			status(&told)
			s.told <- fmt.Sprintf("%s within %d: %s %s %q", p.Name, grace, told.Phase, told.Reason, told.Conditions[0].Message)
			<-s.end[p.Name]
		},
		Changed: func() { s.told <- fmt.Sprint("changed: ", s.Err()) }, Recorder: s.events, Node: &v1.ObjectReference{}, Clock: s.clock,
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(s.done)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-s.done
	})
	return s
}

func (s *shutdown) next(t *testing.T, want string) {
	t.Helper()
	if got := s.hear(t); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func (s *shutdown) hear(t *testing.T) string {
	t.Helper()
	select {
	case got := <-s.told:
		return got
	case <-time.After(patience):
		t.Fatalf("nothing more was told; logind: %s", s.logind.story())
		return ""
	}
}

// waits until the manager waits for the clock.
func (s *shutdown) waits(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); !s.clock.HasWaiters(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the manager does not wait for the clock; logind: %s", s.logind.story())
		}
	}
}

// The node says that it shuts down, ends its pods with the critical ones last, each
// within its own grace or the group's, and lets the machine go on; a pod that does not
// end in time holds up nobody. A shutdown that is cancelled is awaited anew.
func TestShutdown(t *testing.T) {
	logind := &fakeLogind{shutdowns: make(chan bool)}
	s := start(t, logind, nil, pod("dns", systemCriticalPriority, 30), pod("web", 0, 30), pod("stuck", 0, 5))
	logind.shutdowns <- true
	s.next(t, "changed: node is shutting down")
	ended := `Failed Terminated "Pod was terminated in response to imminent node shutdown."`
	first, second := s.hear(t), s.hear(t)
	if first > second {
		first, second = second, first
	}
	if first != "stuck within 5: "+ended || second != "web within 20: "+ended {
		t.Errorf("first group: %q, %q", first, second)
	}
	close(s.end["web"])
	s.waits(t)
	s.clock.Step(20 * time.Second) // stuck had its time
	s.next(t, "dns within 10: "+ended)
	close(s.end["dns"])
	logind.shutdowns <- false // is taken only when the shutdown has been dealt with
	s.next(t, "changed: <nil>")
	close(s.end["stuck"])
	select {
	case event := <-s.events.Events:
		if event != "Normal NodeShutdown Shutdown manager detected shutdown event" {
			t.Error(event)
		}
	case <-time.After(patience):
		t.Error("no event")
	}
	close(logind.shutdowns) // logind is restarted
	s.waits(t)
	if story, want := logind.story(), "raise 30s; inhibit; release; inhibit; release; close"; story != want {
		t.Errorf("logind was asked to\n%s, want\n%s", story, want)
	}
}

// Without systemd, or with one that will not wait, the manager ends, and the node is as ready as ever.
func TestNoLogind(t *testing.T) {
	absent := start(t, &fakeLogind{}, errors.New("dial unix /run/dbus/system_bus_socket: no such file"))
	stubborn := start(t, &fakeLogind{stubborn: true, shutdowns: make(chan bool)}, nil)
	for range reloadTries {
		stubborn.waits(t)
		stubborn.clock.Step(reloadPeriod)
	}
	for _, s := range []*shutdown{absent, stubborn} {
		select {
		case <-s.done:
		case <-time.After(patience):
			t.Fatal("still trying")
		}
		if s.Err() != nil || strings.Contains(s.logind.story(), "inhibit") {
			t.Errorf("%v, %s", s.Err(), s.logind.story())
		}
	}
}
