package why

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"hyperkube/scheduler"
	"hyperkube/scheduler/framework/runtime"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func before(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// alive are the Leases of a control plane that runs.
func alive() map[string]holder {
	return map[string]holder{
		manager:          {identity: "cm_1", renewed: now.Add(-time.Second), duration: 15 * time.Second},
		"kube-scheduler": {identity: "s_1", renewed: now.Add(-time.Second), duration: 15 * time.Second},
	}
}

// aPod is a pod that is well, but for what change does.
func aPod(change func(*podFacts)) *podFacts {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "u", CreationTimestamp: before(time.Minute)},
		Spec: corev1.PodSpec{NodeName: "n1", SchedulerName: corev1.DefaultSchedulerName, Containers: []corev1.Container{{Name: "c", Image: "registry.test/web:1",
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 5, FailureThreshold: 3, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"cat", "/ready"}}}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.5",
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Ready: true, Started: ptr.To(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: before(50 * time.Second)}}}}},
	}
	f := &podFacts{facts: &facts{now: now, kind: "Pod", namespace: "default", name: "web", object: pod, holders: alive()}, pod: pod,
		node: aNode("n1", "2"), nodeLease: holder{identity: "n1", renewed: now.Add(-2 * time.Second), duration: 40 * time.Second}}
	change(f)
	return f
}

func aNode(name, cpu string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("110")},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
}

// requesting is a pod on a node that requests so much CPU.
func requesting(name, node, cpu string) corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}}}
}

func event(reason, message string, count int32, since, last time.Duration) corev1.Event {
	kind := corev1.EventTypeWarning
	if reason == "Killing" {
		kind = corev1.EventTypeNormal
	}
	return corev1.Event{Reason: reason, Message: message, Type: kind, Count: count, FirstTimestamp: before(since), LastTimestamp: before(last),
		Source: corev1.EventSource{Component: "kubelet"}, InvolvedObject: corev1.ObjectReference{FieldPath: "spec.containers{c}"}}
}

func pendingPod(change func(*podFacts)) *podFacts {
	return aPod(func(f *podFacts) {
		f.pod.Spec.NodeName, f.pod.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
		f.attempt = &attempt{Number: 2, Time: now.Add(-3 * time.Second)}
		f.node = nil
		change(f)
	})
}

func status(f *podFacts) *corev1.ContainerStatus { return &f.pod.Status.ContainerStatuses[0] }

func unready(f *podFacts) {
	status(f).Ready, f.pod.Status.Conditions[0].Status = false, corev1.ConditionFalse
}

