package vacprotection

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var (
	resource = storagev1.Resource("volumeattributesclasses")
	conflict = apierrors.NewConflict(resource, "gold", nil)
	gone     = apierrors.NewNotFound(resource, "gold")
)

func class(deleted bool, finalizers ...string) *storagev1.VolumeAttributesClass {
	c := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "gold", ResourceVersion: "7", Finalizers: finalizers}}
	if deleted {
		c.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)}
	}
	return c
}

func volume(name string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{VolumeAttributesClassName: &name}}
}

func claim(wanted, current, target string) *corev1.PersistentVolumeClaim {
	p := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}
	p.Spec.VolumeAttributesClassName, p.Status.CurrentVolumeAttributesClassName = ptr.To(wanted), ptr.To(current)
	p.Status.ModifyVolumeStatus = &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: target}
	return p
}

func TestProcessVAC(t *testing.T) {
	for _, test := range []struct {
		name   string
		class  *storagev1.VolumeAttributesClass // nil: not in the cache
		volume *corev1.PersistentVolume
		claim  *corev1.PersistentVolumeClaim
		refuse error      // what the API answers to the write
		writes [][]string // the finalizers that are written
		err    error
	}{
		{name: "gone from the cache"},
		{name: "held, and not being deleted", class: class(false, Finalizer)},
		{name: "not held: older than admission", class: class(false, "foreign"), writes: [][]string{{"foreign", Finalizer}}},
		{name: "being deleted, used by nobody", class: class(true, "foreign", Finalizer), volume: volume("silver"), claim: claim("silver", "", ""), writes: [][]string{{"foreign"}}},
		{name: "being deleted, of a volume", class: class(true, Finalizer), volume: volume("gold")},
		{name: "being deleted, asked for by a claim", class: class(true, Finalizer), claim: claim("gold", "silver", "")},
		{name: "being deleted, a claim has it still", class: class(true, Finalizer), claim: claim("silver", "gold", "silver")},
		{name: "being deleted, a claim is on its way to it", class: class(true, Finalizer), claim: claim("silver", "silver", "gold")},
		{name: "being deleted, held by another alone", class: class(true, "foreign")},
		{name: "conflict: it is tried again", class: class(true, Finalizer), refuse: conflict, writes: [][]string{{}}, err: conflict},
		{name: "gone from the API", class: class(true, Finalizer), refuse: gone, writes: [][]string{{}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			var written []*storagev1.VolumeAttributesClass
			client.PrependReactor("update", resource.Resource, func(action clienttesting.Action) (bool, runtime.Object, error) {
				update := action.(clienttesting.UpdateAction).GetObject().(*storagev1.VolumeAttributesClass)
				written = append(written, update)
				return true, update, test.refuse
			})
			factory := informers.NewSharedInformerFactory(client, 0)
			c := New(client, factory, reconcile.Options{})
			if test.class != nil {
				_ = factory.Storage().V1().VolumeAttributesClasses().Informer().GetIndexer().Add(test.class)
			}
			if test.volume != nil {
				_ = factory.Core().V1().PersistentVolumes().Informer().GetIndexer().Add(test.volume)
			}
			if test.claim != nil {
				_ = factory.Core().V1().PersistentVolumeClaims().Informer().GetIndexer().Add(test.claim)
			}

			result, err := c.processVAC(t.Context(), "gold")

			if result != reconcile.Done || apierrors.ReasonForError(err) != apierrors.ReasonForError(test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("got %+v, error %v; want done, error %v", result, err, test.err)
			}
			if len(written) != len(test.writes) {
				t.Fatalf("%d writes, want %d", len(written), len(test.writes))
			}
			for i, w := range written {
				// Otherwise a use since would go unseen: the version makes the API refuse.
				if !slices.Equal(w.Finalizers, test.writes[i]) || w.ResourceVersion != "7" {
					t.Errorf("written: finalizers %q of version %q, want %q of 7", w.Finalizers, w.ResourceVersion, test.writes[i])
				}
			}
		})
	}
}

// Whoever lets go of a class makes it looked at again.
func TestClassesLetGo(t *testing.T) {
	for _, test := range []struct {
		name  string
		event reconcile.Event
		want  []string
	}{
		{"a volume appears", reconcile.Event{New: volume("gold")}, nil},
		{"a volume goes", reconcile.Event{Old: volume("gold")}, []string{"gold"}},
		{"a claim goes", reconcile.Event{Old: claim("gold", "silver", "")}, []string{"gold", "silver"}},
		{"a claim asks for another and has the old one still", reconcile.Event{Old: claim("gold", "gold", ""), New: claim("silver", "gold", "silver")}, nil},
		{"a claim has the other", reconcile.Event{Old: claim("silver", "gold", "silver"), New: claim("silver", "silver", "")}, []string{"gold"}},
	} {
		if got := classesLetGo(test.event); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
