package status

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	testingclock "k8s.io/utils/clock/testing"

	kubecontainer "hyperkube/kubelet/container"
)

func container(name, state string, exit int, at int64) *kubecontainer.Status {
	return &kubecontainer.Status{ID: kubecontainer.ContainerID{Type: "t", ID: name}, Name: name, State: kubecontainer.State(state), ExitCode: exit,
		CreatedAt: time.Unix(at, 0), StartedAt: time.Unix(at, 0), FinishedAt: time.Unix(at+1, 0)}
}

func none(string) (error, string) { return nil, "" }

// The phase of a pod, and the first words about its first container.
func TestGenerateAPIPodStatus(t *testing.T) {
	always, onFailure, never := v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever
	sidecar := v1.ContainerRestartPolicyAlways
	crash := func(string) (error, string) { return kubecontainer.ErrCrashLoopBackOff, "back-off 10s" }
	pull := func(string) (error, string) { return kubecontainer.ErrImagePull, "no such image" }
	cases := []struct {
		name     string
		policy   v1.RestartPolicy
		init     []v1.Container
		old      v1.PodStatus
		runtime  []*kubecontainer.Status
		reason   func(string) (error, string)
		terminal bool
		phase    v1.PodPhase
		state    string // of container main: waiting's or terminated's reason, or "running"
	}{
		{name: "nothing yet", policy: always, phase: v1.PodPending, state: "ContainerCreating"},
		{name: "nothing yet, with init containers", policy: always, init: []v1.Container{{Name: "i"}}, phase: v1.PodPending, state: "PodInitializing"},
		{name: "runs", policy: always, runtime: []*kubecontainer.Status{container("main", "running", 0, 5)}, phase: v1.PodRunning, state: "running"},
		{name: "the image cannot be had", policy: always, reason: pull, phase: v1.PodPending, state: "ErrImagePull"},
		{name: "succeeded", policy: never, runtime: []*kubecontainer.Status{container("main", "exited", 0, 5)}, phase: v1.PodSucceeded, state: "Completed"},
		{name: "failed", policy: never, runtime: []*kubecontainer.Status{container("main", "exited", 2, 5)}, phase: v1.PodFailed, state: "Error"},
		{name: "failed, will be tried again", policy: onFailure, runtime: []*kubecontainer.Status{container("main", "exited", 2, 5)}, phase: v1.PodRunning, state: "Error"},
		{name: "backs off", policy: always, reason: crash, runtime: []*kubecontainer.Status{container("main", "exited", 2, 5)}, phase: v1.PodRunning, state: "CrashLoopBackOff"},
		{name: "deleted while it backs off", policy: always, terminal: true, reason: crash, runtime: []*kubecontainer.Status{container("main", "exited", 2, 5)}, phase: v1.PodFailed, state: "Error"},
		{name: "a failed phase stays", policy: always, old: v1.PodStatus{Phase: v1.PodFailed}, runtime: []*kubecontainer.Status{container("main", "running", 0, 5)}, phase: v1.PodFailed, state: "running"},
		{name: "an init container failed", policy: never, init: []v1.Container{{Name: "i"}}, runtime: []*kubecontainer.Status{container("i", "exited", 1, 4)}, phase: v1.PodFailed, state: "PodInitializing"},
		{name: "an init container failed for good", policy: never, terminal: true, init: []v1.Container{{Name: "i"}}, runtime: []*kubecontainer.Status{container("i", "exited", 1, 4)}, phase: v1.PodFailed, state: "PodInitializing"},
		{name: "deleted while init containers run", policy: always, terminal: true, init: []v1.Container{{Name: "i"}}, runtime: []*kubecontainer.Status{container("i", "exited", 137, 4)}, phase: v1.PodFailed, state: "PodInitializing"},
		{name: "an init container failed, will be tried again", policy: always, init: []v1.Container{{Name: "i"}}, runtime: []*kubecontainer.Status{container("i", "exited", 1, 4)}, phase: v1.PodPending, state: "PodInitializing"},
		{name: "main is done, its sidecar runs", policy: never, init: []v1.Container{{Name: "i", RestartPolicy: &sidecar}}, runtime: []*kubecontainer.Status{container("main", "exited", 0, 5), container("i", "running", 0, 4)}, phase: v1.PodRunning, state: "Completed"},
		{name: "main is done, its sidecar is ended", policy: never, terminal: true, init: []v1.Container{{Name: "i", RestartPolicy: &sidecar}}, runtime: []*kubecontainer.Status{container("main", "exited", 0, 5), container("i", "exited", 137, 4)}, phase: v1.PodSucceeded, state: "Completed"},
		{name: "a running container was lost, never restart", policy: never, old: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "main", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}}}, phase: v1.PodFailed, state: "ContainerStatusUnknown"},
		{name: "a result outlives its container", policy: never, old: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "main", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Reason: "Completed"}}}}}, phase: v1.PodSucceeded, state: "Completed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: c.policy, InitContainers: c.init, Containers: []v1.Container{{Name: "main"}}}}
			if c.reason == nil {
				c.reason = none
			}
			got := GenerateAPIPodStatus(Input{Pod: pod, Old: c.old, Runtime: &kubecontainer.PodStatus{ContainerStatuses: c.runtime}, Reason: c.reason, Terminal: c.terminal, HostIPs: []string{"10.0.0.1"}, Now: metav1.Unix(100, 0)})
			s := got.ContainerStatuses[0].State
			state := "running"
			if s.Waiting != nil {
				state = s.Waiting.Reason
			} else if s.Terminated != nil {
				state = s.Terminated.Reason
			}
			if got.Phase != c.phase || state != c.state {
				t.Errorf("%s, %s; want %s, %s", got.Phase, state, c.phase, c.state)
			}
		})
	}
}

