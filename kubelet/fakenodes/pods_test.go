package fakenodes

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/kubelet/lifecycle"
)

// Each turn in a pod's life, decided from what the API says of it and the time.
func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	pod := func(change func(*v1.Pod), command ...string) *v1.Pod {
		p := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: v1.RestartPolicyNever, Containers: []v1.Container{{Name: "c", Image: "x", Command: command}}}, Status: v1.PodStatus{Phase: v1.PodPending}}
		if change != nil {
			change(p)
		}
		return p
	}
	runs := func(p *v1.Pod) { p.Status = *runningStatus(p, now.Add(-5*time.Second)) }
	for name, c := range map[string]struct {
		pod     *v1.Pod
		refused *lifecycle.Rejection
		act     int
		phase   v1.PodPhase
		after   time.Duration
	}{
		"bound":              {pod: pod(nil), act: actWrite, phase: v1.PodRunning},
		"bound, for a while": {pod: pod(nil, "sleep", "7"), act: actWrite, phase: v1.PodRunning, after: 7 * time.Second},
		"refused":            {pod: pod(nil), refused: &lifecycle.Rejection{Reason: "OutOfcpu"}, act: actWrite, phase: v1.PodFailed},
		"no such image":      {pod: pod(func(p *v1.Pod) { p.Spec.Containers[0].Image = "x:missing" }), act: actWrite, phase: v1.PodPending},
		"a server":           {pod: pod(runs)},
		"not yet over":       {pod: pod(runs, "sleep", "7"), after: 2 * time.Second},
		"over":               {pod: pod(runs, "sleep", "5"), act: actWrite, phase: v1.PodSucceeded},
		"over, badly":        {pod: pod(runs, "false"), act: actWrite, phase: v1.PodFailed},
		"restarted always": {pod: pod(func(p *v1.Pod) {
			runs(p)
			p.Spec.RestartPolicy = v1.RestartPolicyAlways
		}, "false")},
		"deleted": {pod: pod(func(p *v1.Pod) {
			runs(p)
			p.DeletionTimestamp = &metav1.Time{Time: now}
		}), act: actWrite, phase: v1.PodSucceeded},
		"deleted and ended": {pod: pod(func(p *v1.Pod) {
			p.Status = *endedStatus(p, 0, now)
			p.DeletionTimestamp = &metav1.Time{Time: now}
		}), act: actDelete},
		"deleted before it began": {pod: pod(func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }), act: actDelete},
		"ended":                   {pod: pod(func(p *v1.Pod) { p.Status = *endedStatus(p, 0, now) })},
	} {
		d := decide(c.pod, c.refused, now)
		if d.act != c.act || d.after != c.after || d.status != nil && d.status.Phase != c.phase {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// What the node controller said of a pod while its node was silent is set right, and so is what depends on a gate.
func TestReadyAgain(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Image: "x"}}}}
	pod.Status = *runningStatus(pod, now)
	readyIs := func(status *v1.PodStatus) v1.ConditionStatus {
		for _, c := range status.Conditions {
			if c.Type == v1.PodReady {
				return c.Status
			}
		}
		return ""
	}
	if got := readyAgain(pod, now); got != nil {
		t.Errorf("a ready pod: %+v", got)
	}
	put(&pod.Status, v1.PodCondition{Type: v1.PodReady, Status: v1.ConditionFalse, Reason: "NodeNotReady"})
	got := readyAgain(pod, now)
	if got == nil || readyIs(got) != v1.ConditionTrue {
		t.Fatalf("after its node was silent: %+v", got)
	}
	pod.Status = *got
	pod.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "gate"}}
	if got = readyAgain(pod, now); got == nil || readyIs(got) != v1.ConditionFalse {
		t.Fatalf("with a closed gate: %+v", got)
	}
	pod.Status = *got
	if got = readyAgain(pod, now); got != nil {
		t.Errorf("with a closed gate, once it is not ready: %+v", got)
	}
	put(&pod.Status, v1.PodCondition{Type: "gate", Status: v1.ConditionTrue})
	if got = readyAgain(pod, now); got == nil || readyIs(got) != v1.ConditionTrue {
		t.Errorf("with an open gate: %+v", got)
	}
	pod.Status = *endedStatus(pod, 0, now)
	if got := readyAgain(pod, now); got != nil {
		t.Errorf("an ended pod: %+v", got)
	}
}

// Every node has its turn once in a round, however many there are.
func TestShareIsFair(t *testing.T) {
	for _, count := range []int{0, 1, 7, 100, 1003} {
		nodes, turns := make([]*node, count), 0
		for tick := range 100 {
			turns += len(share(nodes, tick, 100))
		}
		if turns != count {
			t.Errorf("%d nodes have %d turns", count, turns)
		}
	}
}
