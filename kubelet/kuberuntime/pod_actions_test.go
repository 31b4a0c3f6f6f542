package kuberuntime

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	kubecontainer "hyperkube/kubelet/container"
)

// probes is what the probes found, by container name + "1" (the ID in these tests).
type probes struct{ liveness, startup, started map[string]bool }

func (p probes) LivenessFailed(id kubecontainer.ContainerID) bool   { return p.liveness[id.ID] }
func (p probes) StartupFailed(id kubecontainer.ContainerID) bool    { return p.startup[id.ID] }
func (p probes) StartupSucceeded(id kubecontainer.ContainerID) bool { return p.started[id.ID] }

// scene is one situation, in short words: "run", "exit0", "exit1", "unknown",
// "created", "changed" (runs from another image), "" (not there).
type scene struct {
	policy    v1.RestartPolicy
	sandbox   string // "ready", "dead", "none", "two", "hostnet", "noip"
	init      []string
	sidecars  map[int]bool // which of init are sidecars
	main      []string
	ephemeral int
	debugging int // how many of them exist
	probes    probes
	deleted   bool
	// own are containers' own policies, and rules the exit codes by which they are run again, all of them with restartAll.
	own        map[string]v1.ContainerRestartPolicy
	rules      map[string]v1.ContainerRestartRule
	restartAll bool
}

func build(s scene) (*v1.Pod, *kubecontainer.PodStatus) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u"}, Spec: v1.PodSpec{RestartPolicy: s.policy}}
	if s.deleted {
		pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	}
	status := &kubecontainer.PodStatus{}
	always := v1.ContainerRestartPolicyAlways
	add := func(c v1.Container, state string) {
		if state == "" {
			return
		}
		st := &kubecontainer.Status{ID: kubecontainer.ContainerID{ID: c.Name + "1"}, Name: c.Name, PodSandboxID: "sb", Hash: kubecontainer.HashContainer(&c)}
		switch state {
		case "run":
			st.State = kubecontainer.StateRunning
		case "changed":
			st.State, st.Hash = kubecontainer.StateRunning, 1
		case "exit0":
			st.State = kubecontainer.StateExited
		case "exit1":
			st.State, st.ExitCode = kubecontainer.StateExited, 1
		case "oldexit0":
			st.State, st.PodSandboxID = kubecontainer.StateExited, "former"
		case "created":
			st.State = kubecontainer.StateCreated
		case "unknown":
			st.State = kubecontainer.StateUnknown
		default:
			panic(state)
		}
		status.ContainerStatuses = append(status.ContainerStatuses, st)
	}
	own := func(c v1.Container) v1.Container {
		if policy, ok := s.own[c.Name]; ok {
			c.RestartPolicy = &policy
		}
		if rule, ok := s.rules[c.Name]; ok {
			c.RestartPolicyRules = []v1.ContainerRestartRule{rule}
		}
		return c
	}
	for i, state := range s.init {
		c := own(v1.Container{Name: fmt.Sprintf("init%d", i), Image: "i"})
		if s.sidecars[i] {
			c.RestartPolicy = &always
			c.StartupProbe = &v1.Probe{}
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		add(c, state)
	}
	for i, state := range s.main {
		c := own(v1.Container{Name: fmt.Sprintf("main%d", i), Image: "i"})
		pod.Spec.Containers = append(pod.Spec.Containers, c)
		add(c, state)
	}
	for i := range s.ephemeral {
		c := v1.EphemeralContainer{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: fmt.Sprintf("dbg%d", i)}}
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, c)
		if i < s.debugging {
			add(v1.Container{Name: c.Name}, "run")
		}
	}
	box := func(id string, attempt uint32, state runtimeapi.PodSandboxState, mode runtimeapi.NamespaceMode, ip string) *runtimeapi.PodSandboxStatus {
		return &runtimeapi.PodSandboxStatus{Id: id, State: state, Metadata: &runtimeapi.PodSandboxMetadata{Attempt: attempt}, Network: &runtimeapi.PodSandboxNetworkStatus{Ip: ip},
			Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: &runtimeapi.NamespaceOption{Network: mode}}}}
	}
	ready, dead := runtimeapi.PodSandboxState_SANDBOX_READY, runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	pm, nm := runtimeapi.NamespaceMode_POD, runtimeapi.NamespaceMode_NODE
	switch s.sandbox {
	case "none":
	case "dead":
		status.SandboxStatuses = []*runtimeapi.PodSandboxStatus{box("sb", 2, dead, pm, "")}
	case "two":
		status.SandboxStatuses = []*runtimeapi.PodSandboxStatus{box("sb", 1, ready, pm, "1.2.3.4"), box("former", 0, ready, pm, "1.2.3.5")}
	case "hostnet":
		status.SandboxStatuses = []*runtimeapi.PodSandboxStatus{box("sb", 0, ready, nm, "")}
	case "noip":
		status.SandboxStatuses = []*runtimeapi.PodSandboxStatus{box("sb", 0, ready, pm, "")}
	default:
		status.SandboxStatuses = []*runtimeapi.PodSandboxStatus{box("sb", 0, ready, pm, "1.2.3.4")}
	}
	return pod, status
}