// Conditions follow the containers, and keep the time of their last change.
// PodReadyToStartContainers says what is missing.
func TestSandboxConditionNamesTheCause(t *testing.T) {
	sandbox := func(state runtimeapi.PodSandboxState, ip string) *kubecontainer.PodStatus {
		return &kubecontainer.PodStatus{SandboxStatuses: []*runtimeapi.PodSandboxStatus{{State: state, Network: &runtimeapi.PodSandboxNetworkStatus{Ip: ip}}}}
	}
	for want, runtime := range map[string]*kubecontainer.PodStatus{
		"False PodSandboxNotReady no pod sandbox exists":         {},
		"False PodSandboxNotReady pod sandbox is not ready":      sandbox(runtimeapi.PodSandboxState_SANDBOX_NOTREADY, "1.2.3.4"),
		"False PodSandboxNotReady pod sandbox has no IP address": sandbox(runtimeapi.PodSandboxState_SANDBOX_READY, ""),
		"True  ": sandbox(runtimeapi.PodSandboxState_SANDBOX_READY, "1.2.3.4"),
	} {
		c := sandboxCondition(&v1.Pod{}, runtime)
		if got := fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestConditions(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "a"}, {Name: "b"}}, ReadinessGates: []v1.PodReadinessGate{{ConditionType: "gate"}}}}
	runtime := &kubecontainer.PodStatus{SandboxStatuses: []*runtimeapi.PodSandboxStatus{{State: runtimeapi.PodSandboxState_SANDBOX_READY, Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "1.2.3.4"}}}}
	status := &v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{{Name: "a", Ready: true}, {Name: "b"}}}
	SetConditions(pod, status, runtime, metav1.Unix(100, 0))
	want := map[v1.PodConditionType]string{v1.PodReady: "False ContainersNotReady", v1.ContainersReady: "False ContainersNotReady", v1.PodInitialized: "True ", v1.PodReadyToStartContainers: "True "}
	check := func() {
		t.Helper()
		for kind, text := range want {
			if c := FindCondition(status.Conditions, kind); c == nil || string(c.Status)+" "+c.Reason != text || c.ObservedGeneration != 3 {
				t.Errorf("%s: %+v, want %q", kind, c, text)
			}
		}
	}
	check()
	if m := FindCondition(status.Conditions, v1.ContainersReady).Message; m != "containers with unready status: [b]" {
		t.Errorf("message %q", m)
	}
	status.ContainerStatuses[1].Ready = true
	SetConditions(pod, status, runtime, metav1.Unix(200, 0))
	want[v1.ContainersReady], want[v1.PodReady] = "True ", "False ReadinessGatesNotReady"
	check()
	if at := FindCondition(status.Conditions, v1.PodReady).LastTransitionTime; at.Unix() != 100 {
		t.Errorf("Ready stayed False, but its transition moved to %v", at)
	}
	if at := FindCondition(status.Conditions, v1.ContainersReady).LastTransitionTime; at.Unix() != 200 {
		t.Errorf("ContainersReady changed, but its transition is of %v", at)
	}
}

