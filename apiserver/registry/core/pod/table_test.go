package pod

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func waiting(reason string) v1.ContainerState {
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason}}
}

func ended(code int32, reason string) v1.ContainerState {
	return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: code, Reason: reason}}
}

var running = v1.ContainerState{Running: &v1.ContainerStateRunning{}}

// What `kubectl get pods` says of a pod in each of its states (R40).
func TestCells(t *testing.T) {
	ago := metav1.NewTime(time.Now().Add(-3*time.Minute - time.Second))
	restarted := v1.ContainerState{Terminated: &v1.ContainerStateTerminated{FinishedAt: ago}}
	for name, test := range map[string]struct {
		spec                    v1.PodSpec
		status                  v1.PodStatus
		deleted                 bool
		ready, reason, restarts string
	}{
		"pending":  {status: v1.PodStatus{Phase: v1.PodPending}, ready: "0/1", reason: "Pending", restarts: "0"},
		"gated":    {status: v1.PodStatus{Phase: v1.PodPending, Conditions: []v1.PodCondition{{Type: v1.PodScheduled, Reason: "SchedulingGated"}}}, ready: "0/1", reason: "SchedulingGated", restarts: "0"},
		"creating": {status: v1.PodStatus{Phase: v1.PodPending, ContainerStatuses: []v1.ContainerStatus{{State: waiting("ContainerCreating")}}}, ready: "0/1", reason: "ContainerCreating", restarts: "0"},
		"running":  {status: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{{State: running, Ready: true}}}, ready: "1/1", reason: "Running", restarts: "0"},
		"restarted": {status: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{{State: running, Ready: true, RestartCount: 2, LastTerminationState: restarted}}},
			ready: "1/1", reason: "Running", restarts: "2 (3m1s ago)"},
		"crashing":       {status: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{{State: waiting("CrashLoopBackOff"), RestartCount: 4}}}, ready: "0/1", reason: "CrashLoopBackOff", restarts: "4"},
		"completed":      {status: v1.PodStatus{Phase: v1.PodSucceeded, ContainerStatuses: []v1.ContainerStatus{{State: ended(0, "Completed")}}}, ready: "0/1", reason: "Completed", restarts: "0"},
		"failed":         {status: v1.PodStatus{Phase: v1.PodFailed, ContainerStatuses: []v1.ContainerStatus{{State: ended(3, "")}}}, ready: "0/1", reason: "ExitCode:3", restarts: "0"},
		"evicted":        {status: v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted"}, ready: "0/1", reason: "Evicted", restarts: "0"},
		"deleted":        {status: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{{State: running, Ready: true}}}, deleted: true, ready: "1/1", reason: "Terminating", restarts: "0"},
		"lost":           {status: v1.PodStatus{Phase: v1.PodRunning, Reason: "NodeLost"}, deleted: true, ready: "0/1", reason: "Unknown", restarts: "0"},
		"deleted, ended": {status: v1.PodStatus{Phase: v1.PodSucceeded}, deleted: true, ready: "0/1", reason: "Succeeded", restarts: "0"},
		"init": {spec: v1.PodSpec{InitContainers: []v1.Container{{Name: "a"}, {Name: "b"}}},
			status: v1.PodStatus{Phase: v1.PodPending, InitContainerStatuses: []v1.ContainerStatus{{Name: "a", State: ended(0, "Completed")}, {Name: "b", State: running}}},
			ready:  "0/1", reason: "Init:1/2", restarts: "0"},
		"init fails": {spec: v1.PodSpec{InitContainers: []v1.Container{{Name: "a"}}},
			status: v1.PodStatus{Phase: v1.PodPending, InitContainerStatuses: []v1.ContainerStatus{{Name: "a", State: ended(1, "Error"), RestartCount: 1}}},
			ready:  "0/1", reason: "Init:Error", restarts: "1"},
		"init backs off": {spec: v1.PodSpec{InitContainers: []v1.Container{{Name: "a"}}},
			status: v1.PodStatus{Phase: v1.PodPending, InitContainerStatuses: []v1.ContainerStatus{{Name: "a", State: waiting("CrashLoopBackOff")}}},
			ready:  "0/1", reason: "Init:CrashLoopBackOff", restarts: "0"},
		"sidecar": {spec: v1.PodSpec{InitContainers: []v1.Container{{Name: "a", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)}}},
			status: v1.PodStatus{Phase: v1.PodRunning,
				InitContainerStatuses: []v1.ContainerStatus{{Name: "a", State: running, Ready: true, Started: ptr.To(true), RestartCount: 1}},
				ContainerStatuses:     []v1.ContainerStatus{{State: running, Ready: true, RestartCount: 1}}},
			ready: "2/2", reason: "Running", restarts: "2"},
		"one of two ended": {spec: v1.PodSpec{Containers: []v1.Container{{}, {}}},
			status: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{{State: ended(0, "Completed")}, {State: running, Ready: true}}},
			ready:  "1/2", reason: "NotReady", restarts: "0"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: test.spec, Status: test.status}
			if pod.Spec.Containers == nil {
				pod.Spec.Containers = []v1.Container{{}}
			}
			if test.deleted {
				pod.DeletionTimestamp = &ago
			}
			got := cells(pod)
			if got[1] != test.ready || got[2] != test.reason || got[3] != test.restarts {
				t.Errorf("READY %v STATUS %v RESTARTS %v, want %v %v %v", got[1], got[2], got[3], test.ready, test.reason, test.restarts)
			}
			if len(got) != len(table.Columns) {
				t.Errorf("%d cells in %d columns", len(got), len(table.Columns))
			}
		})
	}
}

func TestGracePeriod(t *testing.T) {
	for name, test := range map[string]struct {
		node    string
		phase   v1.PodPhase
		options metav1.DeleteOptions
		want    int64
	}{
		"not scheduled": {"", v1.PodPending, metav1.DeleteOptions{}, 0},
		"its own":       {"n", v1.PodRunning, metav1.DeleteOptions{}, 30},
		"asked for":     {"n", v1.PodRunning, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](5)}, 5},
		"negative":      {"n", v1.PodRunning, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](-1)}, 1},
		"ended":         {"n", v1.PodFailed, metav1.DeleteOptions{}, 0},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{NodeName: test.node, TerminationGracePeriodSeconds: ptr.To[int64](30)}, Status: v1.PodStatus{Phase: test.phase}}
		if got := gracePeriod(pod, &test.options); got != test.want {
			t.Errorf("%s: %d s, want %d s", name, got, test.want)
		}
	}
}
