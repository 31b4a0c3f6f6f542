package resourcequota

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"

	"hyperkube/api/core/resourcequota"
	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var (
	now       = time.Unix(100000, 0)
	secrets   = schema.GroupResource{Resource: "secrets"}
	pods      = schema.GroupResource{Resource: "pods"}
	quotas    = schema.GroupResource{Resource: "resourcequotas"}
	errBroken = errors.New("broken")
	conflict  = apierrors.NewConflict(quotas, "q", nil)
)

// amounts are names and quantities in turn.
func amounts(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func pod(name string, edit func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "500m")}}}
	if edit != nil {
		edit(p)
	}
	return p
}

// counterOf is an informer that never runs and has, or has not, had its first list.
type counterOf struct {
	cache.SharedIndexInformer
	listed bool
}

func (c counterOf) HasSynced() bool { return c.listed }

// fixture is a controller whose caches are filled by hand; q is in the API too.
type fixture struct {
	*Controller
	client  *fake.Clientset
	factory informers.SharedInformerFactory
	clock   *clocktesting.FakeClock
}

func newFixture(q *corev1.ResourceQuota, pods ...*corev1.Pod) *fixture {
	f := &fixture{client: fake.NewClientset(), clock: clocktesting.NewFakeClock(now)}
	f.factory = informers.NewSharedInformerFactory(f.client, 0)
	f.Controller = New(f.client, nil, f.factory, reconcile.Options{Clock: f.clock})
	if q != nil {
		_ = f.client.Tracker().Add(q.DeepCopy())
		f.cache(q)
	}
	for _, p := range pods {
		_ = f.factory.Core().V1().Pods().Informer().GetIndexer().Add(p)
	}
	return f
}

func (f *fixture) cache(q *corev1.ResourceQuota) {
	_ = f.factory.Core().V1().ResourceQuotas().Informer().GetIndexer().Add(q)
}

// count puts so many Secrets of ns, and one of another namespace, where the counter would have them.
func (f *fixture) count(n int, listed bool) {
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{}, &metav1.PartialObjectMetadata{}, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for i := range n {
		_ = informer.GetIndexer().Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(i)}})
	}
	_ = informer.GetIndexer().Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: "x"}})
	f.counters.started = map[schema.GroupResource]*counter{secrets: {informer: counterOf{informer, listed}, stop: func() {}}}
}

// writes are the quotas whose status was written.
func (f *fixture) writes() (written []*corev1.ResourceQuota) {
	for _, action := range f.client.Actions() {
		if update, ok := action.(clienttesting.UpdateAction); ok && action.GetSubresource() == "status" {
			written = append(written, update.GetObject().(*corev1.ResourceQuota))
		}
	}
	return written
}

func quota(hard, statusHard, used corev1.ResourceList, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q", UID: "u", ResourceVersion: "1"},
		Spec:       corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes},
		Status:     corev1.ResourceQuotaStatus{Hard: statusHard, Used: used},
	}
}

func TestSyncResourceQuota(t *testing.T) {
	two, cpu, counted := amounts("pods", "2"), amounts("pods", "9", "requests.cpu", "4"), amounts("secrets", "5")
	later := reconcile.Result{After: fullResync}
	ended := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	elsewhere := func(p *corev1.Pod) { p.Namespace = "elsewhere" }
	overdue := func(p *corev1.Pod) {
		at, grace := metav1.NewTime(now.Add(-time.Minute)), int64(30)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	}
	burstable := func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = amounts("cpu", "1") }
	for _, test := range []struct {
		name     string
		quota    *corev1.ResourceQuota
		pods     []*corev1.Pod
		secrets  int
		unlisted bool
		refusal  error
		used     corev1.ResourceList // that was written; nil: nothing was
		result   reconcile.Result
		err      error
	}{
		{name: "gone"},
		{name: "right already", quota: quota(two, two, amounts("pods", "1")), pods: []*corev1.Pod{pod("a", nil)}, result: later},
		{name: "the same amount in other words", quota: quota(cpu, cpu, amounts("pods", "1", "requests.cpu", "0.5")), pods: []*corev1.Pod{pod("a", nil)}, result: later},
		{name: "new", quota: quota(cpu, nil, nil), pods: []*corev1.Pod{pod("a", nil), pod("b", nil)}, used: amounts("pods", "2", "requests.cpu", "1"), result: later},
		{name: "new and empty", quota: quota(two, nil, nil), used: amounts("pods", "0"), result: later},
		{name: "limit changed", quota: quota(two, amounts("pods", "9"), amounts("pods", "0")), used: amounts("pods", "0"), result: later},
		{name: "limit dropped", quota: quota(two, cpu, amounts("pods", "0", "requests.cpu", "1")), used: amounts("pods", "0"), result: later},
		{name: "more than charged", quota: quota(two, two, amounts("pods", "0")), pods: []*corev1.Pod{pod("a", nil)}, used: amounts("pods", "1"), result: later},
		{name: "ended, overdue and foreign pods", quota: quota(two, two, amounts("pods", "0")), pods: []*corev1.Pod{pod("a", ended), pod("b", overdue), pod("c", elsewhere)}, result: later},
		{name: "out of scope", quota: quota(two, nil, nil, corev1.ResourceQuotaScopeBestEffort), pods: []*corev1.Pod{pod("a", burstable)}, used: amounts("pods", "0"), result: later},
		{name: "counted", quota: quota(counted, nil, nil), secrets: 3, used: amounts("secrets", "3"), result: later},
		{name: "counted with a scope", quota: quota(counted, nil, nil, corev1.ResourceQuotaScopeBestEffort), secrets: 3, used: amounts("secrets", "0"), result: later},
		{name: "not listed yet", quota: quota(counted, nil, nil), secrets: 3, unlisted: true, err: errNotListed},
		{name: "unknown resource", quota: quota(amounts("count/x.example.com", "1"), nil, nil), used: amounts("count/x.example.com", "0"), result: later},
		{name: "charged meanwhile", quota: quota(two, nil, nil), refusal: conflict, used: amounts("pods", "0"), result: reconcile.Result{Retry: true}},
		{name: "deleted meanwhile", quota: quota(two, nil, nil), refusal: apierrors.NewNotFound(quotas, "q"), used: amounts("pods", "0")},
		{name: "write fails", quota: quota(two, nil, nil), refusal: errBroken, used: amounts("pods", "0"), err: errBroken},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(test.quota, test.pods...)
			f.count(test.secrets, !test.unlisted)
			f.client.Resources = []*metav1.APIResourceList{{GroupVersion: "v1", APIResources: []metav1.APIResource{{Name: "secrets", Kind: "Secret", Namespaced: true}}}}
			if test.refusal != nil {
				f.client.PrependReactor("update", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.refusal })
			}

			result, err := f.syncResourceQuota(t.Context(), "ns/q")

			if result != test.result || !errors.Is(err, test.err) {
				t.Errorf("result %v, error %v; want %v, %v", result, err, test.result, test.err)
			}
			written := f.writes()
			if test.used == nil {
				if len(written) > 0 {
					t.Errorf("wrote %v", written[0].Status)
				}
				return
			}
			if len(written) != 1 {
				t.Fatalf("%d writes, want one", len(written))
			}
			got := written[0]
			if !resourcequota.Equal(got.Status.Used, test.used) || !resourcequota.Equal(got.Status.Hard, test.quota.Spec.Hard) || got.ResourceVersion != "1" {
				t.Errorf("wrote %v upon version %s, want %v used", got.Status, got.ResourceVersion, test.used)
			}
		})
	}
}

