package ephemeral

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// podWith is a pod ns/p whose volumes of these names are ephemeral, beside one that is not.
func podWith(volumes ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "plain", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	for _, name := range volumes {
		template := &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"volume": name}, Annotations: map[string]string{"note": name}},
			Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("fast")},
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: template},
		}})
	}
	return pod
}

// claimOf is a claim in ns that the pod of that UID controls; "": nobody does.
func claimOf(name string, owner types.UID) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	if owner != "" {
		claim.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: owner, Controller: ptr.To(true)}}
	}
	return claim
}

func TestSyncHandler(t *testing.T) {
	ending := podWith("a")
	ending.DeletionTimestamp = &metav1.Time{}
	exists := apierrors.NewAlreadyExists(corev1.Resource("persistentvolumeclaims"), "p-a")
	for _, test := range []struct {
		name    string
		pod     *corev1.Pod
		claims  []*corev1.PersistentVolumeClaim
		apiErr  error
		creates []string // those asked for, whatever the API answered
		wantErr string   // part of the error and of the event that tells the pod's owner; "": neither
	}{
		{name: "the pod is gone"},
		{name: "the pod is being deleted", pod: ending},
		{name: "no ephemeral volume", pod: podWith()},
		{name: "each volume gets its claim", pod: podWith("a", "b"), creates: []string{"p-a", "p-b"}},
		{name: "only the one that is missing", pod: podWith("a", "b"), claims: []*corev1.PersistentVolumeClaim{claimOf("p-a", "p")}, creates: []string{"p-b"}},
		{name: "all there", pod: podWith("a"), claims: []*corev1.PersistentVolumeClaim{claimOf("p-a", "p")}},
		{name: "a foreign claim of that name", pod: podWith("a"), claims: []*corev1.PersistentVolumeClaim{claimOf("p-a", "")}, wantErr: "pod is not owner"},
		{name: "the claim of an earlier pod of that name", pod: podWith("a"), claims: []*corev1.PersistentVolumeClaim{claimOf("p-a", "earlier")}, wantErr: "pod is not owner"},
		{name: "the cache is behind: the claim is there", pod: podWith("a", "b"), apiErr: exists, creates: []string{"p-a"}, wantErr: "create PVC p-a"},
		{name: "the API refuses", pod: podWith("a"), apiErr: errors.New("exceeded quota"), creates: []string{"p-a"}, wantErr: "exceeded quota"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, recorder := fake.NewClientset(), record.NewFakeRecorder(10)
			if test.apiErr != nil {
				client.PrependReactor("create", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.apiErr })
			}
			factory := informers.NewSharedInformerFactory(client, 0)
			ec := New(client, factory, recorder, reconcile.Options{})
			if test.pod != nil {
				_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(test.pod)
			}
			for _, claim := range test.claims {
				_ = factory.Core().V1().PersistentVolumeClaims().Informer().GetIndexer().Add(claim)
			}

			result, err := ec.syncHandler(t.Context(), "ns/p")
			if result != reconcile.Done {
				t.Errorf("result %+v: a claim that goes, or an error, brings the pod back, and no timer", result)
			}
			var creates []string
			for _, action := range client.Actions() {
				create, ok := action.(clienttesting.CreateAction)
				if !ok {
					t.Errorf("%s %s: only claims are created", action.GetVerb(), action.GetResource().Resource)
					continue
				}
				creates = append(creates, checkClaim(t, create))
			}
			if !slices.Equal(creates, test.creates) {
				t.Errorf("creates %v, want %v", creates, test.creates)
			}
			checkFailure(t, err, recorder, test.wantErr, test.apiErr)
		})
	}
}

// checkClaim holds a created claim to the template of its volume and to the pod that owns it, and returns its name.
func checkClaim(t *testing.T, create clienttesting.CreateAction) string {
	t.Helper()
	claim := create.GetObject().(*corev1.PersistentVolumeClaim)
	volume := strings.TrimPrefix(claim.Name, "p-")
	if create.GetNamespace() != "ns" || claim.Labels["volume"] != volume || claim.Annotations["note"] != volume || *claim.Spec.StorageClassName != "fast" {
		t.Errorf("in %s: %+v; want what the template of %s says", create.GetNamespace(), claim, volume)
	}
	if owner := metav1.GetControllerOf(claim); owner == nil || owner.UID != "p" || owner.Kind != "Pod" || owner.APIVersion != "v1" {
		t.Errorf("%s is controlled by %v; want the pod, with which it goes", claim.Name, owner)
	}
	return claim.Name
}

// checkFailure wants the error and one event of it, or neither.
func checkFailure(t *testing.T, err error, recorder *record.FakeRecorder, want string, cause error) {
	t.Helper()
	event := ""
	if len(recorder.Events) > 0 {
		event = <-recorder.Events
	}
	if want == "" {
		if err != nil || event != "" {
			t.Errorf("error %v, event %q; want none", err, event)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) || cause != nil && !errors.Is(err, cause) {
		t.Errorf("error %v, want one of %q: it is tried again", err, want)
	}
	if !strings.HasPrefix(event, "Warning FailedBinding ") || !strings.Contains(event, want) || len(recorder.Events) > 0 {
		t.Errorf("event %q and %d more, want one warning of %q", event, len(recorder.Events), want)
	}
}

// A pod is looked at when it comes with such a volume, and when one of its claims goes.
func TestEvents(t *testing.T) {
	with, without, claim := podWith("a"), podWith(), claimOf("p-a", "p")
	for _, test := range []struct {
		name  string
		keys  reconcile.Keys
		event reconcile.Event
		want  []string
	}{
		{"a pod with such a volume comes", newPods, reconcile.Event{New: with}, []string{"ns/p"}},
		{"a pod without one comes", newPods, reconcile.Event{New: without}, nil},
		{"a pod changes", newPods, reconcile.Event{Old: with, New: with}, nil},
		{"a pod's claim goes", podsOfDeleted, reconcile.Event{Old: claim}, []string{"ns/p"}},
		{"a pod's claim changes", podsOfDeleted, reconcile.Event{Old: claim, New: claim}, nil},
		{"nobody's claim goes", podsOfDeleted, reconcile.Event{Old: claimOf("p-a", "")}, nil},
	} {
		if got := test.keys(test.event); !slices.Equal(got, test.want) {
			t.Errorf("%s: look at %v, want %v", test.name, got, test.want)
		}
	}
}