func waits(f *podFacts, reason, message string) {
	unready(f)
	status(f).State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func deleted(f *podFacts, grace int64, ago time.Duration) {
	f.pod.DeletionTimestamp = ptr.To(metav1.NewTime(now.Add(-ago + time.Duration(grace)*time.Second)))
	f.pod.DeletionGracePeriodSeconds = &grace
}

// Each state of a pod is explained by what holds it up, with its evidence and remedy, the worst
// first; what is well is not explained away (issue 3).
func TestExplainPod(t *testing.T) {
	for name, test := range map[string]struct {
		facts *podFacts
		// worst is the mark and title of the first finding; want is somewhere on the screen.
		worst string
		want  []string
	}{
		"well": {aPod(func(*podFacts) {}), "", []string{"pod default/web: Running, on n1, 10.0.0.5, created 60s ago"}},
		"no label": {pendingPod(func(f *podFacts) {
			f.pod.Spec.NodeSelector = map[string]string{"disktype": "ssd"}
			f.nodes = []corev1.Node{*aNode("n1", "2")}
		}), "✗ Pending: none of 1 node takes it (attempt 2, 3s ago)",
			[]string{"n1: has no label disktype (wanted: ssd) (NodeAffinity)", "→ on n1: label it: kubectl label node n1 --overwrite disktype=ssd"}},
		"no room, and the nearest node first": {pendingPod(func(f *podFacts) {
			f.pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("300m")}
			tainted := aNode("n0", "2")
			tainted.Spec.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
			f.nodes = []corev1.Node{*tainted, *aNode("n1", "2")}
			f.placed = []corev1.Pod{requesting("big", "n1", "1500m"), requesting("small", "n1", "400m"), requesting("big", "n0", "1900m")}
		}), "✗ Pending: none of 2 nodes takes it", []string{
			"n1: Insufficient cpu: it wants 300m, 1900m of 2 are requested (NodeResourcesFit)\n    n0: untolerated taint gpu=yes:NoSchedule (TaintToleration);",
			"→ on n1: free 200m of cpu on n1 (requested 1900m of 2; most by big 1500m, small 400m)\n    on n0: add a toleration for gpu=yes:NoSchedule"}},
		"larger than any node": {pendingPod(func(f *podFacts) {
			f.pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}
			f.nodes = []corev1.Node{*aNode("n1", "2")}
		}), "✗ Pending", []string{"ask for at most 2 of cpu, or add a larger node: not even an empty n1 has room"}},
		"cordoned": {pendingPod(func(f *podFacts) {
			f.nodes = []corev1.Node{*aNode("n1", "2")}
			f.nodes[0].Spec.Unschedulable = true
			f.nodes[0].Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
		}), "✗ Pending", []string{"n1: it is cordoned (NodeUnschedulable)\n", "→ on n1: kubectl uncordon n1\n"}},
		"a rule that only the scheduler knows": {pendingPod(func(f *podFacts) {
			f.nodes = []corev1.Node{*aNode("n1", "2")}
			f.attempt.Filtered = []filteredNode{{Node: "n1", Plugin: "PodTopologySpread", Reasons: []string{"node(s) didn't match pod topology spread constraints"}}}
		}), "✗ Pending", []string{"topology spread constraints (PodTopologySpread)", "raise maxSkew"}},
		"what refused it is gone": {pendingPod(func(f *podFacts) {
			f.nodes = []corev1.Node{*aNode("n1", "2")}
			f.attempt.Filtered = []filteredNode{{Node: "n1", Plugin: "NodeResourcesFit", Reasons: []string{"Insufficient cpu"}}}
		}), "… Pending", []string{"n1 would take it now"}},
		"gated": {pendingPod(func(f *podFacts) {
			f.pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
		}),
			"… Pending: scheduling gate example.com/quota holds it back", nil},
		"no scheduler": {pendingPod(func(f *podFacts) {
			f.holders["kube-scheduler"] = holder{renewed: now.Add(-time.Minute), duration: 15 * time.Second}
		}),
			"✗ Pending: the scheduler does not run", []string{"its Lease was last renewed 60s ago", "hyperkube start scheduler"}},
		"somebody else's scheduler": {pendingPod(func(f *podFacts) { f.pod.Spec.SchedulerName, f.attempt = "mine", nil }),
			`✗ Pending: no scheduler called "mine" has looked at it`, nil},
		"no node": {pendingPod(func(*podFacts) {}), "✗ Pending: there is no node", nil},
		"readiness": {aPod(func(f *podFacts) {
			unready(f)
			f.failing = map[string]time.Time{"readiness probe of c": now.Add(-32 * time.Second)}
			f.events = []corev1.Event{event("Unhealthy", "Readiness probe failed: cat: /ready: No such file", 7, time.Minute, 3*time.Second)}
		}), "✗ Not Ready: the readiness probe of container c has not succeeded", []string{"it runs cat /ready, every 5s, 3 failures in a row count; it runs for 50s",
			"Readiness probe failed: cat: /ready: No such file\n    Event Unhealthy by kubelet, 3s ago, 7 times since 60s ago\n    without a break since 03:03:33 (32s ago): about 7 times in a row"}},
		"startup": {aPod(func(f *podFacts) {
			unready(f)
			status(f).Started = ptr.To(false)
			f.pod.Spec.Containers[0].StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/up"}}}
			f.events = []corev1.Event{event("Unhealthy", "Startup probe failed: 500", 1, time.Second, time.Second)}
		}), "✗ Not Ready: the startup probe of container c", []string{"Startup probe failed: 500"}},
		"readiness gate": {aPod(func(f *podFacts) {
			f.pod.Status.Conditions[0].Status = corev1.ConditionFalse
			f.pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/lb"}}
		}), "… Not Ready: readiness gate example.com/lb", []string{"nobody has set its condition"}},
		"no such registry": {aPod(func(f *podFacts) {
			waits(f, "ImagePullBackOff", `Back-off pulling image "registry.test/web:1"`)
			f.missingSecrets = []string{"login"}
			e := event("Failed", `Failed to pull image "registry.test/web:1": lookup registry.test: no such host`, 2, time.Minute, time.Second)
			f.events = []corev1.Event{e, event("Failed", "Error: ErrImagePull", 2, time.Minute, time.Second)}
		}), "✗ Container c has no image: registry.test/web:1 ImagePullBackOff: the registry's name is not known to the node's DNS",
			[]string{"no such host", "pull secret login does not exist in namespace default", "kubectl create secret docker-registry login"}},
		"another architecture": {aPod(func(f *podFacts) { waits(f, "ErrImagePull", "no match for platform linux/arm64 in manifest") }),
			"✗ Container c has no image: registry.test/web:1 ErrImagePull: the image exists, but not for this node's architecture", nil},
		"unauthorized": {aPod(func(f *podFacts) { waits(f, "ErrImagePull", "GET https://registry.test/v2/: 401 Unauthorized") }),
			"✗ Container c has no image: registry.test/web:1 ErrImagePull: the registry wants other credentials", []string{"imagePullSecrets"}},
		"no such ConfigMap": {aPod(func(f *podFacts) { waits(f, "CreateContainerConfigError", `configmap "x" not found`) }),
			`✗ Container c cannot be made: CreateContainerConfigError: configmap "x" not found`, []string{"create what is missing"}},
		"crash loop": {aPod(func(f *podFacts) {
			waits(f, "CrashLoopBackOff", "back-off 40s restarting failed container=c pod=web")
			status(f).RestartCount = 3
			status(f).LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error", StartedAt: before(12 * time.Second), FinishedAt: before(10 * time.Second)}
		}), "✗ CrashLoopBackOff: container c ended 4 times; last: exit code 3, by itself: the program failed",
			[]string{"it ended 10s ago, having run for 2s", "back-off of 40s, until 03:04:35 (in 30s)", "kubectl logs web -c c --previous"}},
		"out of memory": {aPod(func(f *podFacts) {
			f.pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")}
			status(f).RestartCount = 1
			status(f).LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled", StartedAt: before(70 * time.Second), FinishedAt: before(60 * time.Second)}
		}), "✗ Container c was restarted once; last: exit code 137, out of memory: the kernel killed it, for it had used up its memory limit of 16Mi", []string{"raise resources.limits.memory"}},
		"killed by its liveness probe": {aPod(func(f *podFacts) {
			status(f).RestartCount = 1
			status(f).LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, StartedAt: before(2 * time.Minute), FinishedAt: before(60 * time.Second)}
			f.events = []corev1.Event{event("Unhealthy", "Liveness probe failed: not well", 3, 2*time.Minute, 65*time.Second),
				event("Killing", "Container c failed liveness probe, will be restarted", 1, 62*time.Second, 62*time.Second)}
		}), "✗ Container c was restarted once; last: killed by the kubelet, for a probe failed (exit code 137)",
			[]string{"the kubelet killed it: Container c failed liveness probe", "Liveness probe failed: not well (Event Unhealthy by kubelet, 65s ago, 3 times"}},
		"killed by somebody": {aPod(func(f *podFacts) {
			status(f).RestartCount = 1
			status(f).LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, StartedAt: before(2 * time.Minute), FinishedAt: before(60 * time.Second)}
			f.events = []corev1.Event{event("Killing", "Stopping container c", 1, time.Hour, time.Hour)} // of an earlier life
		}), "✗ Container c was restarted once; last: exit code 137, SIGKILL, not from the kubelet", nil},
		"evicted": {aPod(func(f *podFacts) {
			f.pod.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory"}
		}), "✗ Failed: Evicted: The node was low on resource: memory", []string{"the kubelet of n1 evicted it"}},
		"no claim": {pendingPod(func(f *podFacts) {
			f.nodes = []corev1.Node{*aNode("n1", "2")}
			f.claims = map[string]*corev1.PersistentVolumeClaim{"data": nil}
		}), "✗ Volume: there is no PersistentVolumeClaim data", nil},
		"a silent kubelet": {aPod(func(f *podFacts) {
			unready(f)
			f.nodeLease.renewed = now.Add(-90 * time.Second)
		}), "✗ The kubelet of n1 is silent", []string{"hyperkube why node/n1"}},
		"deleted, within its grace": {aPod(func(f *podFacts) {
			deleted(f, 30, 10*time.Second)
			f.pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 20}}}
			f.recorded, f.changes = true, []change{{time: now.Add(-10 * time.Second), verb: "delete", program: "kubectl", user: "jane"}}
		}), "… Terminating: its containers are being stopped", []string{"Deleted 10s ago by kubectl as jane", "20s of its grace period of 30s are left", "its preStop hook (sleep 20 s) goes before SIGTERM"}},
		"deleted, and the kubelet is gone": {aPod(func(f *podFacts) {
			deleted(f, 30, 2*time.Minute)
			f.nodeLease.renewed = now.Add(-3 * time.Minute)
		}), "✗ Terminating: the kubelet of n1, who must stop its containers, is silent", []string{"its Lease was last renewed 3m ago", "--force --grace-period=0"}},
		"deleted, and the node is gone": {aPod(func(f *podFacts) {
			deleted(f, 30, 2*time.Minute)
			f.node = nil
		}), "✗ Terminating: node n1 is gone", []string{"kube-controller-manager runs (cm_1 renewed"}},
		"a stranger's finalizer": {aPod(func(f *podFacts) {
			deleted(f, 0, time.Minute)
			f.pod.Finalizers = []string{"example.com/wait"}
			status(f).State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		}), "✗ Terminating: finalizer example.com/wait holds it", []string{"whoever owns the name must remove it", `kubectl patch pod web -n default -p '{"metadata":{"finalizers":null}}'`}},
		"a Job's finalizer, and no controller": {aPod(func(f *podFacts) {
			deleted(f, 0, time.Minute)
			f.pod.Finalizers = []string{"batch.kubernetes.io/job-tracking"}
			f.holders[manager] = holder{identity: "cm_1", renewed: now.Add(-time.Hour), duration: 15 * time.Second}
			status(f).State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		}), "✗ Terminating: finalizer batch.kubernetes.io/job-tracking holds it",
			[]string{"job-controller in kube-controller-manager removes it, when the pod's end has been counted", "kube-controller-manager does not run", "→ start kube-controller-manager"}},
		"behind a Service, and not Ready": {aPod(func(f *podFacts) {
			unready(f)
			f.services = []corev1.Service{{ObjectMeta: metav1.ObjectMeta{Name: "front"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9"}}}
		}), "…", []string{"Behind 1 Service", "front: 10.96.0.9", "no traffic comes, for it is not Ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := explainPod(test.facts)
			e.Object = "pod default/web"
			e.sort()
			screen := printed(e)
			first := ""
			if f := e.worst(); f != nil {
				first = marks[f.Weight] + " " + f.Title
			}
			if !strings.HasPrefix(first, test.worst) || test.worst == "" && first != "" {
				t.Errorf("first %q, want %q", first, test.worst)
			}
			for _, want := range test.want {
				if !strings.Contains(strings.Join(strings.Fields(screen), " "), strings.Join(strings.Fields(want), " ")) {
					t.Errorf("no %q in\n%s", want, screen)
				}
			}
		})
	}
}

func printed(e *Explanation) string {
	var out strings.Builder
	e.Print(&out)
	return out.String()
}

// The scheduler and this package know each other by JSON only: what one writes, the other reads.
func TestAttemptIsReadAsTheSchedulerWritesIt(t *testing.T) {
	data, err := json.Marshal(scheduler.Attempt{UID: "u", Number: 3, Time: now, Result: "Scheduled", Node: "n1", FeasibleNodes: 2, EvaluatedNodes: 3,
		Filtered: []scheduler.FilteredNode{{Node: "n0", Plugin: "TaintToleration", Reasons: []string{"node(s) had untolerated taint(s)"}}},
		Scores: []runtime.NodePluginScores{{Name: "n1", TotalScore: 391, Scores: []runtime.PluginScore{{Name: "NodeResourcesFit", Score: 91}, {Name: "TaintToleration", Score: 300}}},
			{Name: "n2", TotalScore: 380, Scores: []runtime.PluginScore{{Name: "NodeResourcesFit", Score: 80}, {Name: "TaintToleration", Score: 300}}}}})
	if err != nil {
		t.Fatal(err)
	}
	f := aPod(func(f *podFacts) { f.attempt = &attempt{} })
	if err := json.Unmarshal(data, f.attempt); err != nil {
		t.Fatal(err)
	}
	screen := printed(explainPod(f))
	for _, want := range []string{"· On n1: the best score of 2 nodes that fit, of 3 looked at (attempt 3, 0s ago)",
		"score (weighted)                        n1       n2\n", "NodeResourcesFit                        91       80\n", "total                                  391      380\n",
		"n0 was refused: node(s) had untolerated taint(s) (TaintToleration)"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in\n%s", want, screen)
		}
	}
}

// One screen: 40 lines of 100 columns, the remedy always on it; a name is never broken.
func TestOneScreen(t *testing.T) {
	e := &Explanation{Object: "pod default/web", State: "Pending", Findings: []Finding{
		{Weight: Trouble, Title: "No node", Remedy: "do this"}, {Weight: Note, Title: strings.Repeat("word ", 60)}}}
	for i := range 100 {
		e.Findings[0].Evidence = append(e.Findings[0].Evidence, fmt.Sprintf("node%d: no", i))
	}
	e.Findings[0].Evidence[0] = strings.Repeat("x", 120)
	lines := strings.Split(strings.TrimSuffix(printed(e), "\n"), "\n")
	if len(lines) != screenLines {
		t.Errorf("%d lines", len(lines))
	}
	for i, line := range lines {
		if utf8.RuneCountInString(line) > screenWidth && !strings.Contains(line, strings.Repeat("x", 120)) {
			t.Errorf("line %d has %d columns: %s", i, utf8.RuneCountInString(line), line)
		}
	}
	if screen := strings.Join(lines, "\n"); !strings.Contains(screen, "  → do this") || !strings.Contains(screen, "and 68 more lines: -o json") {
		t.Errorf("\n%s", screen)
	}
}
