package endpointslice

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"hyperkube/reconcile"
)

func newService(change ...func(*corev1.Service)) *corev1.Service {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "svc", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}}},
	}
	for _, c := range change {
		c(service)
	}
	return service
}

func newPod(i int, change ...func(*corev1.Pod)) *corev1.Pod {
	ip := fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint("u", i)), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func pods(from, to int) []*corev1.Pod {
	var all []*corev1.Pod
	for i := from; i < to; i++ {
		all = append(all, newPod(i))
	}
	return all
}

var nowhere = surroundings{func(string) string { return "" }, hintsOf(&corev1.Service{})}

// created counts the slices that apply has made, for their names.
var created int

// apply carries a plan out on a list, as the API would.
func apply(existing []*discovery.EndpointSlice, p plan) []*discovery.EndpointSlice {
	for _, s := range p.create {
		created++
		s.Name = fmt.Sprint(s.GenerateName, created)
		s.UID = types.UID(s.Name)
		existing = append(existing, s)
	}
	for _, s := range p.update {
		i := slices.IndexFunc(existing, func(e *discovery.EndpointSlice) bool { return e.UID == s.UID })
		existing[i] = s
	}
	for _, s := range p.delete {
		existing = slices.DeleteFunc(existing, func(e *discovery.EndpointSlice) bool { return e.UID == s.UID })
	}
	return existing
}

func sizes(all []*discovery.EndpointSlice) string {
	var n []int
	for _, s := range all {
		n = append(n, len(s.Endpoints))
	}
	slices.Sort(n)
	return fmt.Sprint(n)
}

// Slices fill up to a hundred; a change writes as few of them as can be.
func TestSlicesThroughTime(t *testing.T) {
	service := newService()
	var existing []*discovery.EndpointSlice
	for _, step := range []struct {
		name                   string
		pods                   []*corev1.Pod
		create, update, delete int
		sizes                  string
	}{
		{"no pods: a placeholder", nil, 1, 0, 0, "[0]"},
		{"still none: nothing", nil, 0, 0, 0, "[0]"},
		{"the first pods: in the placeholder", pods(0, 3), 0, 1, 0, "[3]"},
		{"nothing changed", pods(0, 3), 0, 0, 0, "[3]"},
		{"one more: into the slice that has room", pods(0, 4), 0, 1, 0, "[4]"},
		{"many more: as many new slices as needed", pods(0, 250), 2, 1, 0, "[50 100 100]"},
		{"one replaced: in the slice that changes anyway", append(pods(1, 250), newPod(300)), 0, 1, 0, "[50 100 100]"},
		{"all but three go", pods(1, 4), 0, 1, 2, "[3]"},
		{"the last go: the slice becomes the placeholder", nil, 0, 1, 0, "[0]"},
	} {
		p := planService(service, step.pods, existing, nowhere)
		if len(p.create) != step.create || len(p.update) != step.update || len(p.delete) != step.delete {
			t.Errorf("%s: creates %d, updates %d, deletes %d; want %d, %d, %d", step.name,
				len(p.create), len(p.update), len(p.delete), step.create, step.update, step.delete)
		}
		existing = apply(existing, p)
		if got := sizes(existing); got != step.sizes {
			t.Fatalf("%s: sizes %s, want %s", step.name, got, step.sizes)
		}
		seen := map[string]bool{}
		for _, slice := range existing {
			for i := range slice.Endpoints {
				if key := endpointKey(&slice.Endpoints[i]); seen[key] {
					t.Errorf("%s: %s stands twice", step.name, slice.Endpoints[i].Addresses)
				} else {
					seen[key] = true
				}
			}
		}
	}
}

// What of a pod a Service shows.
func TestEndpointOfPod(t *testing.T) {
	notReady := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
	publish := func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
	for _, test := range []struct {
		name    string
		service *corev1.Service
		pod     *corev1.Pod
		want    string // ready serving terminating hostname; or "none"
	}{
		{"ready", newService(), newPod(1), "true true false "},
		{"not ready", newService(), newPod(1, notReady), "false false false "},
		{"going, still serving", newService(), newPod(1, going), "false true true "},
		{"going, not serving", newService(), newPod(1, going, notReady), "false false true "},
		{"not ready but published", newService(publish), newPod(1, notReady), "true false false "},
		{"going but published", newService(publish), newPod(1, going), "true true true "},
		{"ended", newService(), newPod(1, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), "none"},
		{"without address", newService(), newPod(1, func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil }), "none"},
		{"of another family", newService(), newPod(1, func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "fd00::1", []corev1.PodIP{{IP: "fd00::1"}} }), "none"},
		{"named under its headless Service", newService(), newPod(1, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "h", "web" }), "true true false h"},
		{"named under another", newService(), newPod(1, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "h", "db" }), "true true false "},
	} {
		p := planService(test.service, []*corev1.Pod{test.pod}, nil, surroundings{func(string) string { return "zone-a" }, hintsOf(test.service)})
		got := "none"
		if len(p.create[0].Endpoints) > 0 {
			e := p.create[0].Endpoints[0]
			got = fmt.Sprint(*e.Conditions.Ready, " ", *e.Conditions.Serving, " ", *e.Conditions.Terminating, " ", ptr.Deref(e.Hostname, ""))
			if *e.NodeName != "n1" || *e.Zone != "zone-a" || e.TargetRef.UID != "u1" {
				t.Errorf("%s: endpoint %+v", test.name, e)
			}
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// A named port leads to a different number in each pod: one slice for each. A pod
// that lacks it is shown without the port.
func TestNamedPorts(t *testing.T) {
	service := newService(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") })
	port := func(number int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: number, Protocol: corev1.ProtocolTCP}}}}
		}
	}
	p := planService(service, []*corev1.Pod{newPod(1, port(8080)), newPod(2, port(9090)), newPod(3, port(8080)), newPod(4)}, nil, nowhere)
	var got []string
	for _, slice := range p.create {
		number := "none"
		if len(slice.Ports) > 0 {
			number = fmt.Sprint(*slice.Ports[0].Port)
		}
		got = append(got, fmt.Sprintf("%s:%d", number, len(slice.Endpoints)))
	}
	slices.Sort(got)
	if want := "8080:2 9090:1 none:1"; strings.Join(got, " ") != want {
		t.Errorf("slices %v, want %s", got, want)
	}
}

