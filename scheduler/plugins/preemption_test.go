package plugins

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	configv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hyperkube/client/informers"
	"hyperkube/scheduler/extender"
	"hyperkube/scheduler/framework"
	fwruntime "hyperkube/scheduler/framework/runtime"
	"hyperkube/scheduler/queue"
)

func priority(n int32) podOption { return func(p *v1.Pod) { p.Spec.Priority = &n } }

func began(hoursAgo int) podOption {
	return func(p *v1.Pod) {
		start := metav1.NewTime(time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC).Add(time.Duration(-hoursAgo) * time.Hour))
		p.Status.StartTime = &start
	}
}

func nominatedTo(node string) podOption {
	return func(p *v1.Pod) { p.Status.NominatedNodeName = node }
}

func budget(name string, allowed int32, app string) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: policyv1.PodDisruptionBudgetSpec{Selector: selectorOf("app", app)}, Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed}}
}

// preempt lets the real plugins look for a node, which they must not find, and then preempt.
func preempt(t *testing.T, pod *v1.Pod, nodes []*v1.Node, running []*v1.Pod, others ...runtime.Object) (node string, evicted []string, message string, client *fake.Clientset) {
	t.Helper()
	return preemptAsking(t, nil, pod, nodes, running, others...)
}

func preemptAsking(t *testing.T, extenders []*extender.Extender, pod *v1.Pod, nodes []*v1.Node, running []*v1.Pod, others ...runtime.Object) (node string, evicted []string, message string, client *fake.Clientset) {
	t.Helper()
	objects := slices.Clone(others)
	for _, p := range running {
		objects = append(objects, p)
	}
	client = fake.NewClientset(objects...)
	nominator := &queue.Nominator{}
	for _, o := range others {
		if p, ok := o.(*v1.Pod); ok {
			nominator.AddNominatedPod(framework.NewPodInfo(p), nil)
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	snapshot := snapshotOf(nodes, running...)
	f, err := fwruntime.NewFramework(t.Context(), NewInTreeRegistry(), fwruntime.Profile{}, fwruntime.Options{
		Client: client, Recorder: events.NewFakeRecorder(100), Informers: factory, Snapshot: snapshot, Nominator: nominator, Extenders: extenders})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())

	state, info := framework.NewCycleState(), framework.NewPodInfo(pod)
	if _, _, s := f.RunPreFilterPlugins(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
		t.Fatal(s.Message())
	}
	filtered := framework.NewNodeToStatus()
	for _, n := range snapshot.List() {
		s := f.RunFilterPluginsWithNominatedPods(t.Context(), state, info, n)
		if s.IsSuccess() {
			t.Fatalf("the pod fits on %s without preemption", n.Node().Name)
		}
		filtered.Set(n.Node().Name, s)
	}
	result, status := f.RunPostFilterPlugins(t.Context(), state, info, filtered)
	if result != nil && result.NominatingInfo != nil {
		node = result.NominatedNodeName
	}
	for _, action := range client.Actions() {
		if d, ok := action.(clienttesting.DeleteAction); ok {
			evicted = append(evicted, d.GetName())
		}
	}
	slices.Sort(evicted)
	return node, evicted, status.Message(), client
}

func TestPreemption(t *testing.T) {
	one := []*v1.Node{makeNode("n1")}
	two := []*v1.Node{makeNode("n1"), makeNode("n2")}
	// Each node has 1 CPU.
	pod := func(name string, p int32, cpu string, options ...podOption) *v1.Pod {
		return makePod(name, append([]podOption{priority(p), requests("cpu", cpu)}, options...)...)
	}
	never := v1.PreemptNever
	for name, test := range map[string]struct {
		pod     *v1.Pod
		nodes   []*v1.Node
		running []*v1.Pod
		others  []runtime.Object
		node    string
		evicted []string
		message string
	}{
		"a lower one goes": {pod("p", 10, "1"), one, []*v1.Pod{pod("low", 1, "1", onNode("n1"))}, nil, "n1", []string{"low"}, ""},
		"an equal one stays": {pod("p", 10, "1"), one, []*v1.Pod{pod("same", 10, "1", onNode("n1"))}, nil, "", nil,
			"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		"it would not help": {pod("p", 10, "2"), one, []*v1.Pod{pod("low", 1, "1", onNode("n1"))}, nil, "", nil,
			"preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		"it would not help enough": {pod("p", 10, "1"), one, []*v1.Pod{pod("low", 1, "500m", onNode("n1")), pod("same", 10, "500m", onNode("n1"))}, nil, "", nil,
			"preemption: 0/1 nodes are available: 1 Insufficient cpu."},
		"it may not": {pod("p", 10, "1", func(p *v1.Pod) { p.Spec.PreemptionPolicy = &never }), one, []*v1.Pod{pod("low", 1, "1", onNode("n1"))}, nil, "", nil,
			"preemption: not eligible due to preemptionPolicy=Never."},
		"as few as possible":    {pod("p", 10, "500m"), one, []*v1.Pod{pod("a", 1, "500m", onNode("n1")), pod("b", 2, "500m", onNode("n1"))}, nil, "n1", []string{"a"}, ""},
		"who began last goes":   {pod("p", 10, "500m"), one, []*v1.Pod{pod("old", 1, "500m", onNode("n1"), began(5)), pod("new", 1, "500m", onNode("n1"), began(1))}, nil, "n1", []string{"new"}, ""},
		"a budget is respected": {pod("p", 10, "500m"), one, []*v1.Pod{pod("a", 1, "500m", onNode("n1"), labelled("app", "db")), pod("b", 2, "500m", onNode("n1"))}, []runtime.Object{budget("db", 0, "db")}, "n1", []string{"b"}, ""},
		"a budget that allows":  {pod("p", 10, "500m"), one, []*v1.Pod{pod("a", 1, "500m", onNode("n1"), labelled("app", "db")), pod("b", 2, "500m", onNode("n1"))}, []runtime.Object{budget("db", 1, "db")}, "n1", []string{"a"}, ""},

		"node without broken budgets": {pod("p", 10, "1"), two, []*v1.Pod{pod("a", 1, "1", onNode("n1"), labelled("app", "db")), pod("b", 5, "1", onNode("n2"))}, []runtime.Object{budget("db", 0, "db")}, "n2", []string{"b"}, ""},
		"node with the lesser victim": {pod("p", 10, "1"), two, []*v1.Pod{pod("a", 5, "1", onNode("n1")), pod("b", 1, "1", onNode("n2"))}, nil, "n2", []string{"b"}, ""},
		"node with the lesser sum":    {pod("p", 10, "1"), two, []*v1.Pod{pod("a", 5, "500m", onNode("n1")), pod("b", 5, "500m", onNode("n1")), pod("c", 5, "500m", onNode("n2")), pod("d", 1, "500m", onNode("n2"))}, nil, "n2", []string{"c", "d"}, ""},
		"node with fewer victims":     {pod("p", 10, "1"), two, []*v1.Pod{pod("a", 5, "500m", onNode("n1")), pod("b", 5, "500m", onNode("n1")), pod("c", 5, "1", onNode("n2"))}, nil, "n2", []string{"c"}, ""},
		"node whose victim is newer":  {pod("p", 10, "1"), two, []*v1.Pod{pod("a", 5, "1", onNode("n1"), began(5)), pod("b", 5, "1", onNode("n2"), began(1))}, nil, "n2", []string{"b"}, ""},

		"port": {makePod("p", priority(10), hostPort(80)), one, []*v1.Pod{makePod("q", priority(1), hostPort(80), onNode("n1"))}, nil, "n1", []string{"q"}, ""},
		"anti-affinity": {makePod("p", priority(10), apart("web")), []*v1.Node{makeNode("n1", label(zone, "a"))},
			[]*v1.Pod{makePod("w", priority(1), labelled("app", "web"), onNode("n1")), makePod("x", priority(1), onNode("n1"))}, nil, "n1", []string{"w"}, ""},

		// n1 has room for p once low goes; but n1 is promised to first, which is more important.
		"room that is promised": {pod("p", 10, "1"), one, []*v1.Pod{pod("low", 1, "1", onNode("n1"))}, []runtime.Object{pod("first", 20, "1", nominatedTo("n1"))}, "", nil,
			"preemption: 0/1 nodes are available: 1 Insufficient cpu."},
		"its victims are still going": {pod("p", 10, "1", nominatedTo("n1")), one, []*v1.Pod{pod("low", 1, "1", onNode("n1"), going, func(p *v1.Pod) {
			p.Finalizers = []string{"x/y"} // or the fake would not take it
			p.Status.Conditions = []v1.PodCondition{{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonPreemptionByScheduler}}
		})}, nil, "", nil, "preemption: not eligible due to a terminating pod on the nominated node."},
	} {
		t.Run(name, func(t *testing.T) {
			node, evicted, message, _ := preempt(t, test.pod, test.nodes, test.running, test.others...)
			if node != test.node || !slices.Equal(evicted, test.evicted) || message != test.message {
				t.Errorf("nominated to %q, evicted %v, %q; want %q, %v, %q", node, evicted, message, test.node, test.evicted, test.message)
			}
		})
	}
}

// An extender may take candidates away; of what it leaves the best is taken.
func TestPreemptionAsksExtenders(t *testing.T) {
	var offered extenderv1.ExtenderPreemptionArgs
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewDecoder(r.Body).Decode(&offered)
		result := extenderv1.ExtenderPreemptionResult{NodeNameToMetaVictims: map[string]*extenderv1.MetaVictims{"n1": {Pods: []*extenderv1.MetaPod{{UID: "dear"}}}}}
		json.NewEncoder(w).Encode(result)
	}))
	defer server.Close()
	e, err := extender.New(configv1.Extender{URLPrefix: server.URL, PreemptVerb: "preempt"})
	if err != nil {
		t.Fatal(err)
	}
	dear, cheap := makePod("dear", priority(5), requests("cpu", "1"), onNode("n1")), makePod("cheap", priority(1), requests("cpu", "1"), onNode("n2"))
	nodes := []*v1.Node{makeNode("n1"), makeNode("n2")}
	node, evicted, message, _ := preemptAsking(t, []*extender.Extender{e}, makePod("p", priority(10), requests("cpu", "1")), nodes, []*v1.Pod{dear, cheap})
	if node != "n1" || !slices.Equal(evicted, []string{"dear"}) || message != "" {
		t.Errorf("nominated to %q, evicted %v, %q; want n1, which the extender left", node, evicted, message)
	}
	if v := offered.NodeNameToVictims; len(v) != 2 || len(v["n2"].Pods) != 1 || v["n2"].Pods[0].Name != "cheap" {
		t.Errorf("offered %+v, want both nodes with their victims", v)
	}
}

