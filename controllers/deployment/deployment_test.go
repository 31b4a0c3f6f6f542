package deployment

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/reconcile"
)

var start = time.Unix(100000, 0)

func newDeployment(replicas int32, image string) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "web-uid", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			RevisionHistoryLimit: ptr.To[int32](2), ProgressDeadlineSeconds: ptr.To[int32](600),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: ptr.To(intstr.FromInt32(1)), MaxUnavailable: ptr.To(intstr.FromInt32(1))}},
			Template: template(image),
		},
	}
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
}

// rsOf is a ReplicaSet of d for an image, with all its replicas available.
func rsOf(d *appsv1.Deployment, image, revision string, replicas int32) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-" + image, UID: types.UID("rs-" + image), Labels: map[string]string{"app": "web"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, controllerKind)},
			Annotations:     map[string]string{RevisionAnnotation: revision}},
		Spec:   appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: d.Spec.Selector, Template: template(image)},
		Status: appsv1.ReplicaSetStatus{Replicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas},
	}
	SetReplicasAnnotations(rs, *d.Spec.Replicas, *d.Spec.Replicas+MaxSurge(*d))
	return rs
}

type fixture struct {
	*DeploymentController
	client  *fake.Clientset
	factory informers.SharedInformerFactory
	clock   *clocktesting.FakeClock
	events  *record.FakeRecorder
}

func newFixture(objects ...runtime.Object) *fixture {
	f := &fixture{
		// The plain tracker: no server-side apply is needed, and it is many times faster.
		client: fake.NewSimpleClientset(objects...), //nolint:staticcheck
		clock:  clocktesting.NewFakeClock(start), events: record.NewFakeRecorder(10000),
	}
	f.factory = informers.NewSharedInformerFactory(f.client, 0)
	f.DeploymentController = New(f.client, f.factory, f.events, reconcile.Options{Clock: f.clock})
	return f
}

// refresh makes the caches what the API has.
func (f *fixture) refresh(t *testing.T) {
	t.Helper()
	ds, err := f.client.AppsV1().Deployments("ns").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sets := f.replicaSets(t)
	pods, err := f.client.CoreV1().Pods("ns").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dIndexer, rsIndexer, podIndexer := f.factory.Apps().V1().Deployments().Informer().GetIndexer(),
		f.factory.Apps().V1().ReplicaSets().Informer().GetIndexer(), f.factory.Core().V1().Pods().Informer().GetIndexer()
	_ = rsIndexer.Replace(nil, "")
	_ = podIndexer.Replace(nil, "")
	for i := range ds.Items {
		_ = dIndexer.Add(&ds.Items[i])
	}
	for i := range sets {
		_ = rsIndexer.Add(&sets[i])
	}
	for i := range pods.Items {
		_ = podIndexer.Add(&pods.Items[i])
	}
	f.client.ClearActions()
}

