package scheduler

import (
	"context"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	schedulingv1 "k8s.io/api/scheduling/v1"

	"hyperkube/test/integration"
)

// An important pod gets the place of a lesser one: the victim is told why, the place is
// promised, and when the victim has gone (here nobody runs it: the test stands in for the
// kubelet), the pod is bound, though another has been waiting for longer.
func TestPreemptionMakesRoom(t *testing.T) {
	cluster := integration.Start(t)
	createNode(t, cluster, "n", "1")
	ns := namespace(t, cluster, "test")
	start(t, cluster)
	pods := cluster.Client.CoreV1().Pods(ns)
	if _, err := cluster.Client.SchedulingV1().PriorityClasses().Create(t.Context(), &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	createPod(t, cluster, ns, "low", "800m")
	bound := func(name string) func(context.Context) (bool, error) {
		return func(ctx context.Context) (bool, error) {
			pod, err := pods.Get(ctx, name, metav1.GetOptions{})
			return err == nil && pod.Spec.NodeName == "n", err
		}
	}
	eventually(t, "the first pod is bound", bound("low"))
	createPod(t, cluster, ns, "waiting", "800m")
	eventually(t, "the second pod does not fit", func(ctx context.Context) (bool, error) {
		pod, err := pods.Get(ctx, "waiting", metav1.GetOptions{})
		return err == nil && len(pod.Status.Conditions) > 0, err
	})
	high := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Spec: v1.PodSpec{PriorityClassName: "high", Containers: []v1.Container{{Name: "c", Image: "web",
		Resources: v1.ResourceRequirements{Requests: v1.ResourceList{"cpu": resource.MustParse("800m")}}}}}}
	if _, err := pods.Create(t.Context(), high, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the victim is going, and the place is promised", func(ctx context.Context) (bool, error) {
		victim, err := pods.Get(ctx, "low", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		told := slices.ContainsFunc(victim.Status.Conditions, func(c v1.PodCondition) bool {
			return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonPreemptionByScheduler
		})
		preemptor, err := pods.Get(ctx, "high", metav1.GetOptions{})
		return err == nil && told && victim.DeletionTimestamp != nil && preemptor.Status.NominatedNodeName == "n", err
	})
	now := int64(0)
	if err := pods.Delete(t.Context(), "low", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the important pod is bound", bound("high"))
	if waiting, err := pods.Get(t.Context(), "waiting", metav1.GetOptions{}); err != nil || waiting.Spec.NodeName != "" {
		t.Errorf("waiting: bound to %q, %v", waiting.Spec.NodeName, err)
	}
}
