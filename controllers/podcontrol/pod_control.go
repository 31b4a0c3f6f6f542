package podcontrol

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
)

// Reasons of the events that a controller's pods cause.
const (
	FailedCreatePodReason     = "FailedCreate"
	SuccessfulCreatePodReason = "SuccessfulCreate"
	FailedDeletePodReason     = "FailedDelete"
	SuccessfulDeletePodReason = "SuccessfulDelete"
)

// Owner is an object whose pods are made: it has metadata, and events can name it.
type Owner interface {
	runtime.Object
	metav1.Object
}

// PodControl creates and deletes pods on behalf of an owner, and says so in
// events about the owner.
type PodControl struct {
	Client   kubernetes.Interface
	Recorder record.EventRecorder
}

// CreatePods creates one pod from the template, owned by owner. Its name begins
// with the owner's, unless name gives it whole.
func (c PodControl) CreatePods(ctx context.Context, owner Owner, template *corev1.PodTemplateSpec, ref *metav1.OwnerReference, name string) error {
	pod := GetPodFromTemplate(template, owner, ref)
	if name != "" {
		pod.GenerateName, pod.Name = "", name
	}
	return c.CreatePod(ctx, owner, pod)
}

// CreatePod creates a pod that the controller made itself from its template.
func (c PodControl) CreatePod(ctx context.Context, owner Owner, pod *corev1.Pod) error {
	created, err := c.Client.CoreV1().Pods(owner.GetNamespace()).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		// A namespace that is going takes no new pods; to say so for each would only
		// fill it with events.
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.Recorder.Eventf(owner, corev1.EventTypeWarning, FailedCreatePodReason, "Error creating: %v", err)
		}
		return err
	}
	c.Recorder.Eventf(owner, corev1.EventTypeNormal, SuccessfulCreatePodReason, "Created pod: %v", created.Name)
	return nil
}

// DeletePod deletes the pod. One that is gone already is no error but is
// returned as NotFound, so that expectations can be taken back.
func (c PodControl) DeletePod(ctx context.Context, namespace, name string, owner Owner) error {
	err := c.Client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) {
			return err
		}
		c.Recorder.Eventf(owner, corev1.EventTypeWarning, FailedDeletePodReason, "Error deleting: %v", err)
		return fmt.Errorf("unable to delete pod %s/%s: %w", namespace, name, err)
	}
	c.Recorder.Eventf(owner, corev1.EventTypeNormal, SuccessfulDeletePodReason, "Deleted pod: %v", name)
	return nil
}

// PatchPod sends a strategic merge patch: the form ControllerRefManager needs.
func (c PodControl) PatchPod(ctx context.Context, pod *corev1.Pod, patch []byte) error {
	_, err := c.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// GetPodFromTemplate is the pod that the template describes, owned through ref
// (nil: owned by none).
func GetPodFromTemplate(template *corev1.PodTemplateSpec, owner metav1.Object, ref *metav1.OwnerReference) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:    owner.GetNamespace(),
			Labels:       maps.Clone(template.Labels),
			Annotations:  maps.Clone(template.Annotations),
			Finalizers:   slices.Clone(template.Finalizers),
			GenerateName: generatedNamePrefix(owner.GetName()),
		},
		Spec: *template.Spec.DeepCopy(),
	}
	if ref != nil {
		pod.OwnerReferences = []metav1.OwnerReference{*ref}
	}
	return pod
}

// generatedNamePrefix ends in a dash where the result is still a prefix of a
// valid name. The apiserver cuts long ones and appends five characters.
func generatedNamePrefix(owner string) string {
	if len(validation.IsDNS1123Subdomain(owner+"-x")) == 0 {
		return owner + "-"
	}
	return owner
}

// SlowStartInitialBatchSize is the size of slowStartBatch's first step.
const SlowStartInitialBatchSize = 1

// SlowStartBatch calls fn count times, in steps that double from initial as long
// as no call fails, and returns how many succeeded and the first error of the
// last step. Otherwise a ReplicaSet of 500 that quota forbids would be refused
// 500 times, with as many events, instead of once.
func SlowStartBatch(count, initial int, fn func() error) (int, error) {
	remaining, successes := count, 0
	for size := min(remaining, initial); size > 0; size = min(2*size, remaining) {
		errs := make(chan error, size)
		var step sync.WaitGroup
		for range size {
			step.Go(func() {
				if err := fn(); err != nil {
					errs <- err
				}
			})
		}
		step.Wait()
		successes += size - len(errs)
		if len(errs) > 0 {
			return successes, <-errs
		}
		remaining -= size
	}
	return successes, nil
}