func (f *fixture) replicaSets(t *testing.T) []appsv1.ReplicaSet {
	t.Helper()
	list, err := f.client.AppsV1().ReplicaSets("ns").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// turn refreshes the caches and runs one sync.
func (f *fixture) turn(t *testing.T) reconcile.Result {
	t.Helper()
	f.refresh(t)
	result, err := f.syncDeployment(t.Context(), "ns/web")
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (f *fixture) deployment(t *testing.T) *appsv1.Deployment {
	t.Helper()
	d, err := f.client.AppsV1().Deployments("ns").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sizes are the ReplicaSets by image: "one=3 two=1".
func (f *fixture) sizes(t *testing.T) string {
	var all []string
	for _, rs := range f.replicaSets(t) {
		all = append(all, fmt.Sprintf("%s=%d", rs.Spec.Template.Spec.Containers[0].Image, *rs.Spec.Replicas))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// One turn of each kind: what sizes it leaves.
func TestSyncDeployment(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*appsv1.Deployment)
		sets   func(d *appsv1.Deployment) []runtime.Object
		want   string
		event  string
	}{
		{"a new one gets its ReplicaSet", nil, nil, "two=4", "Normal ScalingReplicaSet Scaled up replica set web-%s from 0 to 4"},
		{"a new template gets what the surge allows, and an old one goes at once", nil,
			func(d *appsv1.Deployment) []runtime.Object { return []runtime.Object{rsOf(d, "one", "1", 4)} }, "one=3 two=1", "Normal ScalingReplicaSet Scaled up replica set web-%s from 0 to 1"},
		{"old ones go as far as availability allows", nil,
			func(d *appsv1.Deployment) []runtime.Object {
				return []runtime.Object{rsOf(d, "one", "1", 4), rsOf(d, "two", "2", 1)}
			}, "one=2 two=1", "Normal ScalingReplicaSet Scaled down replica set web-one from 4 to 2"},
		{"unavailable old ones go first, all of them", nil,
			func(d *appsv1.Deployment) []runtime.Object {
				broken, old, fresh := rsOf(d, "broken", "1", 2), rsOf(d, "one", "2", 3), rsOf(d, "two", "3", 0)
				broken.Status.AvailableReplicas = 0
				return []runtime.Object{broken, old, fresh}
			}, "broken=0 one=3 two=0", "Normal ScalingReplicaSet Scaled down replica set web-broken from 2 to 0"},
		{"new ones that are not available hold the old ones", nil,
			func(d *appsv1.Deployment) []runtime.Object {
				fresh := rsOf(d, "two", "2", 2)
				fresh.Status.AvailableReplicas = 0
				return []runtime.Object{rsOf(d, "one", "1", 3), fresh}
			}, "one=3 two=2", ""},
		{"resized while stable", func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](6) },
			func(d *appsv1.Deployment) []runtime.Object {
				four := d.DeepCopy()
				four.Spec.Replicas = ptr.To[int32](4)
				return []runtime.Object{rsOf(four, "two", "1", 4)}
			}, "two=6", "Normal ScalingReplicaSet Scaled up replica set web-two from 4 to 6"},
		{"resized in the middle: in proportion", func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](8) },
			func(d *appsv1.Deployment) []runtime.Object {
				four := d.DeepCopy()
				four.Spec.Replicas = ptr.To[int32](4)
				return []runtime.Object{rsOf(four, "one", "1", 3), rsOf(four, "two", "2", 2)}
			}, "one=5 two=4", "Normal ScalingReplicaSet Scaled up replica set web-one from 3 to 5"},
		{"paused: a new template waits", func(d *appsv1.Deployment) { d.Spec.Paused = true },
			func(d *appsv1.Deployment) []runtime.Object { return []runtime.Object{rsOf(d, "one", "1", 4)} }, "one=4", ""},
		{"recreate: first the old go", recreate,
			func(d *appsv1.Deployment) []runtime.Object { return []runtime.Object{rsOf(d, "one", "1", 4)} }, "one=0", "Normal ScalingReplicaSet Scaled down replica set web-one from 4 to 0"},
		{"recreate: the new wait for the last old pod", recreate,
			func(d *appsv1.Deployment) []runtime.Object {
				rs := rsOf(d, "one", "1", 0)
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", Labels: map[string]string{"app": "web"},
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}}}
				return []runtime.Object{rs, pod}
			}, "one=0", ""},
		{"recreate: then the new come", recreate,
			func(d *appsv1.Deployment) []runtime.Object { return []runtime.Object{rsOf(d, "one", "1", 0)} }, "one=0 two=4", "Normal ScalingReplicaSet Scaled up replica set web-%s from 0 to 4"},
		{"a going one changes nothing", func(d *appsv1.Deployment) {
			d.DeletionTimestamp = &metav1.Time{Time: start}
			d.Finalizers = []string{"x"}
		},
			func(d *appsv1.Deployment) []runtime.Object { return []runtime.Object{rsOf(d, "one", "1", 4)} }, "one=4", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDeployment(4, "two")
			if test.change != nil {
				test.change(d)
			}
			objects := []runtime.Object{d}
			if test.sets != nil {
				objects = append(objects, test.sets(d)...)
			}
			f := newFixture(objects...)
			f.turn(t)
			// The first turn may have brought annotations up to date only.
			if len(f.events.Events) == 0 {
				f.turn(t)
			}
			if got := f.sizes(t); got != test.want {
				t.Errorf("sizes %q, want %q", got, test.want)
			}
			event := ""
			if len(f.events.Events) > 0 {
				event = <-f.events.Events
			}
			want := strings.ReplaceAll(test.event, "%s", ComputeHash(&d.Spec.Template, nil))
			if event != want {
				t.Errorf("event %q, want %q", event, want)
			}
		})
	}
}

func recreate(d *appsv1.Deployment) {
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
}

// Revisions count uses of templates; an undo gives the old template the next number
// and keeps its former one in the history, as `kubectl rollout history` shows.
func TestRevisions(t *testing.T) {
	d := newDeployment(1, "two")
	one, two := rsOf(d, "one", "1", 0), rsOf(d, "two", "2", 1)
	d.Spec.Template = template("one") // kubectl rollout undo
	f := newFixture(d, one, two)
	f.turn(t)
	f.turn(t)
	for _, rs := range f.replicaSets(t) {
		if rs.Name == "web-one" && (rs.Annotations[RevisionAnnotation] != "3" || rs.Annotations[RevisionHistoryAnnotation] != "1") {
			t.Errorf("annotations %v, want revision 3 with history 1", rs.Annotations)
		}
	}
	if got := f.deployment(t).Annotations[RevisionAnnotation]; got != "3" {
		t.Errorf("the deployment's revision is %q, want 3", got)
	}
}

