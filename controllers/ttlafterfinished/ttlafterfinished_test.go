package ttlafterfinished

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var now = time.Unix(100000, 0)

func TestProcessJob(t *testing.T) {
	for _, test := range []struct {
		name        string
		ttl, longer *int32 // longer: what the API has, and the cache has not yet
		ended       time.Duration
		gone        bool
		after       time.Duration
	}{
		{name: "no ttl", ended: time.Hour},
		{name: "not ended", ttl: ptr.To[int32](1)},
		{name: "not yet", ttl: ptr.To[int32](60), ended: 10 * time.Second, after: 50 * time.Second},
		{name: "now", ttl: ptr.To[int32](60), ended: time.Minute, gone: true},
		{name: "made longer meanwhile", ttl: ptr.To[int32](60), longer: ptr.To[int32](90), ended: time.Minute, after: 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x", UID: "x"}, Spec: batchv1.JobSpec{TTLSecondsAfterFinished: test.ttl}}
			if test.ended > 0 {
				job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-test.ended))}}
			}
			stored := job.DeepCopy()
			if test.longer != nil {
				stored.Spec.TTLSecondsAfterFinished = test.longer
			}
			client := fake.NewClientset(stored)
			factory := informers.NewSharedInformerFactory(client, 0)
			tc := New(client, factory, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
			_ = factory.Batch().V1().Jobs().Informer().GetIndexer().Add(job)
			result, err := tc.processJob(t.Context(), "ns/x")
			if err != nil || result.After != test.after {
				t.Errorf("comes back after %v, error %v; want %v", result.After, err, test.after)
			}
			_, err = client.BatchV1().Jobs("ns").Get(t.Context(), "x", metav1.GetOptions{})
			if apierrors.IsNotFound(err) != test.gone {
				t.Errorf("gone %v, want %v", !test.gone, test.gone)
			}
		})
	}
}
