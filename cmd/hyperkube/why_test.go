package main

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Each state of a pod is explained by what holds it up, and by nothing else (issue 3).
func TestExplainPod(t *testing.T) {
	now := time.Unix(1000, 0)
	status := func(change func(*corev1.ContainerStatus)) []corev1.ContainerStatus {
		s := corev1.ContainerStatus{Name: "c", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
		change(&s)
		return []corev1.ContainerStatus{s}
	}
	for name, test := range map[string]struct {
		pod  corev1.Pod
		want []string
	}{
		"unschedulable": {corev1.Pod{Status: corev1.PodStatus{Phase: "Pending", Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available"}}}},
			[]string{"Pending, because", "Unschedulable: 0/1 nodes are available", "the scheduler: said so"}},
		"gated": {corev1.Pod{Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "example.com/quota"}}}},
			[]string{"scheduling gate example.com/quota"}},
		"image trouble": {corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{ContainerStatuses: status(func(s *corev1.ContainerStatus) {
			s.Ready, s.State = false, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such host"}}
		})}}, []string{"not Ready, because", "container c waits: ImagePullBackOff no such host"}},
		"probe": {corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{ContainerStatuses: status(func(s *corev1.ContainerStatus) { s.Ready = false })}},
			[]string{"its readiness (or startup) probe has not succeeded"}},
		"out of memory": {corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{ContainerStatuses: status(func(s *corev1.ContainerStatus) {
			s.RestartCount = 2
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
		})}}, []string{"restarted, because", "container c, 2 times; last: exit code 137: the kernel killed it"}},
		"finalizer": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: ptr.To(metav1.NewTime(now.Add(-30 * time.Second))),
			DeletionGracePeriodSeconds: ptr.To(int64(30)), Finalizers: []string{"example.com/f"}}, Spec: corev1.PodSpec{NodeName: "n"}},
			[]string{"Terminating, because", "deleted 1m0s ago, with 30 s of grace", "finalizer example.com/f"}},
		"who changed it": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: "kubectl", Operation: "Update", Time: ptr.To(metav1.NewTime(now.Add(-time.Minute)))},
			{Manager: "kubelet", Operation: "Update", Subresource: "status", Time: ptr.To(metav1.NewTime(now.Add(-time.Second)))}}}, Spec: corev1.PodSpec{NodeName: "n"}},
			[]string{"kubelet: status (Update), 1s ago\n  kubectl: spec and metadata (Update), 1m0s ago"}},
	} {
		var out strings.Builder
		printReasons(&out, explainPod(&test.pod, "said so", now))
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, out.String())
			}
		}
	}
	healthy := corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{Phase: "Running", ContainerStatuses: status(func(*corev1.ContainerStatus) {})}}
	if reasons := explainPod(&healthy, "", now); len(reasons) != 1 {
		t.Errorf("a healthy pod needs no explanation: %+v", reasons)
	}
}