// Labels: the Service's, and those by which proxies and DNS find and judge slices.
func TestLabels(t *testing.T) {
	p := planService(newService(), pods(0, 1), nil, nowhere)
	slice := p.create[0]
	if got := fmt.Sprint(slice.Labels); got != "map[endpointslice.kubernetes.io/managed-by:endpointslice-controller.k8s.io kubernetes.io/service-name:web team:a]" {
		t.Errorf("labels %s", got)
	}
	if ref := metav1.GetControllerOf(slice); ref == nil || ref.Kind != "Service" || ref.UID != "svc" || slice.GenerateName != "web-" {
		t.Errorf("owner %v, generateName %q", ref, slice.GenerateName)
	}
	headless := newService(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	if _, ok := planService(headless, nil, nil, nowhere).create[0].Labels[corev1.IsHeadlessService]; !ok {
		t.Error("a headless Service's slice does not say so")
	}
	changed := newService(func(s *corev1.Service) { s.Labels = map[string]string{"team": "b"} })
	if p := planService(changed, pods(0, 1), apply(nil, p), nowhere); len(p.update) != 1 || p.update[0].Labels["team"] != "b" {
		t.Errorf("changed labels of the Service: plan %+v", p)
	}
}

// A turn whose cache has not seen our last write waits: it would show endpoints twice.
func TestStaleCacheWaits(t *testing.T) {
	service := newService()
	client := fake.NewClientset(service)
	factory := informers.NewSharedInformerFactory(client, 0)
	c := New(client, factory, record.NewFakeRecorder(10), reconcile.Options{})
	_ = factory.Core().V1().Services().Informer().GetIndexer().Add(service)
	if _, err := c.syncService(t.Context(), "ns/web"); err != nil {
		t.Fatal(err)
	}
	created, err := client.DiscoveryV1().EndpointSlices("ns").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(created.Items) != 1 {
		t.Fatalf("%d slices, error %v", len(created.Items), err)
	}
	result, err := c.syncService(t.Context(), "ns/web")
	if err != nil || !result.Retry {
		t.Errorf("result %+v, error %v; want a retry until the slice is in the cache", result, err)
	}
	_ = factory.Discovery().V1().EndpointSlices().Informer().GetIndexer().Add(&created.Items[0])
	if result, err := c.syncService(t.Context(), "ns/web"); err != nil || result.Retry {
		t.Errorf("result %+v, error %v; want it done", result, err)
	}
}

func TestTracker(t *testing.T) {
	slice := func(uid, version string) *discovery.EndpointSlice {
		return &discovery.EndpointSlice{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: version}}
	}
	tr := newTracker()
	tr.wrote("k", slice("a", "10"))
	for _, test := range []struct {
		name   string
		cached []*discovery.EndpointSlice
		want   bool
	}{
		{"not there yet", nil, true},
		{"older", []*discovery.EndpointSlice{slice("a", "9")}, true},
		{"as written", []*discovery.EndpointSlice{slice("a", "10")}, false},
		{"newer, with a stranger's", []*discovery.EndpointSlice{slice("a", "11"), slice("b", "1")}, false},
	} {
		if got := tr.stale("k", test.cached); got != test.want {
			t.Errorf("%s: stale %v", test.name, got)
		}
	}
	tr.removed("k", "a")
	if !tr.stale("k", []*discovery.EndpointSlice{slice("a", "10")}) {
		t.Error("a slice that we deleted is in the cache: stale")
	}
	if tr.stale("k", nil) {
		t.Error("it is gone: not stale")
	}
	tr.wrote("k", slice("c", "20"))
	tr.deleted("k", "c")
	if tr.stale("k", nil) {
		t.Error("someone else deleted it: not stale")
	}
}

// A slice that is to go becomes the one that is to come, under the same name.
func TestSlicesAreRecycled(t *testing.T) {
	existing := apply(nil, planService(newService(), pods(0, 2), nil, nowhere))
	other := newService(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(9090) })
	p := planService(other, pods(0, 2), existing, nowhere)
	if len(p.create) != 0 || len(p.delete) != 0 || len(p.update) != 1 || p.update[0].Name != existing[0].Name || *p.update[0].Ports[0].Port != 9090 {
		t.Errorf("plan %+v, want the slice rewritten", p)
	}
}
