package pvprotection

import (
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var (
	resource = corev1.Resource("persistentvolumes")
	conflict = apierrors.NewConflict(resource, "v", nil)
	gone     = apierrors.NewNotFound(resource, "v")
)

func volume(phase corev1.PersistentVolumePhase, finalizers ...string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "v", ResourceVersion: "7", Finalizers: finalizers},
		Status:     corev1.PersistentVolumeStatus{Phase: phase},
	}
}

func deleted(v *corev1.PersistentVolume) *corev1.PersistentVolume {
	v.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)}
	return v
}

func TestProcessPV(t *testing.T) {
	for _, test := range []struct {
		name   string
		volume *corev1.PersistentVolume // nil: not in the cache
		refuse error                    // what the API answers to the write
		write  []string                 // the finalizers that are written
		writes int
		err    error
	}{
		{name: "gone from the cache"},
		{name: "held, and not being deleted", volume: volume(corev1.VolumeAvailable, Finalizer)},
		{name: "bound and not being deleted", volume: volume(corev1.VolumeBound, Finalizer)},
		{name: "not held: older than admission", volume: volume(corev1.VolumeBound, "foreign"), write: []string{"foreign", Finalizer}, writes: 1},
		{name: "being deleted while bound", volume: deleted(volume(corev1.VolumeBound, Finalizer))},
		{name: "being deleted and released", volume: deleted(volume(corev1.VolumeReleased, "foreign", Finalizer, "other")), write: []string{"foreign", "other"}, writes: 1},
		{name: "being deleted before it was bound", volume: deleted(volume(corev1.VolumePending, Finalizer)), writes: 1},
		{name: "being deleted, held by another alone", volume: deleted(volume(corev1.VolumeReleased, "foreign"))},
		{name: "conflict: it is tried again", volume: deleted(volume(corev1.VolumeReleased, Finalizer)), refuse: conflict, writes: 1, err: conflict},
		{name: "gone from the API", volume: deleted(volume(corev1.VolumeReleased, Finalizer)), refuse: gone, writes: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			var written []*corev1.PersistentVolume
			client.PrependReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
				update, ok := action.(clienttesting.UpdateAction)
				if !ok || update.GetVerb() != "update" || update.GetSubresource() != "" || update.GetResource().Resource != resource.Resource {
					t.Errorf("an unexpected request: %s %s", action.GetVerb(), action.GetResource())
					return true, nil, nil
				}
				written = append(written, update.GetObject().(*corev1.PersistentVolume))
				return true, update.GetObject(), test.refuse
			})
			factory := informers.NewSharedInformerFactory(client, 0)
			c := New(client, factory, reconcile.Options{})
			before := test.volume.DeepCopy()
			if test.volume != nil {
				_ = factory.Core().V1().PersistentVolumes().Informer().GetIndexer().Add(test.volume)
			}

			result, err := c.processPV(t.Context(), "v")

			if result != reconcile.Done || apierrors.ReasonForError(err) != apierrors.ReasonForError(test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("got %+v, error %v; want done, error %v", result, err, test.err)
			}
			if len(written) != test.writes {
				t.Fatalf("%d writes, want %d", len(written), test.writes)
			}
			for _, w := range written {
				if test.write != nil && !slices.Equal(w.Finalizers, test.write) || slices.Contains(w.Finalizers, Finalizer) == (w.DeletionTimestamp != nil) {
					t.Errorf("finalizers %q, want %q", w.Finalizers, test.write)
				}
				// Otherwise a binding since would go unseen: the version makes the API refuse.
				if w.ResourceVersion != "7" {
					t.Errorf("written without the version that was read: %q", w.ResourceVersion)
				}
			}
			if !reflect.DeepEqual(test.volume, before) {
				t.Error("the cache's volume was changed")
			}
		})
	}
}
