package flowcontrol

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// one is a request of one seat.
func one(flow uint64) asked { return asked{work: work{seats: 1}, flow: flow, limit: time.Minute} }

func newSet(seats int, queues, hand, length int32) *queueSet {
	s := &queueSet{clock: testclock.NewFakePassiveClock(time.Unix(1e9, 0))}
	s.configure(seats, &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: hand, QueueLengthLimit: length})
	return s
}

// waitFor starts a wait, and returns what it will say once it is in a queue or has a seat.
func waitFor(t *testing.T, s *queueSet, flow uint64) <-chan func() {
	t.Helper()
	executing, waiting := s.load()
	seated := make(chan func(), 1)
	go func() {
		done, refused := s.wait(t.Context(), one(flow))
		if refused != "" {
			done = nil
		}
		seated <- done
	}()
	for {
		if e, w := s.load(); e+w > executing+waiting {
			return seated
		}
		runtime.Gosched()
	}
}

func TestDealGivesDifferentCards(t *testing.T) {
	for _, hash := range []uint64{0, 1, 41, 1 << 40, ^uint64(0)} {
		hand := deal(nil, hash, 8, 5)
		sorted := slices.Clone(hand)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != 5 || sorted[0] < 0 || sorted[4] > 7 || !slices.Equal(hand, deal(nil, hash, 8, 5)) {
			t.Errorf("%d: %v", hash, hand)
		}
	}
	if got := deal(nil, 7, 2, 5); len(got) != 2 {
		t.Errorf("a hand larger than the deck: %v", got)
	}
}

// Never more than the seats, and what waits is seated when one is free.
func TestSeats(t *testing.T) {
	s := newSet(2, 4, 2, 10)
	first, second, third := waitFor(t, s, 1), waitFor(t, s, 2), waitFor(t, s, 3)
	done := <-first
	<-second
	if executing, waiting := s.load(); executing != 2 || waiting != 1 {
		t.Errorf("%d run and %d wait", executing, waiting)
	}
	done()
	(<-third)()
	if executing, waiting := s.load(); executing != 1 || waiting != 0 {
		t.Errorf("at last %d run and %d wait", executing, waiting)
	}
}

// The flow that was served least goes first: one that floods does not keep another waiting for its whole queue.
func TestFairness(t *testing.T) {
	s := newSet(1, 2, 1, 100)
	flood, quiet := uint64(0), uint64(1) // one queue each
	running := <-waitFor(t, s, flood)
	var floods []<-chan func()
	for range 20 {
		floods = append(floods, waitFor(t, s, flood))
	}
	other := waitFor(t, s, quiet)
	running()
	select {
	case done := <-other:
		done()
	case <-floods[0]:
		t.Error("the flood's next request went before the other's first")
	}
}

func TestRefusals(t *testing.T) {
	s := newSet(1, 1, 1, 1)
	<-waitFor(t, s, 1)
	waitFor(t, s, 1)
	if _, refused := s.wait(t.Context(), one(1)); refused != reasonQueueFull {
		t.Errorf("a full queue: %q", refused)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s = newSet(1, 1, 1, 1)
	<-waitFor(t, s, 1)
	if _, refused := s.wait(ctx, one(1)); refused != reasonCancelled {
		t.Errorf("out of time: %q", refused)
	}
	if _, waiting := s.load(); waiting != 0 {
		t.Errorf("%d who have left wait still", waiting)
	}
	s = &queueSet{clock: s.clock}
	s.configure(1, nil)
	done, _ := s.wait(t.Context(), one(1))
	if _, refused := s.wait(t.Context(), one(1)); refused != reasonConcurrencyLimit {
		t.Errorf("no queues: %q", refused)
	}
	done()
	if _, refused := s.wait(t.Context(), one(1)); refused != "" {
		t.Errorf("a free seat: %q", refused)
	}
}

var none = apischema.GroupResource{Resource: "x"}

func newController(t testing.TB, schemas []*flowcontrolv1.FlowSchema, levels []*flowcontrolv1.PriorityLevelConfiguration) *Controller {
	t.Helper()
	return New(Config{
		FlowSchemas: lister.Slice(none, schemas...), PriorityLevels: lister.Slice(none, levels...), MaxWait: time.Minute,
		Exempt: func(info *request.Info, _ *http.Request) bool { return info.Verb == "watch" },
		WriteError: func(w http.ResponseWriter, _ *http.Request, err error) {
			var status apierrors.APIStatus
			errors.As(err, &status)
			w.WriteHeader(int(status.Status().Code))
		},
	})
}

// Without objects everybody is classified as in every cluster.
func TestClassify(t *testing.T) {
	s := newController(t, nil, nil).settings()
	account := func(namespace, name string) *request.User {
		return &request.User{Name: "system:serviceaccount:" + namespace + ":" + name, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}}
	}
	user := func(name string, groups ...string) *request.User {
		return &request.User{Name: name, Groups: append(groups, "system:authenticated")}
	}
	pods := &request.Info{IsResourceRequest: true, Verb: "list", Resource: "pods", APIVersion: "v1", Namespace: "default"}
	for _, test := range []struct {
		user *request.User
		info *request.Info
		want string
	}{
		{user("admin", "system:masters"), pods, "exempt"},
		{user("jane"), pods, "global-default"},
		{user("jane"), &request.Info{Path: "/healthz", Verb: "get"}, "probes"},
		{user("jane"), &request.Info{Path: "/version", Verb: "get"}, "global-default"},
		{user("system:kube-scheduler"), pods, "kube-scheduler"},
		{user("system:kube-controller-manager"), pods, "kube-controller-manager"},
		{user("system:node:n", "system:nodes"), pods, "system-nodes"},
		{account("default", "x"), pods, "service-accounts"},
		{account("kube-system", "x"), pods, "kube-system-service-accounts"},
		{&request.User{Name: "nobody"}, pods, "catch-all"},
	} {
		if got := s.classify(test.user, test.info); got.Name != test.want {
			t.Errorf("%s %+v: %s, want %s", test.user.Name, test.info, got.Name, test.want)
		}
	}
	if !s.levels["exempt"].queues.exempt || s.levels["workload-low"].queues.seats != 245 {
		t.Errorf("%+v", s.levels["workload-low"].queues)
	}
}