// Without progress for the deadline, the condition says so; it is looked at when
// the deadline is due, since no event tells.
func TestProgressDeadline(t *testing.T) {
	f := newFixture(newDeployment(2, "two"))
	result := f.turn(t)
	if result.After != 601*time.Second {
		t.Errorf("comes back after %v, want a second after the deadline", result.After)
	}
	f.clock.Step(result.After)
	f.turn(t)
	c := GetDeploymentCondition(f.deployment(t).Status, appsv1.DeploymentProgressing)
	if c == nil || c.Status != corev1.ConditionFalse || c.Reason != TimedOutReason || !strings.Contains(c.Message, "has timed out progressing.") {
		t.Errorf("condition %+v, want ProgressDeadlineExceeded", c)
	}
}

// The oldest ReplicaSets go, down to the limit; never one that has pods.
func TestCleanup(t *testing.T) {
	d := newDeployment(1, "e")
	busy := rsOf(d, "a", "1", 0)
	busy.Status.Replicas = 1
	f := newFixture(d, busy, rsOf(d, "b", "2", 0), rsOf(d, "c", "3", 0), rsOf(d, "d", "4", 0), rsOf(d, "e", "5", 1))
	f.refresh(t)
	sets := f.replicaSets(t)
	var old []*appsv1.ReplicaSet
	for i := range sets {
		if sets[i].Name != "web-e" {
			old = append(old, &sets[i])
		}
	}
	if err := f.cleanupDeployment(t.Context(), old, d); err != nil {
		t.Fatal(err)
	}
	if got := f.sizes(t); got != "a=0 c=0 d=0 e=1" {
		t.Errorf("left are %q, want b gone: a is older but busy, and two may stay", got)
	}
}

// A name that is taken by another template makes the collision count grow, and
// with it another name.
func TestHashCollision(t *testing.T) {
	d := newDeployment(1, "two")
	taken := rsOf(d, "one", "1", 0)
	taken.Name = "web-" + ComputeHash(&d.Spec.Template, nil)
	f := newFixture(d, taken)
	f.refresh(t)
	if _, err := f.syncDeployment(t.Context(), "ns/web"); err == nil {
		t.Error("no error, so no retry")
	}
	if got := f.deployment(t).Status.CollisionCount; ptr.Deref(got, 0) != 1 {
		t.Fatalf("collision count %v, want 1", got)
	}
	f.turn(t)
	if got := f.sizes(t); got != "one=0 two=1" {
		t.Errorf("sizes %q", got)
	}
}

// A name that is taken by the same template is a cache that lags.
func TestStaleCacheCreatesOnce(t *testing.T) {
	f := newFixture(newDeployment(1, "two"))
	f.turn(t)
	_ = f.factory.Apps().V1().ReplicaSets().Informer().GetIndexer().Replace(nil, "")
	if _, err := f.syncDeployment(t.Context(), "ns/web"); err != nil {
		t.Fatal(err)
	}
	if got := f.sizes(t); got != "two=1" {
		t.Errorf("sizes %q, want one ReplicaSet", got)
	}
	if got := f.deployment(t).Status.CollisionCount; got != nil {
		t.Errorf("collision count %d, want none", *got)
	}
}

// The hash is upstream's: a cluster may change hands without a rollout.
func TestComputeHash(t *testing.T) {
	empty := corev1.PodTemplateSpec{}
	first := ComputeHash(&empty, nil)
	if again := ComputeHash(empty.DeepCopy(), nil); again != first {
		t.Errorf("%s and %s for the same template", first, again)
	}
	if other := ComputeHash(&empty, ptr.To[int32](1)); other == first {
		t.Error("the collision count does not change the hash")
	}
}

func TestResolveFenceposts(t *testing.T) {
	for _, test := range []struct {
		surge, unavailable string
		desired            int32
		want               string
	}{
		{"25%", "25%", 4, "1 1"}, {"25%", "25%", 3, "1 0"}, {"25%", "25%", 1, "1 0"},
		{"0", "0%", 3, "0 1"}, {"2", "1", 10, "2 1"}, {"0", "25%", 2, "0 1"}, {"100%", "50%", 5, "5 2"},
	} {
		s, u := intstr.Parse(test.surge), intstr.Parse(test.unavailable)
		surge, unavailable, err := ResolveFenceposts(&s, &u, test.desired)
		if got := fmt.Sprint(surge, unavailable); err != nil || got != test.want {
			t.Errorf("%s and %s of %d: %s, error %v; want %s", test.surge, test.unavailable, test.desired, got, err, test.want)
		}
	}
}
