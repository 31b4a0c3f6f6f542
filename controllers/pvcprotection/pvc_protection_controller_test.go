package pvcprotection

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var (
	resource = corev1.Resource("persistentvolumeclaims")
	conflict = apierrors.NewConflict(resource, "c", nil)
	gone     = apierrors.NewNotFound(resource, "c")
	down     = errors.New("no answer")
)

func claim(finalizers ...string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p-data", ResourceVersion: "7", Finalizers: finalizers}}
}

// leaving is a claim that is being deleted.
func leaving(finalizers ...string) *corev1.PersistentVolumeClaim {
	c := claim(finalizers...)
	c.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)}
	return c
}

// ownedBy makes it the claim of an ephemeral volume.
func ownedBy(uid types.UID, c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	c.OwnerReferences = []metav1.OwnerReference{{Kind: "Pod", Name: "p", UID: uid, Controller: ptr.To(true)}}
	return c
}

// pod is a running pod that mounts the claim by its name, changed by each of edits.
func pod(edits ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "1"},
		Spec: corev1.PodSpec{NodeName: "n", Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "p-data"}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, edit := range edits {
		edit(p)
	}
	return p
}

func ended(p *corev1.Pod)    { p.Status.Phase = corev1.PodSucceeded }
func unbound(p *corev1.Pod)  { p.Spec.NodeName = "" }
func other(p *corev1.Pod)    { p.Spec.Volumes[0].PersistentVolumeClaim.ClaimName = "other" }
func abroad(p *corev1.Pod)   { p.Namespace = "abroad" }
func replaced(p *corev1.Pod) { p.UID = "2" }

func ephemeral(p *corev1.Pod) {
	p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}
}

// going has this much of its grace period left to ask for; with none the kubelet is done with the pod.
func going(grace int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1000, 0)}, &grace
	}
}

func TestProcessPVC(t *testing.T) {
	for _, test := range []struct {
		name         string
		claim        *corev1.PersistentVolumeClaim // nil: not in the cache
		cached, live *corev1.Pod
		listFails    bool
		refuse       error    // what the API answers to the write
		requests     []string // in their order
		write        []string // the finalizers that are written
		err          error
	}{
		{name: "gone from the cache"},
		{name: "held, and not being deleted", claim: claim(Finalizer)},
		{name: "not held: older than admission", claim: claim("foreign"), cached: pod(), requests: []string{"update"}, write: []string{"foreign", Finalizer}},
		{name: "being deleted, held by another alone", claim: leaving("foreign")},
		{name: "unused", claim: leaving("foreign", Finalizer, "other"), requests: []string{"list", "update"}, write: []string{"foreign", "other"}},

		// Who uses it.
		{name: "mounted", claim: leaving(Finalizer), cached: pod()},
		{name: "mounted by a pod that the cache has not yet", claim: leaving(Finalizer), live: pod(), requests: []string{"list"}},
		{name: "mounted by a pod that has ended", claim: leaving(Finalizer), cached: pod(ended)},
		{name: "mounted by a pod that only finalizers hold", claim: leaving(Finalizer), cached: pod(going(0))},
		{name: "named by a pod without a node", claim: leaving(Finalizer), cached: pod(unbound), live: pod(unbound), requests: []string{"list", "update"}},
		{name: "the pod mounts another", claim: leaving(Finalizer), cached: pod(other), live: pod(other), requests: []string{"list", "update"}},
		{name: "the name in another namespace", claim: leaving(Finalizer), cached: pod(abroad), live: pod(abroad), requests: []string{"list", "update"}},
		{name: "ephemeral", claim: ownedBy("1", leaving(Finalizer)), cached: pod(ephemeral, going(30))},
		{name: "ephemeral, and the pod is shut down", claim: ownedBy("1", leaving(Finalizer)), cached: pod(ephemeral, going(0)), live: pod(ephemeral, going(0)), requests: []string{"list", "update"}},
		{name: "ephemeral, of a pod before this of its name", claim: ownedBy("0", leaving(Finalizer)), cached: pod(ephemeral), live: pod(ephemeral), requests: []string{"list", "update"}},

		// What the API answers.
		{name: "the pods are not known: it stays", claim: leaving(Finalizer), listFails: true, requests: []string{"list"}, err: down},
		{name: "conflict: it is tried again", claim: leaving(Finalizer), refuse: conflict, requests: []string{"list", "update"}, err: conflict},
		{name: "gone from the API", claim: leaving(Finalizer), refuse: gone, requests: []string{"list", "update"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			if test.live != nil {
				_ = client.Tracker().Add(test.live)
			}
			client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
				return test.listFails, nil, down
			})
			var requests []string
			var written *corev1.PersistentVolumeClaim
			client.PrependReactor("update", "persistentvolumeclaims", func(action clienttesting.Action) (bool, runtime.Object, error) {
				written = action.(clienttesting.UpdateAction).GetObject().(*corev1.PersistentVolumeClaim)
				return true, written, test.refuse
			})
			factory := informers.NewSharedInformerFactory(client, 0)
			c := New(client, factory, reconcile.Options{})
			before := test.claim.DeepCopy()
			if test.claim != nil {
				_ = factory.Core().V1().PersistentVolumeClaims().Informer().GetIndexer().Add(test.claim)
			}
			if test.cached != nil {
				_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(test.cached)
			}

			result, err := c.processPVC(t.Context(), "ns/p-data")

			if result != reconcile.Done || !errors.Is(err, test.err) {
				t.Errorf("got %+v, error %v; want done, error %v", result, err, test.err)
			}
			for _, action := range client.Actions() {
				requests = append(requests, action.GetVerb())
			}
			if !slices.Equal(requests, test.requests) {
				t.Errorf("requests %q, want %q", requests, test.requests)
			}
			if written != nil && (!slices.Equal(written.Finalizers, test.write) || written.ResourceVersion != "7") {
				t.Errorf("wrote finalizers %q at version %q, want %q at the version that was read", written.Finalizers, written.ResourceVersion, test.write)
			}
			if !reflect.DeepEqual(test.claim, before) {
				t.Error("the cache's claim was changed")
			}
		})
	}
}

// Each event after which a claim may be free names it: nothing else would bring it back to processPVC.
func TestClaimsLetGo(t *testing.T) {
	one := []string{"ns/p-data"}
	for _, test := range []struct {
		name     string
		old, new *corev1.Pod
		want     []string
	}{
		{name: "a pod appears", new: pod()},
		{name: "a pod changes", old: pod(), new: pod(going(30))},
		{name: "deleted", old: pod(), want: one},
		{name: "deleted, its claim of an ephemeral volume", old: pod(ephemeral), want: one},
		{name: "shut down", old: pod(ephemeral, going(30)), new: pod(ephemeral, going(0)), want: one},
		{name: "replaced by another of the name", old: pod(), new: pod(replaced, other), want: one},
		{name: "deleted, and had no claim", old: pod(func(p *corev1.Pod) { p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{} })},
	} {
		var event reconcile.Event
		if test.old != nil {
			event.Old = test.old
		}
		if test.new != nil {
			event.New = test.new
		}
		if got := claimsLetGo(event); !slices.Equal(got, test.want) {
			t.Errorf("%s: claims %q, want %q", test.name, got, test.want)
		}
	}
}