// A victim is told why, before it goes; and lesser pods that wait for the node look elsewhere.
func TestPreemptionTellsVictims(t *testing.T) {
	lesser := makePod("lesser", priority(5), requests("cpu", "1"), nominatedTo("n1"))
	p := makePod("p", priority(10), requests("cpu", "1"))
	p.Spec.SchedulerName = "default-scheduler"
	_, _, _, client := preempt(t, p, []*v1.Node{makeNode("n1")}, []*v1.Pod{makePod("low", priority(1), requests("cpu", "1"), onNode("n1"))}, lesser)
	var order []string
	for _, action := range client.Actions() {
		switch a := action.(type) {
		case clienttesting.PatchAction:
			order = append(order, "patch "+a.GetName()+" "+a.GetSubresource())
		case clienttesting.DeleteAction:
			order = append(order, "delete "+a.GetName())
		}
	}
	if want := []string{"patch low status", "delete low", "patch lesser status"}; !slices.Equal(order, want) {
		t.Errorf("did %v, want %v", order, want)
	}
	low, err := client.Tracker().Get(v1.SchemeGroupVersion.WithResource("pods"), "", "lesser")
	if err != nil {
		t.Fatal(err)
	}
	if got := low.(*v1.Pod).Status.NominatedNodeName; got != "" {
		t.Errorf("lesser still waits for %s", got)
	}
}

func TestNominator(t *testing.T) {
	var n queue.Nominator
	names := func(node string) string {
		var list []string
		for _, p := range n.NominatedPodsForNode(node) {
			list = append(list, p.Pod.Name)
		}
		return fmt.Sprint(list)
	}
	p := framework.NewPodInfo(makePod("p"))
	n.AddNominatedPod(p, &framework.NominatingInfo{NominatedNodeName: "n1", Override: true})
	if names("n1") != "[p]" {
		t.Errorf("n1: %s", names("n1"))
	}
	// An update of the pod that was on its way before the nomination was written keeps it.
	n.UpdateNominatedPod(p.Pod, framework.NewPodInfo(makePod("p")))
	if names("n1") != "[p]" {
		t.Errorf("after an update: %s", names("n1"))
	}
	n.AddNominatedPod(p, &framework.NominatingInfo{NominatedNodeName: "n2", Override: true})
	if names("n1") != "[]" || names("n2") != "[p]" {
		t.Errorf("moved: %s %s", names("n1"), names("n2"))
	}
	n.UpdateNominatedPod(makePod("p", nominatedTo("n2")), framework.NewPodInfo(makePod("p")))
	if names("n2") != "[]" {
		t.Errorf("taken back: %s", names("n2"))
	}
}
