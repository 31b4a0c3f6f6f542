package controllers

import (
	"context"
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

// endPods ends each pod at once: with its image's name as phase, "Succeeded" or "Failed".
// Pods of other images run; those that are deleted go.
func endPods(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	watcher, err := client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range watcher.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type == watch.Deleted || pod.Status.Phase != corev1.PodPending || pod.DeletionTimestamp != nil {
				continue
			}
			pod.Status.Phase = corev1.PodRunning
			if image := corev1.PodPhase(pod.Spec.Containers[0].Image); image == corev1.PodSucceeded || image == corev1.PodFailed {
				pod.Status.Phase = image
			}
			if _, err := client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil &&
				ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				t.Errorf("ending pod %s: %v", pod.Name, err)
			}
		}
	}()
	t.Cleanup(func() { cancel(); watcher.Stop(); <-done })
}

func jobSpec(image string, completions, parallelism int32) batchv1.JobSpec {
	return batchv1.JobSpec{
		Completions: &completions, Parallelism: &parallelism,
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: image}}}},
	}
}

func jobIs(ctx context.Context, client kubernetes.Interface, name string, want func(*batchv1.Job) bool) func() error {
	return func() error {
		job, err := client.BatchV1().Jobs("default").Get(ctx, name, metav1.GetOptions{})
		if err == nil && !want(job) {
			err = fmt.Errorf("status %+v", job.Status)
		}
		return err
	}
}

func hasCondition(job *batchv1.Job, kind batchv1.JobConditionType, reason string) bool {
	for _, c := range job.Status.Conditions {
		if c.Type == kind && c.Status == corev1.ConditionTrue && c.Reason == reason {
			return true
		}
	}
	return false
}

// Jobs end as they should, count each pod once, and leave no finalizer behind.
func TestJobs(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	endPods(t, cluster.Client)
	ctx, client := t.Context(), cluster.Client
	create := func(name string, spec batchv1.JobSpec) {
		t.Helper()
		eventually(t, "create "+name, func() error {
			_, err := client.BatchV1().Jobs("default").Create(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
			return err
		})
	}
	create("plain", jobSpec("Succeeded", 5, 2))
	indexed := jobSpec("Succeeded", 4, 3)
	indexed.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	create("indexed", indexed)
	failing := jobSpec("Failed", 1, 1)
	failing.BackoffLimit = ptr.To[int32](0)
	create("failing", failing)
	late := jobSpec("running", 2, 2)
	late.ActiveDeadlineSeconds = ptr.To[int64](1)
	create("late", late)
	short := jobSpec("Succeeded", 1, 1)
	short.TTLSecondsAfterFinished = ptr.To[int32](0)
	create("short", short)
	suspended := jobSpec("Succeeded", 1, 1)
	suspended.Suspend = ptr.To(true)
	create("suspended", suspended)

	eventually(t, "plain", jobIs(ctx, client, "plain", func(j *batchv1.Job) bool {
		return hasCondition(j, batchv1.JobComplete, "CompletionsReached") && hasCondition(j, batchv1.JobSuccessCriteriaMet, "CompletionsReached") &&
			j.Status.Succeeded == 5 && j.Status.Active == 0 && j.Status.CompletionTime != nil
	}))
	eventually(t, "indexed", jobIs(ctx, client, "indexed", func(j *batchv1.Job) bool {
		return hasCondition(j, batchv1.JobComplete, "CompletionsReached") && j.Status.CompletedIndexes == "0-3" && j.Status.Succeeded == 4
	}))
	eventually(t, "failing", jobIs(ctx, client, "failing", func(j *batchv1.Job) bool {
		return hasCondition(j, batchv1.JobFailed, "BackoffLimitExceeded") && j.Status.Failed == 1
	}))
	eventually(t, "late", jobIs(ctx, client, "late", func(j *batchv1.Job) bool {
		return hasCondition(j, batchv1.JobFailed, "DeadlineExceeded") && j.Status.Failed == 2 && j.Status.Active == 0
	}))
	eventually(t, "short is gone after its ttl", func() error {
		_, err := client.BatchV1().Jobs("default").Get(ctx, "short", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there: %v", err)
	})
	eventually(t, "suspended", jobIs(ctx, client, "suspended", func(j *batchv1.Job) bool {
		return hasCondition(j, batchv1.JobSuspended, "JobSuspended") && j.Status.StartTime == nil
	}))
	if _, err := client.BatchV1().Jobs("default").Patch(ctx, "suspended", "application/merge-patch+json", []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "resumed", jobIs(ctx, client, "suspended", func(j *batchv1.Job) bool { return hasCondition(j, batchv1.JobComplete, "CompletionsReached") }))
	eventually(t, "no finalizer is left", func() error {
		pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if len(pod.Finalizers) > 0 {
				return fmt.Errorf("%s has %v", pod.Name, pod.Finalizers)
			}
		}
		return nil
	})
}

// A CronJob's Job comes at its time, and is listed as active until it has ended.
func TestCronJob(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	endPods(t, cluster.Client)
	ctx, client := t.Context(), cluster.Client
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "tick"}, Spec: batchv1.CronJobSpec{
		Schedule: "@every 1s", SuccessfulJobsHistoryLimit: ptr.To[int32](1), JobTemplate: batchv1.JobTemplateSpec{Spec: jobSpec("Succeeded", 1, 1)}}}
	eventually(t, "create", func() error {
		_, err := client.BatchV1().CronJobs("default").Create(ctx, cron, metav1.CreateOptions{})
		return err
	})
	eventually(t, "success", func() error {
		cj, err := client.BatchV1().CronJobs("default").Get(ctx, "tick", metav1.GetOptions{})
		if err == nil && (cj.Status.LastSuccessfulTime == nil || cj.Status.LastScheduleTime == nil) {
			err = fmt.Errorf("status %+v", cj.Status)
		}
		return err
	})
}