// Why the kubelet ended a pod is said in one status; the next must not lose it, whether or not the API has the first.
func TestDisruptionTargetStays(t *testing.T) {
	why := v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet}
	for name, api := range map[string][]v1.PodCondition{"before the API has it": nil, "after": {why}} {
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "main"}}}, Status: v1.PodStatus{Conditions: api}}
		got := GenerateAPIPodStatus(Input{Pod: pod, Old: v1.PodStatus{Conditions: []v1.PodCondition{why}}, Runtime: &kubecontainer.PodStatus{}, Reason: none, Terminal: true})
		count := 0
		for _, c := range got.Conditions {
			if c.Type == v1.DisruptionTarget && c.Reason == why.Reason {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%s: %d times in %+v", name, count, got.Conditions)
		}
	}
}

// onePod is a Pods of one.
type onePod struct{ pod *v1.Pod }

func (o onePod) GetPodByUID(types.UID) (*v1.Pod, bool) { return o.pod, true }
func (o onePod) APIPod(p *v1.Pod) *v1.Pod              { return p }

// mirrored is a Pods of one static pod and its mirror of the moment.
type mirrored struct{ static, mirror *v1.Pod }

func (m *mirrored) GetPodByUID(types.UID) (*v1.Pod, bool) { return m.static, true }
func (m *mirrored) APIPod(*v1.Pod) *v1.Pod                { return m.mirror }

// A mirror that was deleted and made anew gets the status, though that did not change (R15).
func TestManagerWritesToNewMirror(t *testing.T) {
	static := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "static"}}
	mirror := func(uid types.UID) *v1.Pod {
		return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: uid}}
	}
	pods := &mirrored{static, mirror("first")}
	client := fake.NewClientset(pods.mirror)
	m := NewManager(client, pods, testingclock.NewFakeClock(time.Unix(100, 0)))
	m.SetPodStatus(static, v1.PodStatus{Phase: v1.PodRunning})
	m.Flush(context.Background())
	pods.mirror = mirror("second")
	if err := client.Tracker().Update(v1.SchemeGroupVersion.WithResource("pods"), pods.mirror, "n"); err != nil {
		t.Fatal(err)
	}
	m.SetPodStatus(static, v1.PodStatus{Phase: v1.PodRunning})
	m.Flush(context.Background())
	got, err := client.CoreV1().Pods("n").Get(context.Background(), "p", metav1.GetOptions{})
	if err != nil || got.UID != "second" || got.Status.Phase != v1.PodRunning {
		t.Errorf("%s: %s, %v", got.UID, got.Status.Phase, err)
	}
}

