package flowcontrol

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/request"
)

// A list costs by its objects, a write by its watchers, a watch as a list if it begins as one (KEP-1040).
func TestEstimateWork(t *testing.T) {
	objects, watchers := 0, 0
	c := &Controller{config: Config{Load: func(*request.Info) (int, int) { return objects, watchers }}}
	for _, test := range []struct {
		method, url       string
		objects, watchers int
		want              work
	}{
		{"GET", "/api/v1/pods", 0, 0, work{seats: 1}},
		{"GET", "/api/v1/pods", 100, 50, work{seats: 1}},
		{"GET", "/api/v1/pods", 101, 0, work{seats: 2}},
		{"GET", "/api/v1/pods", 100000, 0, work{seats: 10}},
		{"GET", "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx", 1000, 0, work{seats: 1}},
		{"GET", "/api/v1/namespaces/a/pods/x", 1000, 0, work{seats: 1}},
		{"GET", "/api/v1/pods?watch=1", 1000, 0, work{seats: 1}},
		{"GET", "/api/v1/pods?watch=1&sendInitialEvents=true", 1000, 0, work{seats: 10}},
		{"POST", "/api/v1/namespaces/a/pods", 1000, 9, work{seats: 1}},
		{"POST", "/api/v1/namespaces/a/pods", 1000, 10, work{seats: 1, final: 1, after: 5 * time.Millisecond}},
		{"PUT", "/api/v1/namespaces/a/pods/x", 0, 41, work{seats: 1, final: 5, after: 5 * time.Millisecond}},
		{"DELETE", "/api/v1/namespaces/a/pods/x", 0, 400, work{seats: 1, final: 10, after: 20 * time.Millisecond}},
		{"POST", "/api/v1/namespaces/a/serviceaccounts/x/token", 0, 400, work{seats: 1}},
		{"GET", "/version", 1000, 1000, work{seats: 1}},
	} {
		objects, watchers = test.objects, test.watchers
		r := httptest.NewRequest(test.method, test.url, nil)
		if got := c.estimateWork(r, request.NewInfo(r), mostSeats, nil); got != test.want {
			t.Errorf("%s %s of %d objects with %d watchers: %+v, want %+v", test.method, test.url, objects, watchers, got, test.want)
		}
	}
	if widest(245) != 10 || widest(20) != 3 || widest(1) != 1 {
		t.Errorf("the widest request: %d %d %d", widest(245), widest(20), widest(1))
	}
}

// A wide request takes its seats, waits until they are free without being overtaken, and runs alone where there are never so many.
func TestWideRequests(t *testing.T) {
	s := newSet(3, 4, 1, 10)
	start := func(flow uint64, seats int) <-chan func() {
		executing, waiting := s.load()
		seated := make(chan func(), 1)
		go func() {
			done, _ := s.wait(t.Context(), asked{work: work{seats: seats}, flow: flow, limit: time.Minute})
			seated <- done
		}()
		for {
			if e, w := s.load(); e+w > executing+waiting {
				return seated
			}
			runtime.Gosched()
		}
	}
	first := <-start(0, 2)
	wide := start(1, 2)
	narrow := start(2, 1)
	if executing, waiting := s.load(); executing != 1 || waiting != 2 {
		t.Errorf("%d run and %d wait: a narrow request overtook the wide one", executing, waiting)
	}
	first()
	(<-wide)()
	(<-narrow)()
	huge := <-start(3, 9)
	if executing, _ := s.load(); executing != 1 {
		t.Error("a request wider than the level never runs")
	}
	after := start(0, 1)
	huge()
	(<-after)()
	if s.inUse != 0 || s.wanted != 0 {
		t.Errorf("at last %d seats are taken and %d wanted", s.inUse, s.wanted)
	}
}

// The seats of a write stay taken while its watchers are served.
func TestSeatsAfterTheEnd(t *testing.T) {
	s := newSet(5, 4, 1, 10)
	var pending func()
	s.later = func(d time.Duration, f func()) {
		if d != 7*time.Millisecond {
			t.Errorf("after %s", d)
		}
		pending = f
	}
	done, _ := s.wait(t.Context(), asked{work: work{seats: 1, final: 4, after: 7 * time.Millisecond}, limit: time.Minute})
	done()
	if s.inUse != 4 {
		t.Errorf("%d seats are taken while events go out", s.inUse)
	}
	pending()
	if s.inUse != 0 || s.executing != 0 {
		t.Errorf("%d seats are taken when all is over", s.inUse)
	}
}