// A flood of one user over a full level is refused or waits; others of the level, and the exempt, are served meanwhile.
func TestFlood(t *testing.T) {
	level := &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "users", UID: "l1"}, Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: ptr.To[int32](1), LimitResponse: flowcontrolv1.LimitResponse{
			Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 64, HandSize: 3, QueueLengthLimit: 2}}}}}
	all := flowcontrolv1.ResourcePolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}, ClusterScope: true}
	flow := &flowcontrolv1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: "users", UID: "f1"}, Spec: flowcontrolv1.FlowSchemaSpec{
		MatchingPrecedence: 100, PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "users"},
		DistinguisherMethod: &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
		Rules:               []flowcontrolv1.PolicyRulesWithSubjects{{Subjects: []flowcontrolv1.Subject{{Kind: "User", User: &flowcontrolv1.UserSubject{Name: "*"}}}, ResourceRules: []flowcontrolv1.ResourcePolicyRule{all}}}}}
	c := newController(t, []*flowcontrolv1.FlowSchema{flow}, []*flowcontrolv1.PriorityLevelConfiguration{level})
	c.config.TotalConcurrency = 6 // one seat for "users", beside the shares of catch-all

	hold := make(chan struct{})
	handler := c.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if request.UserFrom(r.Context()).Name == "flood" {
			<-hold
		}
	}))
	ask := func(user *request.User) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/api/v1/pods", nil)
		r = r.WithContext(request.WithUser(request.WithInfo(r.Context(), request.NewInfo(r)), user))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	const flooding = 20
	codes := make(chan *httptest.ResponseRecorder, flooding)
	var group sync.WaitGroup
	for range flooding {
		group.Go(func() { codes <- ask(&request.User{Name: "flood"}) })
	}
	// One runs, three queues hold two each: the rest is refused while the flood lasts.
	for range flooding - 7 {
		w := <-codes
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || w.Header().Get("X-Kubernetes-PF-FlowSchema-UID") != "f1" || w.Header().Get("X-Kubernetes-PF-PriorityLevel-UID") != "l1" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	}
	if w := ask(&request.User{Name: "admin", Groups: []string{"system:masters"}}); w.Code != http.StatusOK {
		t.Errorf("the exempt: %d", w.Code)
	}
	quiet := make(chan *httptest.ResponseRecorder, 1)
	group.Go(func() { quiet <- ask(&request.User{Name: "quiet"}) })
	for {
		if _, waiting := c.sets["users"].load(); waiting == 7 {
			break
		}
		runtime.Gosched()
	}
	// The flood has three queues, and each has its turn beside the quiet user's one: no more than three go first, though six wait.
	turns := 0
	for answered := false; !answered; {
		select {
		case w := <-quiet:
			answered = true
			if w.Code != http.StatusOK {
				t.Errorf("the quiet user: %d", w.Code)
			}
		case hold <- struct{}{}:
			turns++
		}
	}
	if turns > 4 {
		t.Errorf("the quiet user waited for %d of the flood", turns)
	}
	close(hold)
	group.Wait()
}