// S4-05, S4-06: a case for each branch; the wish is what the log would print.
func TestComputePodActions(t *testing.T) {
	set := func(ids ...string) map[string]bool {
		m := map[string]bool{}
		for _, id := range ids {
			m[id] = true
		}
		return m
	}
	always, onFailure, never := v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever
	own := func(policy v1.ContainerRestartPolicy, names ...string) map[string]v1.ContainerRestartPolicy {
		m := map[string]v1.ContainerRestartPolicy{}
		for _, name := range names {
			m[name] = policy
		}
		return m
	}
	rule := func(name string, action v1.ContainerRestartRuleAction, operator v1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) map[string]v1.ContainerRestartRule {
		return map[string]v1.ContainerRestartRule{name: {Action: action, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: operator, Values: codes}}}
	}
	const ownAlways, ownOnFailure, ownNever = v1.ContainerRestartPolicyAlways, v1.ContainerRestartPolicyOnFailure, v1.ContainerRestartPolicyNever
	cases := []struct {
		name  string
		scene scene
		want  string // the fields that differ from nothing-to-do in sandbox sb, attempt 0
	}{
		{"all is well", scene{policy: always, main: []string{"run", "run"}}, ""},
		// The sandbox.
		{"nothing is there", scene{policy: always, sandbox: "none", main: []string{"", ""}}, "KillPod CreateSandbox SandboxID= Start[0 1]"},
		{"init containers come first in a new sandbox", scene{policy: always, sandbox: "none", init: []string{"", ""}, main: []string{""}}, "KillPod CreateSandbox SandboxID= Init[0]"},
		{"the sandbox died", scene{policy: always, sandbox: "dead", main: []string{"exit0"}}, "KillPod CreateSandbox Attempt=3 Start[0]"},
		{"the sandbox died, never restart", scene{policy: never, sandbox: "dead", main: []string{"exit0"}}, "KillPod Attempt=3"},
		{"the sandbox died before anything started, never restart", scene{policy: never, sandbox: "dead", main: []string{""}}, "KillPod CreateSandbox Attempt=3 Start[0]"},
		{"the sandbox died, all succeeded", scene{policy: onFailure, sandbox: "dead", main: []string{"exit0"}}, "KillPod Attempt=3"},
		{"the sandbox died, one succeeded", scene{policy: onFailure, sandbox: "dead", main: []string{"exit0", "exit1"}}, "KillPod CreateSandbox Attempt=3 Start[1]"},
		{"two sandboxes are ready", scene{policy: always, sandbox: "two", main: []string{"run"}}, "KillPod CreateSandbox Attempt=2 Start[0]"},
		{"the sandbox is in the node's network", scene{policy: always, sandbox: "hostnet", main: []string{"run"}}, "KillPod CreateSandbox SandboxID= Attempt=1 Start[0]"},
		{"the sandbox lost its address", scene{policy: always, sandbox: "noip", main: []string{"run"}}, "KillPod CreateSandbox Attempt=1 Start[0]"},
		// Containers.
		{"one has not been made", scene{policy: always, main: []string{"run", ""}}, "Start[1]"},
		{"one was made and never started", scene{policy: never, main: []string{"created", "run"}}, "Start[0]"},
		{"one exited well, always", scene{policy: always, main: []string{"exit0", "run"}}, "Start[0]"},
		{"one exited well, on failure", scene{policy: onFailure, main: []string{"exit0", "run"}}, ""},
		{"one failed, on failure", scene{policy: onFailure, main: []string{"exit1", "run"}}, "Start[0]"},
		{"one failed, never", scene{policy: never, main: []string{"exit1", "run"}}, ""},
		{"all are done", scene{policy: onFailure, main: []string{"exit0", "exit0"}}, "KillPod"},
		{"all failed, never", scene{policy: never, main: []string{"exit1"}}, "KillPod"},
		{"state unknown", scene{policy: always, main: []string{"unknown", "run"}}, "Kill[main0] Start[0]"},
		{"the image changed", scene{policy: always, main: []string{"changed", "run"}}, "Kill[main0] Start[0]"},
		{"the image changed, never restart", scene{policy: never, main: []string{"changed", "run"}}, "Kill[main0] Start[0]"},
		{"liveness failed", scene{policy: always, main: []string{"run", "run"}, probes: probes{liveness: set("main01")}}, "Kill[main0] Start[0]"},
		{"liveness failed, never restart, another runs", scene{policy: never, main: []string{"run", "run"}, probes: probes{liveness: set("main01")}}, "Kill[main0]"},
		{"liveness failed, never restart, alone", scene{policy: never, main: []string{"run"}, probes: probes{liveness: set("main01")}}, "KillPod Kill[main0]"},
		{"startup failed", scene{policy: always, main: []string{"run"}, probes: probes{startup: set("main01")}}, "Kill[main0] Start[0]"},
		{"being deleted", scene{policy: always, main: []string{"exit0", "run"}, deleted: true}, ""},
		// Init containers.
		{"the first init container is to start", scene{policy: always, init: []string{"", ""}, main: []string{""}}, "Init[0]"},
		{"an init container runs", scene{policy: always, init: []string{"run", ""}, main: []string{""}}, ""},
		{"an init container was made and not started", scene{policy: always, init: []string{"created", ""}, main: []string{""}}, "Init[0]"},
		{"the next init container is to start", scene{policy: always, init: []string{"exit0", ""}, main: []string{""}}, "Init[1]"},
		{"an init container failed", scene{policy: always, init: []string{"exit1", ""}, main: []string{""}}, "Init[0]"},
		{"an init container failed, never", scene{policy: never, init: []string{"exit1", ""}, main: []string{""}}, "KillPod"},
		{"an init container's state is unknown", scene{policy: always, init: []string{"unknown"}, main: []string{""}}, "Kill[init0] Init[0]"},
		{"all init containers are done", scene{policy: always, init: []string{"exit0", "exit0"}, main: []string{"", ""}}, "Start[0 1]"},
		{"init containers of a former sandbox do not count", scene{policy: always, init: []string{"oldexit0"}, main: []string{""}}, "Init[0]"},
		{"an init container was cleared away", scene{policy: always, init: []string{"", "exit0"}, main: []string{"run"}}, ""},
		// Sidecars.
		{"a sidecar is to start", scene{policy: never, init: []string{""}, sidecars: map[int]bool{0: true}, main: []string{""}}, "Init[0]"},
		{"a sidecar has not started yet", scene{policy: never, init: []string{"run", ""}, sidecars: map[int]bool{0: true}, main: []string{""}}, ""},
		{"a sidecar has started", scene{policy: never, init: []string{"run", ""}, sidecars: map[int]bool{0: true}, main: []string{""}, probes: probes{started: set("init01")}}, "Init[1]"},
		{"a sidecar died while main runs", scene{policy: never, init: []string{"exit1"}, sidecars: map[int]bool{0: true}, main: []string{"run"}}, "Init[0]"},
		{"a sidecar died while the next init container runs", scene{policy: never, init: []string{"exit1", "run"}, sidecars: map[int]bool{0: true}, main: []string{""}}, "Init[0]"},
		{"a sidecar failed its liveness probe", scene{policy: never, init: []string{"run"}, sidecars: map[int]bool{0: true}, main: []string{"run"}, probes: probes{started: set("init01"), liveness: set("init01")}}, "Kill[init0] Init[0]"},
		{"no sidecar comes back when main is done", scene{policy: never, init: []string{"exit0"}, sidecars: map[int]bool{0: true}, main: []string{"exit0"}}, "KillPod"},
		// Containers with a policy of their own (KEP-5307).
		{"own always in a pod of never", scene{policy: never, own: own(ownAlways, "main0"), main: []string{"exit0", "exit0"}}, "Start[0]"},
		{"own on failure in a pod of never, failed", scene{policy: never, own: own(ownOnFailure, "main0"), main: []string{"exit1", "exit1"}}, "Start[0]"},
		{"own on failure in a pod of always, done", scene{policy: always, own: own(ownOnFailure, "main0"), main: []string{"exit0", "run"}}, ""},
		{"own never in a pod of always", scene{policy: always, own: own(ownNever, "main0"), main: []string{"exit1", "run"}}, ""},
		{"all own never in a pod of always", scene{policy: always, own: own(ownNever, "main0"), main: []string{"exit1"}}, "KillPod"},
		{"own always, liveness failed", scene{policy: never, own: own(ownAlways, "main0"), main: []string{"run"}, probes: probes{liveness: set("main01")}}, "Kill[main0] Start[0]"},
		{"own never, liveness failed", scene{policy: always, own: own(ownNever, "main0"), main: []string{"run", "run"}, probes: probes{liveness: set("main01")}}, "Kill[main0]"},
		{"a rule is for exit codes, not for a failed probe", scene{policy: always, own: own(ownNever, "main0"), rules: rule("main0", "Restart", "NotIn"), main: []string{"run", "run"}, probes: probes{liveness: set("main01")}}, "Kill[main0]"},
		{"the sandbox died, own on failure has succeeded", scene{policy: always, own: own(ownOnFailure, "main0"), sandbox: "dead", main: []string{"exit0", "exit1"}}, "KillPod CreateSandbox Attempt=3 Start[1]"},
		{"the sandbox died, own always has succeeded", scene{policy: onFailure, own: own(ownAlways, "main0"), sandbox: "dead", main: []string{"exit0", "exit0"}}, "KillPod CreateSandbox Attempt=3 Start[0]"},
		{"an init container failed, own never", scene{policy: always, own: own(ownNever, "init0"), init: []string{"exit1"}, main: []string{""}}, "KillPod"},
		{"an init container failed, own on failure", scene{policy: never, own: own(ownOnFailure, "init0"), init: []string{"exit1"}, main: []string{""}}, "Init[0]"},
		{"an init container's state is unknown, own never", scene{policy: always, own: own(ownNever, "init0"), init: []string{"unknown"}, main: []string{""}}, "KillPod"},
		{"an init container's state is unknown, own on failure", scene{policy: never, own: own(ownOnFailure, "init0"), init: []string{"unknown"}, main: []string{""}}, "Kill[init0] Init[0]"},
		// Rules.
		{"a rule fits", scene{policy: never, own: own(ownNever, "main0"), rules: rule("main0", "Restart", "In", 1, 2), main: []string{"exit1"}}, "Start[0]"},
		{"a rule does not fit", scene{policy: always, own: own(ownNever, "main0"), rules: rule("main0", "Restart", "In", 2), main: []string{"exit1", "run"}}, ""},
		{"a rule for all others fits", scene{policy: never, own: own(ownNever, "main0"), rules: rule("main0", "Restart", "NotIn", 2), main: []string{"exit1"}}, "Start[0]"},
		{"a rule for all others does not fit", scene{policy: never, own: own(ownNever, "main0"), rules: rule("main0", "Restart", "NotIn", 1), main: []string{"exit1", "run"}}, ""},
		{"a rule of an init container fits", scene{policy: never, own: own(ownNever, "init0"), rules: rule("init0", "Restart", "In", 1), init: []string{"exit1"}, main: []string{""}}, "Init[0]"},
		// All begin anew (KEP-5532): who caused it goes last.
		{"all begin anew", scene{policy: never, restartAll: true, own: own(ownNever, "main0"), rules: rule("main0", "RestartAllContainers", "In", 1), init: []string{"exit0"}, main: []string{"exit1", "run", "unknown"}}, "Reset[kill main1 kill main2 init0 main0]"},
		{"all begin anew, by an init container", scene{policy: never, restartAll: true, own: own(ownNever, "init0"), rules: rule("init0", "RestartAllContainers", "In", 1), init: []string{"exit1", "created"}, main: []string{"exit0"}}, "Reset[main0 kill init1 init0]"},
		{"all begin anew, but a debugger", scene{policy: always, restartAll: true, main: []string{"run"}, ephemeral: 2, debugging: 1}, "Reset[kill main0]"},
		{"all begin anew, the sandbox died too", scene{policy: never, restartAll: true, sandbox: "dead", main: []string{"exit1"}}, "Attempt=3 Reset[main0]"},
		// Ephemeral containers.
		{"a debugger is to start", scene{policy: always, main: []string{"run"}, ephemeral: 2, debugging: 1}, "Debug[1]"},
		{"a debugger starts beside an init container", scene{policy: always, init: []string{"run"}, main: []string{""}, ephemeral: 1}, "Debug[0]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pod, status := build(c.scene)
			if got := short(computePodActions(pod, status, c.scene.probes, c.scene.restartAll)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// short prints what is not as in a pod that needs nothing.
func short(p podActions) string {
	var parts []string
	add := func(on bool, text string) {
		if on {
			parts = append(parts, text)
		}
	}
	add(p.KillPod, "KillPod")
	add(p.CreateSandbox, "CreateSandbox")
	add(p.SandboxID != "sb", "SandboxID="+p.SandboxID)
	add(p.Attempt != 0, fmt.Sprintf("Attempt=%d", p.Attempt))
	full := p.String()
	kill := full[strings.Index(full, "ContainersToKill:")+len("ContainersToKill:"):]
	kill = kill[:strings.Index(kill, "]")+1]
	add(kill != "[]", "Kill"+kill)
	add(len(p.InitContainersToStart) > 0, fmt.Sprintf("Init%v", p.InitContainersToStart))
	add(len(p.ContainersToStart) > 0, fmt.Sprintf("Start%v", p.ContainersToStart))
	add(len(p.EphemeralContainersToStart) > 0, fmt.Sprintf("Debug%v", p.EphemeralContainersToStart))
	var reset []string
	for _, info := range p.ContainersToReset {
		reset = append(reset, map[bool]string{true: "kill "}[info.kill]+info.name)
	}
	add(len(reset) > 0, fmt.Sprintf("Reset%v", reset))
	return strings.Join(parts, " ")
}

// R71: the hash of a container must not change between versions of the kubelet,
// or an upgrade would restart every container.
func TestHashOfContainerIsStable(t *testing.T) {
	c := &v1.Container{Name: "main", Image: "example.com/app:v1"}
	before := kubecontainer.HashContainer(c)
	c.Env, c.TerminationMessagePath = []v1.EnvVar{{Name: "A"}}, "/dev/x"
	if after := kubecontainer.HashContainer(c); after != before || before != 0xdd393c92 {
		t.Errorf("hash %#x, then %#x with a field that a default may add", before, after)
	}
}

// R71: a container of a pod that is gone from the API still gets its hook and its grace.
func TestAnnotationsBringBackWhatKillingNeeds(t *testing.T) {
	grace := int64(7)
	pod := &v1.Pod{Spec: v1.PodSpec{TerminationGracePeriodSeconds: &grace}}
	c := &v1.Container{Name: "main", Lifecycle: &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 3}}}, TerminationMessagePath: "/m", Ports: []v1.ContainerPort{{ContainerPort: 80}}}
	info := getContainerInfoFromAnnotations(newContainerAnnotations(c, pod, 4))
	if info.RestartCount != 4 || info.Hash != kubecontainer.HashContainer(c) || *info.PodTerminationGracePeriod != 7 || info.PreStopHandler.Sleep.Seconds != 3 || info.TerminationMessagePath != "/m" || info.ContainerPorts[0].ContainerPort != 80 {
		t.Errorf("read back %+v", info)
	}
}
