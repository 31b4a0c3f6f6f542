// Package ttlafterfinished deletes Jobs some time after they ended, as
// spec.ttlSecondsAfterFinished says; their pods go with them.
//
// # In Kubernetes
//
// pkg/controller/ttlafterfinished (Controller.processJob). Nothing is left out but a
// metric. Without reading the Job afresh before the deletion, one whose ttl was just
// made longer would go all the same.
package ttlafterfinished

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Controller is the loop over Jobs.
type Controller struct {
	*reconcile.Loop
	client  kubernetes.Interface
	jLister batchlisters.JobLister
	clock   clock.PassiveClock
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Controller {
	options = options.WithDefaults()
	jobs := factory.Batch().V1().Jobs()
	tc := &Controller{client: client, jLister: jobs.Lister(), clock: options.Clock}
	tc.Loop = reconcile.New("ttlafterfinished", tc.processJob, options)
	tc.Watch(jobs.Informer(), reconcile.Self)
	return tc
}

// processJob deletes the Job when its time has come, else comes back then.
func (tc *Controller) processJob(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	job, err := tc.jLister.Jobs(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if left, due := tc.timeLeft(job); !due || left > 0 {
		return reconcile.Result{After: left}, nil
	}
	fresh, err := tc.client.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if left, due := tc.timeLeft(fresh); !due || left > 0 {
		return reconcile.Result{After: left}, nil
	}
	err = tc.client.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationForeground), Preconditions: &metav1.Preconditions{UID: &fresh.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Done, fmt.Errorf("deleting job %s: %w", key, err)
	}
	return reconcile.Done, nil
}

// timeLeft is how long the Job stays; due is false while it has not ended, and for
// ever without a ttl.
func (tc *Controller) timeLeft(job *batchv1.Job) (left time.Duration, due bool) {
	if job.DeletionTimestamp != nil || job.Spec.TTLSecondsAfterFinished == nil {
		return 0, false
	}
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			expiry := c.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)
			return max(0, expiry.Sub(tc.clock.Now())), true
		}
	}
	return 0, false
}