// Each gets the same part of what it wants, within its bounds (KEP-1040, "dispatching").
func TestShare(t *testing.T) {
	for _, test := range []struct {
		total  float64
		claims []claim
		want   string
		part   float64
	}{
		{100, []claim{{10, 100, 40}, {10, 100, 40}}, "50 50", 1.25},
		{100, []claim{{10, 100, 300}, {10, 100, 100}}, "75 25", 0.25},
		{100, []claim{{50, 100, 10}, {10, 100, 100}}, "50 50", 0.5},
		{100, []claim{{0, 20, 80}, {0, 100, 80}}, "20 80", 1},
		{100, []claim{{80, 100, 1}, {40, 100, 1}}, "80 40", 0},
	} {
		seats, part := share(test.total, test.claims)
		if got := fmt.Sprintf("%.0f %.0f", seats[0], seats[1]); got != test.want || math.Abs(part-test.part) > 0.001 {
			t.Errorf("%v of %v: %s at %.3f, want %s at %.3f", test.claims, test.total, got, part, test.want, test.part)
		}
	}
}

func TestIntegrator(t *testing.T) {
	var i integrator
	now := time.Unix(1e9, 0)
	i.set(now, 2)
	i.set(now.Add(5*time.Second), 6)
	if d := i.reset(now.Add(10 * time.Second)); d != (demand{high: 6, average: 4, deviation: 2}) {
		t.Errorf("%+v", d)
	}
	if d := i.reset(now.Add(20 * time.Second)); d != (demand{high: 6, average: 6}) {
		t.Errorf("a period without change: %+v", d)
	}
}

func tier(name string, shares, lendable int32, borrow *int32) *flowcontrolv1.PriorityLevelConfiguration {
	return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
			NominalConcurrencyShares: ptr.To(shares), LendablePercent: ptr.To(lendable), BorrowingLimitPercent: borrow,
			LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 8, HandSize: 2, QueueLengthLimit: 100}},
		}}}
}

