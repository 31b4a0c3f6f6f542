package status

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kubecontainer "hyperkube/kubelet/container"
)

// restartRule restarts what ended with exit code 42.
func restartRule(action v1.ContainerRestartRuleAction) []v1.ContainerRestartRule {
	return []v1.ContainerRestartRule{{Action: action, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
}

// KEP-5307: containers' own policies and rules decide whether a pod goes on.
func TestPhaseByContainersOwnPolicies(t *testing.T) {
	own := func(policy v1.ContainerRestartPolicy, rules []v1.ContainerRestartRule) v1.Container {
		return v1.Container{Name: "main", RestartPolicy: &policy, RestartPolicyRules: rules}
	}
	for _, c := range []struct {
		pod   v1.RestartPolicy
		main  v1.Container
		exit  int
		phase v1.PodPhase
	}{
		{v1.RestartPolicyNever, own("Always", nil), 0, v1.PodRunning},
		{v1.RestartPolicyNever, own("OnFailure", nil), 1, v1.PodRunning},
		{v1.RestartPolicyNever, own("OnFailure", nil), 0, v1.PodSucceeded},
		{v1.RestartPolicyAlways, own("Never", nil), 0, v1.PodSucceeded},
		{v1.RestartPolicyAlways, own("Never", nil), 1, v1.PodFailed},
		{v1.RestartPolicyAlways, own("Never", restartRule("Restart")), 42, v1.PodRunning},
		{v1.RestartPolicyAlways, own("Never", restartRule("Restart")), 41, v1.PodFailed},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: c.pod, Containers: []v1.Container{c.main}}}
		got := GenerateAPIPodStatus(Input{Pod: pod, Runtime: &kubecontainer.PodStatus{ContainerStatuses: []*kubecontainer.Status{container("main", "exited", c.exit, 5)}}, Reason: none})
		if got.Phase != c.phase {
			t.Errorf("pod %s, container %s %v, exit code %d: %s, want %s", c.pod, *c.main.RestartPolicy, c.main.RestartPolicyRules, c.exit, got.Phase, c.phase)
		}
		pod.Spec.Containers[0] = v1.Container{Name: "c"}
		pod.Spec.InitContainers = []v1.Container{c.main}
		got = GenerateAPIPodStatus(Input{Pod: pod, Runtime: &kubecontainer.PodStatus{ContainerStatuses: []*kubecontainer.Status{container("main", "exited", c.exit, 5)}}, Reason: none})
		if (got.Phase == v1.PodFailed) != (c.phase == v1.PodFailed) {
			t.Errorf("the same as an init container: %s", got.Phase)
		}
	}
}

// KEP-5532: the story of a pod that begins anew, as its status tells it.
func TestAllContainersRestart(t *testing.T) {
	never := ptr.To(v1.ContainerRestartPolicyNever)
	pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: v1.RestartPolicyNever, Containers: []v1.Container{{Name: "main"}, {Name: "source", RestartPolicy: never, RestartPolicyRules: restartRule("RestartAllContainers")}}}}
	var old v1.PodStatus
	turn := func(containers ...*kubecontainer.Status) string {
		runtime := &kubecontainer.PodStatus{ContainerStatuses: containers}
		old = GenerateAPIPodStatus(Input{Pod: pod, Old: old, Runtime: runtime, Reason: none, Now: metav1.Unix(100, 0)})
		SetConditions(pod, &old, runtime, metav1.NewTime(time.Unix(100, 0)))
		condition := FindCondition(old.Conditions, v1.AllContainersRestarting)
		text := fmt.Sprintf("%s %s%s", old.Phase, condition.Status, condition.Reason)
		for _, s := range old.ContainerStatuses {
			text += fmt.Sprintf(" %s%d:", s.Name, s.RestartCount)
			switch {
			case s.State.Running != nil:
				text += "runs"
			case s.State.Terminated != nil:
				text += "ended"
			default:
				text += s.State.Waiting.Reason
			}
			if last := s.LastTerminationState.Terminated; last != nil {
				text += "," + last.Reason
			}
		}
		return text
	}
	again := container("source", "running", 0, 20)
	again.RestartCount = 1
	for i, step := range []struct{ got, want string }{
		{turn(container("main", "running", 0, 5), container("source", "running", 0, 5)), "Running False main0:runs source0:runs"},
		{turn(container("main", "running", 0, 5), container("source", "exited", 42, 5)), "Running TrueRestartAllContainersStarted main0:runs source0:ended"},
		{turn(container("source", "exited", 42, 5)), "Running TrueRestartAllContainersStarted main1:RestartingAllContainers,RestartingAllContainers source0:ended"},
		{turn(), "Running False main1:ContainerCreating,RestartingAllContainers source1:RestartingAllContainers,RestartingAllContainers"},
		{turn(container("main", "running", 0, 20), again), "Running False main1:runs,RestartingAllContainers source1:runs,RestartingAllContainers"},
		{turn(container("main", "running", 0, 20), container("source", "exited", 1, 20)), "Running False main1:runs,RestartingAllContainers source1:ended,RestartingAllContainers"},
		{turn(container("main", "exited", 0, 20), container("source", "exited", 1, 20)), "Failed FalsePodFailed main1:ended,RestartingAllContainers source1:ended,RestartingAllContainers"},
	} {
		if step.got != step.want {
			t.Errorf("step %d: %s\nwant    %s", i+1, step.got, step.want)
		}
	}
	pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	old = v1.PodStatus{}
	if got := turn(container("main", "running", 0, 5), container("source", "exited", 42, 5)); got != "Running False main0:runs source0:ended" {
		t.Errorf("being deleted: %s", got)
	}
}
