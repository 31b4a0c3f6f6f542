package servicepods

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"hyperkube/reconcile"
)

func service(namespace, name string, selector map[string]string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{Selector: selector}}
}

// pod is a running pod of app=web, changed by each of edits.
func pod(edits ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "1", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, edit := range edits {
		edit(p)
	}
	return p
}

func deleted(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)} }

func phase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func app(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": value} }
}

func TestKeys(t *testing.T) {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, s := range []*corev1.Service{
		service("ns", "web", map[string]string{"app": "web"}),
		service("ns", "db", map[string]string{"app": "db"}),
		service("ns", "web-blue", map[string]string{"app": "web", "color": "blue"}),
		service("ns", "by-hand", nil),
		service("other", "web", map[string]string{"app": "web"}),
	} {
		_ = indexer.Add(s)
	}
	keys := Keys(corelisters.NewServiceLister(indexer))
	web := []string{"ns/web"}
	for _, test := range []struct {
		name     string
		old, new *corev1.Pod
		want     []string
	}{
		{name: "added", new: pod(), want: web},
		{name: "deleted", old: pod(), want: web},
		{name: "added, and no Service selects it", new: pod(app("cache"))},
		{name: "added without labels", new: pod(func(p *corev1.Pod) { p.Labels = nil })},
		{name: "one pod of two Services", new: pod(func(p *corev1.Pod) { p.Labels["color"] = "blue" }), want: []string{"ns/web", "ns/web-blue"}},
		{name: "nothing shown changed", old: pod(), new: pod(func(p *corev1.Pod) { p.ResourceVersion, p.Status.Message = "9", "still here" })},
		{name: "a relabelled pod leaves one Service for another", old: pod(), new: pod(app("db")), want: []string{"ns/db", "ns/web"}},
		{name: "a relabelled pod leaves its Service for none", old: pod(), new: pod(app("cache")), want: web},
		{name: "not ready any more", old: pod(), new: pod(func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }), want: web},
		{name: "being deleted", old: pod(), new: pod(deleted), want: web},
		{name: "ended", old: pod(), new: pod(phase(corev1.PodSucceeded)), want: web},
		{name: "failed after it succeeded", old: pod(phase(corev1.PodSucceeded)), new: pod(phase(corev1.PodFailed))},
		{name: "another address", old: pod(), new: pod(func(p *corev1.Pod) { p.Status.PodIP = "10.0.0.2" }), want: web},
		{name: "a second address", old: pod(), new: pod(func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::1"}) }), want: web},
		{name: "bound to a node", old: pod(func(p *corev1.Pod) { p.Spec.NodeName = "" }), new: pod(), want: web},
		{name: "another pod of the name", old: pod(), new: pod(func(p *corev1.Pod) { p.UID = "2" }), want: web},
	} {
		t.Run(test.name, func(t *testing.T) {
			var event reconcile.Event
			if test.old != nil {
				event.Old = test.old
			}
			if test.new != nil {
				event.New = test.new
			}
			got := keys(event)
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("keys %q, want %q", got, test.want)
			}
		})
	}
}

func TestShouldPodBeInEndpoints(t *testing.T) {
	noAddress := func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil }
	onlyList := func(p *corev1.Pod) { p.Status.PodIP = "" }
	for _, test := range []struct {
		name              string
		pod               *corev1.Pod
		want, terminating bool // without, and with includeTerminating
	}{
		{"running", pod(), true, true},
		{"its addresses in the list alone", pod(onlyList), true, true},
		{"no address yet", pod(noAddress), false, false},
		{"being deleted", pod(deleted), false, true},
		{"succeeded", pod(phase(corev1.PodSucceeded)), false, false},
		{"failed and being deleted", pod(phase(corev1.PodFailed), deleted), false, false},
	} {
		if got := ShouldPodBeInEndpoints(test.pod, false); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if got := ShouldPodBeInEndpoints(test.pod, true); got != test.terminating {
			t.Errorf("%s, with those that are going: %v, want %v", test.name, got, test.terminating)
		}
	}
}

func TestShouldSetHostname(t *testing.T) {
	named := func(hostname, subdomain string) *corev1.Pod {
		return pod(func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = hostname, subdomain })
	}
	for _, test := range []struct {
		name    string
		pod     *corev1.Pod
		service *corev1.Service
		want    bool
	}{
		{"its own Service", named("db-0", "db"), service("ns", "db", nil), true},
		{"another Service", named("db-0", "db"), service("ns", "web", nil), false},
		{"the name in another namespace", named("db-0", "db"), service("other", "db", nil), false},
		{"no hostname", named("", "db"), service("ns", "db", nil), false},
	} {
		if got := ShouldSetHostname(test.pod, test.service); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestFindPort(t *testing.T) {
	container := func(name string, number int32, protocol corev1.Protocol) corev1.Container {
		return corev1.Container{Ports: []corev1.ContainerPort{{Name: name, ContainerPort: number, Protocol: protocol}}}
	}
	p := pod(func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{container("dns", 53, corev1.ProtocolUDP), container("dns", 5353, corev1.ProtocolTCP)}
		ended, sidecar := container("admin", 1, corev1.ProtocolTCP), container("admin", 9000, corev1.ProtocolTCP)
		shadowed := container("dns", 2, corev1.ProtocolTCP)
		sidecar.RestartPolicy, shadowed.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways), ptr.To(corev1.ContainerRestartPolicyAlways)
		p.Spec.InitContainers = []corev1.Container{shadowed, ended, sidecar}
	})
	for _, test := range []struct {
		name     string
		target   intstr.IntOrString
		protocol corev1.Protocol
		want     int32 // 0: an error
	}{
		{"a number, declared by no container", intstr.FromInt32(8080), corev1.ProtocolTCP, 8080},
		{"a name of one protocol", intstr.FromString("dns"), corev1.ProtocolUDP, 53},
		{"the name of another protocol, before a sidecar's", intstr.FromString("dns"), corev1.ProtocolTCP, 5353},
		{"a sidecar's, not that of an init container that ends", intstr.FromString("admin"), corev1.ProtocolTCP, 9000},
		{"a name of no such protocol", intstr.FromString("admin"), corev1.ProtocolUDP, 0},
		{"an unknown name", intstr.FromString("x"), corev1.ProtocolTCP, 0},
	} {
		got, err := FindPort(p, &corev1.ServicePort{TargetPort: test.target, Protocol: test.protocol})
		if got != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%s: port %d, error %v; want %d", test.name, got, err, test.want)
		}
	}
}

func TestIsHeadless(t *testing.T) {
	for address, want := range map[string]bool{"": true, "None": true, "10.96.0.1": false} {
		if got := IsHeadless(&corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: address}}); got != want {
			t.Errorf("cluster IP %q: %v, want %v", address, got, want)
		}
	}
}