// A level under load borrows what an idle one lends, up to its limit, and gives it back when that one needs it.
func TestBorrowing(t *testing.T) {
	clock := testclock.NewFakeClock(time.Unix(1e9, 0))
	c := newController(t, nil, []*flowcontrolv1.PriorityLevelConfiguration{tier("idle", 50, 50, nil), tier("busy", 50, 0, ptr.To[int32](20)), tier("catch-all", 0, 0, ptr.To[int32](0))})
	c.config.Clock, c.config.TotalConcurrency = clock, 100
	levels := c.settings().levels
	limitOf := func(name string) int { return levels[name].queues.limit() }
	if limitOf("idle") != 50 || limitOf("busy") != 50 {
		t.Fatalf("at first %d and %d", limitOf("idle"), limitOf("busy"))
	}
	if l := c.limits["idle"]; l != (limits{nominal: 50, lower: 25, upper: 100, current: 50}) {
		t.Errorf("%+v", l)
	}
	busy, idle := levels["busy"].queues, levels["idle"].queues
	var done []func()
	for range 50 {
		d, _ := busy.wait(t.Context(), one(1))
		done = append(done, d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 90 {
		go func() { _, _ = busy.wait(ctx, one(uint64(i))) }()
	}
	for _, waiting := busy.load(); waiting < 90; _, waiting = busy.load() {
		runtime.Gosched()
	}
	clock.Step(borrowingInterval)
	c.adjust()
	if limitOf("busy") != 60 || limitOf("idle") >= 50 || limitOf("idle") < 25 {
		t.Errorf("under load: busy %d, idle %d", limitOf("busy"), limitOf("idle"))
	}
	if executing, _ := busy.load(); executing != 60 {
		t.Errorf("%d run with the seats borrowed", executing)
	}
	c.current.Store(nil) // the objects are read anew: what is borrowed stays
	if levels = c.settings().levels; limitOf("busy") != 60 {
		t.Errorf("read anew: busy %d", limitOf("busy"))
	}
	for range 50 {
		d, refused := idle.wait(t.Context(), one(2))
		if refused != "" {
			break
		}
		done = append(done, d)
		if executing, _ := idle.load(); executing >= limitOf("idle") {
			break
		}
	}
	go func() { _, _ = idle.wait(ctx, one(3)) }()
	for _, waiting := idle.load(); waiting < 1; _, waiting = idle.load() {
		runtime.Gosched()
	}
	clock.Step(borrowingInterval)
	c.adjust()
	if limitOf("busy")+limitOf("idle") > 101 || limitOf("busy") < 50 || limitOf("idle") < 40 {
		t.Errorf("both under load: busy %d, idle %d", limitOf("busy"), limitOf("idle"))
	}
	cancel()
	for _, d := range done {
		d()
	}
}

// The dumps have upstream's columns; a watch holds its seat until it has started.
func TestDumpsAndWatches(t *testing.T) {
	c := newController(t, nil, nil)
	c.config.Exempt = func(info *request.Info, _ *http.Request) bool {
		return info.Verb == "watch" || info.Subresource == "exec"
	}
	dump := func(path string) []string {
		w := httptest.NewRecorder()
		c.Debug(w, httptest.NewRequest("GET", DebugPath+path, nil))
		return strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	}
	ask := func(method, url string, handler http.HandlerFunc) {
		r := httptest.NewRequest(method, url, nil)
		user := &request.User{Name: "jane", Groups: []string{"system:authenticated"}}
		r = r.WithContext(request.WithUser(request.WithInfo(r.Context(), request.NewInfo(r)), user))
		c.Handler(handler).ServeHTTP(httptest.NewRecorder(), r)
	}
	set := c.settings().levels["global-default"].queues
	ask("GET", "/api/v1/pods?watch=1", func(w http.ResponseWriter, r *http.Request) {
		before, _ := set.load()
		request.InfoFrom(r.Context()).Started()
		after, _ := set.load()
		if before != 1 || after != 0 {
			t.Errorf("a watch: %d requests before its start, %d after", before, after)
		}
	})
	ask("POST", "/api/v1/namespaces/a/pods/x/exec", func(http.ResponseWriter, *http.Request) {
		if executing, _ := set.load(); executing != 0 {
			t.Error("a connection holds a seat")
		}
	})
	ask("GET", "/api/v1/namespaces/a/pods", func(http.ResponseWriter, *http.Request) {
		set.lend(1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			r := httptest.NewRequest("GET", "/api/v1/namespaces/a/pods/x", nil)
			_, _ = set.wait(ctx, asked{work: work{seats: 1}, flow: 1, limit: time.Minute, schema: "global-default", distinguisher: "jane", user: &request.User{Name: "jane"}, info: request.NewInfo(r)})
		}()
		for _, waiting := set.load(); waiting < 1; _, waiting = set.load() {
			runtime.Gosched()
		}
		levels := dump("dump_priority_levels")
		if got := strings.Fields(levels[0]); strings.Join(got, " ") != "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests" {
			t.Errorf("%q", got)
		}
		for _, want := range []string{"global-default, 1, false, false, 1, 1, 2, 0, 0, 0", "exempt, <none>, <none>, <none>, <none>, <none>, <none>, <none>, <none>, <none>"} {
			found := false
			for _, line := range levels {
				found = found || strings.Join(strings.Fields(line), " ") == want
			}
			if !found {
				t.Errorf("no line %q in\n%s", want, strings.Join(levels, "\n"))
			}
		}
		requests := dump("dump_requests?includeRequestDetails=1")
		if len(requests) != 2 || !strings.HasPrefix(strings.Join(strings.Fields(requests[1]), " "), "global-default, global-default, ") || !strings.HasSuffix(strings.Join(strings.Fields(requests[1]), " "), "jane, get, /api/v1/namespaces/a/pods/x, a, x, v1, pods,") {
			t.Errorf("%s", strings.Join(requests, "\n"))
		}
		if queues := dump("dump_queues"); !strings.HasPrefix(queues[0], "PriorityLevelName,") || len(queues) < 128 {
			t.Errorf("%d lines: %s", len(queues), queues[0])
		}
		cancel()
		<-gone
	})
	if set.inUse != 0 {
		t.Errorf("%d seats are taken at the end", set.inUse)
	}
}

// BenchmarkHandler is what priority and fairness cost a request that need not wait.
func BenchmarkHandler(b *testing.B) {
	c := newController(b, nil, nil)
	handler := c.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest("GET", "/api/v1/namespaces/a/pods/x", nil)
	user := &request.User{Name: "system:node:n", Groups: []string{"system:nodes", "system:authenticated"}}
	r = r.WithContext(request.WithUser(request.WithInfo(r.Context(), request.NewInfo(r)), user))
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(w, r)
	}
}