// What the node controller wrote while the kubelet was silent is set right, from what the API has now; what others own is
// no cause to write.
func TestManagerReconciles(t *testing.T) {
	ctx := context.Background()
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u"}}
	pods := &mirrored{pod, pod}
	client := fake.NewClientset(pod)
	m := NewManager(client, pods, testingclock.NewFakeClock(time.Unix(100, 0)))
	m.SetPodStatus(pod, v1.PodStatus{Phase: v1.PodRunning, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}})
	m.Flush(ctx)
	seen := func(change func(*v1.PodStatus)) { // somebody writes, and the kubelet hears of it
		t.Helper()
		got, err := client.CoreV1().Pods("n").Get(ctx, "p", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		change(&got.Status)
		if _, err := client.CoreV1().Pods("n").UpdateStatus(ctx, got, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		pods.static, pods.mirror = got, got
		client.ClearActions()
	}
	turn := func() int { m.reconcile(); m.syncBatch(ctx); return len(client.Actions()) }
	seen(func(s *v1.PodStatus) {})
	if n := turn(); n != 0 {
		t.Errorf("%d requests though nothing differs", n)
	}
	seen(func(s *v1.PodStatus) {
		s.Conditions = append(s.Conditions, v1.PodCondition{Type: "others", Status: v1.ConditionTrue})
	})
	if n := turn(); n != 0 {
		t.Errorf("%d requests for another's condition", n)
	}
	seen(func(s *v1.PodStatus) {
		FindCondition(s.Conditions, v1.PodReady).Status = v1.ConditionFalse
		FindCondition(s.Conditions, v1.PodReady).Reason = "NodeNotReady"
	})
	if n := turn(); n != 1 {
		t.Errorf("%d requests to set the condition right", n)
	}
	seen(func(s *v1.PodStatus) {
		ready := FindCondition(s.Conditions, v1.PodReady)
		if ready.Status != v1.ConditionTrue || ready.Reason != "" || FindCondition(s.Conditions, "others") == nil {
			t.Errorf("conditions %+v", s.Conditions)
		}
	})
	if n := turn(); n != 0 {
		t.Errorf("%d requests after it was set right", n)
	}
}

// A status is written once, others' conditions are left alone, and a deleted pod
// that is finished is removed from the API.
func TestManagerWritesOnceAndDeletesAtTheEnd(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u"}, Status: v1.PodStatus{Conditions: []v1.PodCondition{{Type: "gate", Status: v1.ConditionTrue}}}}
	client := fake.NewClientset(pod)
	m := NewManager(client, onePod{pod}, testingclock.NewFakeClock(time.Unix(100, 0)))
	patches := func() int {
		count := 0
		for _, a := range client.Actions() {
			if a.GetVerb() == "patch" {
				count++
			}
		}
		return count
	}
	m.SetPodStatus(pod, v1.PodStatus{Phase: v1.PodRunning})
	m.Flush(context.Background())
	m.SetPodStatus(pod, v1.PodStatus{Phase: v1.PodRunning})
	m.Flush(context.Background())
	if patches() != 1 {
		t.Errorf("%d patches for one change", patches())
	}
	got, err := client.CoreV1().Pods("n").Get(context.Background(), "p", metav1.GetOptions{})
	if err != nil || got.Status.Phase != v1.PodRunning || FindCondition(got.Status.Conditions, "gate") == nil {
		t.Errorf("status %+v, %v", got.Status, err)
	}
	m.SetPodFinished(pod) // not deleted: it stays
	m.Flush(context.Background())
	pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(100, 0)}
	m.SetPodStatus(pod, v1.PodStatus{Phase: v1.PodFailed})
	m.Flush(context.Background())
	if _, err := client.CoreV1().Pods("n").Get(context.Background(), "p", metav1.GetOptions{}); err == nil {
		t.Error("the pod is still in the API")
	}
}

// PodScheduled, too, says which generation the kubelet has seen; when it became true stays as the scheduler said.
func TestScheduledObservesTheGeneration(t *testing.T) {
	scheduled := v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionTrue, ObservedGeneration: 1, LastTransitionTime: metav1.Unix(50, 0)}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "main"}}}}
	pod.Status.Conditions = []v1.PodCondition{scheduled}
	status := GenerateAPIPodStatus(Input{Pod: pod, Runtime: &kubecontainer.PodStatus{}, Old: pod.Status, Reason: none, Now: metav1.Unix(100, 0)})
	want := scheduled
	want.ObservedGeneration = 2
	if got := FindCondition(mergeConditions(pod.Status.Conditions, status.Conditions), v1.PodScheduled); got == nil || *got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