// What is used sinks only when the quota has rested, and each new version makes it rest anew: a charge comes before its object.
func TestHoldSinking(t *testing.T) {
	hard := amounts("pods", "5", "services", "5")
	q := quota(hard, hard, amounts("pods", "2", "services", "0"))
	f := newFixture(q, pod("a", nil))
	for i, step := range []struct {
		passed  time.Duration
		version string
		after   time.Duration
		used    string // pods, as written; empty: nothing was
	}{
		{0, "1", rest, ""},
		{rest - time.Millisecond, "1", time.Millisecond, ""},
		{0, "2", rest, ""}, // charged again
		{time.Second, "2", rest - time.Second, ""},
		{rest - time.Second, "2", fullResync, "1"},
	} {
		f.clock.Step(step.passed)
		q = q.DeepCopy()
		q.ResourceVersion = step.version
		f.cache(q)
		f.client.ClearActions()

		result, err := f.syncResourceQuota(t.Context(), "ns/q")

		if err != nil || result.After != step.after {
			t.Errorf("step %d: comes back after %v, error %v; want %v", i, result.After, err, step.after)
		}
		used := ""
		for _, written := range f.writes() {
			used += written.Status.Used.Pods().String()
		}
		if used != step.used {
			t.Errorf("step %d: wrote %q, want %q", i, used, step.used)
		}
	}
}

// Devices are summed over the claims of the namespace, and a counter listens for the day one goes.
func TestDevices(t *testing.T) {
	const gpus, claims = "gpu.deviceclass.resource.k8s.io/devices", "count/resourceclaims.resource.k8s.io"
	q := quota(amounts(gpus, "5", claims, "5"), nil, nil)
	f := newFixture(q)
	for i, namespace := range []string{"ns", "ns", "elsewhere"} {
		claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint(i)}}
		claim.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Exactly: &resourcev1.ExactDeviceRequest{
			DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 2}}}
		_ = f.client.Tracker().Add(claim)
	}
	f.count(0, true)
	f.counters.started[resourcev1.Resource("resourceclaims")] = f.counters.started[secrets]
	if _, err := f.syncResourceQuota(t.Context(), "ns/q"); err != nil {
		t.Fatal(err)
	}
	if written := f.writes(); len(written) != 1 || !resourcequota.Equal(written[0].Status.Used, amounts(gpus, "4", claims, "2")) {
		t.Errorf("wrote %v", written)
	}
}

// Events that free something bring back the quotas of their namespace, and no others.
func TestWhen(t *testing.T) {
	f := newFixture(quota(nil, nil, nil))
	running, ended := pod("a", nil), pod("a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
	labelled := pod("a", func(p *corev1.Pod) { p.Labels = map[string]string{"x": "y"} })
	elsewhere := pod("a", func(p *corev1.Pod) { p.Namespace = "elsewhere" })
	ending := pod("a", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64) })
	for _, test := range []struct {
		name string
		e    reconcile.Event
		want []string
	}{
		{"added", reconcile.Event{New: running}, nil},
		{"ended", reconcile.Event{Old: running, New: ended}, []string{"ns/q"}},
		{"given a deadline", reconcile.Event{Old: running, New: ending}, []string{"ns/q"}},
		{"labelled", reconcile.Event{Old: running, New: labelled}, nil},
		{"deleted", reconcile.Event{Old: running}, []string{"ns/q"}},
		{"deleted elsewhere", reconcile.Event{Old: elsewhere}, nil},
	} {
		if got := f.when(usageChanged(pods))(test.e); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
