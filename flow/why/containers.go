package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	corepod "hyperkube/api/core/pod"
)

// notReady explains each container that does not run or is not ready, and the readiness gates.
func notReady(f *podFacts) (findings []Finding) {
	if f.pod.Spec.NodeName == "" || corepod.IsPodTerminal(f.pod) || f.pod.DeletionTimestamp != nil {
		return nil
	}
	if f.node != nil && !f.nodeLease.renewed.IsZero() && !f.nodeLease.alive(f.now) {
		findings = append(findings, Finding{Weight: Trouble, Title: fmt.Sprintf("The kubelet of %s is silent: what is said of the containers is old", f.node.Name),
			Evidence: []string{"its Lease was last renewed " + ago(f.now, f.nodeLease.renewed)}, Remedy: "hyperkube why node/" + f.node.Name})
	}
	statuses := containerStatuses(f.pod)
	if len(statuses) == 0 {
		findings = append(findings, Finding{Weight: Waiting, Title: "The kubelet has not reported any container yet", Evidence: problems(f, "", 2), Remedy: "hyperkube why node/" + f.pod.Spec.NodeName})
	}
	for i := range statuses {
		switch s := &statuses[i]; {
		case s.State.Waiting != nil:
			findings = append(findings, f.containerWaits(s)...)
		case s.State.Running != nil && !s.Ready && !isInit(f.pod, s.Name):
			findings = append(findings, f.probeFails(s))
		case s.State.Running != nil && isInit(f.pod, s.Name) && !s.Ready:
			findings = append(findings, Finding{Weight: Waiting, Title: fmt.Sprintf("Init container %s runs: the others wait for its end", s.Name),
				Evidence: []string{"it runs since " + span(f.now.Sub(s.State.Running.StartedAt.Time))}, Remedy: f.logs(s.Name, "")})
		}
	}
	for _, gate := range f.pod.Spec.ReadinessGates {
		_, c := corepod.GetPodCondition(&f.pod.Status, gate.ConditionType)
		if c != nil && c.Status == corev1.ConditionTrue {
			continue
		}
		said := "nobody has set its condition"
		if c != nil {
			said = fmt.Sprintf("its condition is %s %s %s", c.Status, c.Reason, c.Message)
		}
		findings = append(findings, Finding{Weight: Waiting, Title: "Not Ready: readiness gate " + string(gate.ConditionType), Evidence: []string{strings.TrimSpace(said)}, Remedy: "the controller that owns the condition sets it to True"})
	}
	return findings
}

func containerStatuses(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
}

func containerOf(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func isInit(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}

func (f *podFacts) logs(container, flags string) string {
	return fmt.Sprintf("kubectl logs %s -c %s%s%s", f.pod.Name, container, flags, namespaceFlag(f.pod.Namespace))
}

// aboutContainer says whether an Event is about the container; those of the whole pod are about none.
func aboutContainer(e *corev1.Event, name string) bool {
	return strings.HasSuffix(e.InvolvedObject.FieldPath, "{"+name+"}")
}

// problems are the last warnings about a container (or, for "", about the pod), newest first, a reason once.
func problems(f *podFacts, container string, limit int) (lines []string) {
	seen := map[string]bool{}
	for i := len(f.events) - 1; i >= 0 && len(lines) < limit; i-- {
		e := &f.events[i]
		if e.Type != corev1.EventTypeWarning || e.Reason == "FailedScheduling" || seen[e.Reason+e.Message] || container != "" && !aboutContainer(e, container) {
			continue
		}
		seen[e.Reason+e.Message] = true
		lines = append(lines, oneLine(e.Message, 300)+" ("+f.seen(e)+")")
	}
	return lines
}

var imageReasons = map[string]bool{"ImagePullBackOff": true, "ErrImagePull": true, "InvalidImageName": true, "ErrImageNeverPull": true,
	"ImageInspectError": true, "RegistryUnavailable": true, "SignatureValidationFailed": true}

// containerWaits explains a container that has not begun.
func (f *podFacts) containerWaits(s *corev1.ContainerStatus) []Finding {
	waiting := s.State.Waiting
	switch {
	case imageReasons[waiting.Reason]:
		return []Finding{f.imageTrouble(s)}
	case waiting.Reason == "CrashLoopBackOff":
		return nil // that it ended, and until when it waits, is said of its restarts
	case waiting.Reason == "PodInitializing" && len(f.pod.Spec.InitContainers) > 0:
		return nil // the init container that runs, waits or fails is told
	case waiting.Reason == "ContainerCreating" || waiting.Reason == "PodInitializing" || waiting.Reason == "":
		return []Finding{{Weight: Waiting, Title: fmt.Sprintf("Container %s is being made", s.Name), Evidence: problems(f, "", 2)}}
	}
	finding := Finding{Weight: Trouble, Title: fmt.Sprintf("Container %s cannot be made: %s: %s", s.Name, waiting.Reason, oneLine(waiting.Message, 300)), Evidence: problems(f, s.Name, 1)}
	if waiting.Reason == "CreateContainerConfigError" {
		finding.Remedy = "create what is missing (a ConfigMap, a Secret or a key of one), or mark it optional in the pod"
	}
	return []Finding{finding}
}

// imageAnswers say what an error text of a registry means, the first that matches.
var imageAnswers = []struct {
	text          *regexp.Regexp
	means, remedy string
}{
	{regexp.MustCompile(`(?i)no (match|child).*platform|architecture|exec format`), "the image exists, but not for this node's architecture", "build it for the node's architecture, or choose another node by label kubernetes.io/arch"},
	{regexp.MustCompile(`(?i)unauthorized|401|403|denied|forbidden|authentication required`), "the registry wants other credentials", "name a docker-registry Secret in spec.imagePullSecrets or in the ServiceAccount"},
	{regexp.MustCompile(`(?i)no such host|server misbehaving|lookup .*:`), "the registry's name is not known to the node's DNS", "check the registry's name, and the node's DNS"},
	{regexp.MustCompile(`(?i)connection refused|i/o timeout|deadline exceeded|no route|unreachable|reset by peer`), "the registry does not answer", "check the network from the node to the registry; or load the image: hyperkube image load FILE.tar"},
	{regexp.MustCompile(`(?i)x509|certificate|gave HTTP response`), "the registry's certificate is not trusted, or it speaks plain HTTP", "trust its CA on the node"},
	{regexp.MustCompile(`(?i)not found|manifest unknown|404|name unknown|does not exist`), "the registry has no such image or tag", "correct the image's name and tag in the pod"},
	{regexp.MustCompile(`(?i)toomanyrequests|429|rate limit`), "the registry limits how much is pulled", "log in with a pull secret, or use a mirror"},
	{regexp.MustCompile(`(?i)never pull|NeverPull|not present`), "imagePullPolicy is Never, and the node does not have the image", "load it: hyperkube image load FILE.tar"},
	{regexp.MustCompile(`(?i)invalid|parse`), "the image's name cannot be read", "correct the image's name in the pod"},
}

// imageTrouble explains what stands between a container and its image. While the kubelet backs
// off, the status no longer has the registry's answer: the Event of the failure has.
func (f *podFacts) imageTrouble(s *corev1.ContainerStatus) Finding {
	image := s.Image
	if c := containerOf(f.pod, s.Name); c != nil {
		image = c.Image
	}
	answer := s.State.Waiting.Message
	finding := Finding{Weight: Trouble, Title: fmt.Sprintf("Container %s has no image: %s %s", s.Name, image, s.State.Waiting.Reason)}
	event := lastEvent(f.events, func(e *corev1.Event) bool {
		return e.Reason == "Failed" && aboutContainer(e, s.Name) && !strings.HasPrefix(e.Message, "Error: ")
	})
	if event != nil {
		answer = event.Message
		finding.Evidence = []string{oneLine(answer, 300), f.seen(event)}
	} else if answer != "" {
		finding.Evidence = []string{oneLine(answer, 300)}
	}
	for _, known := range imageAnswers {
		if known.text.MatchString(strings.ReplaceAll(answer, image, "IMAGE")) {
			finding.Title, finding.Remedy = finding.Title+": "+known.means, known.remedy
			break
		}
	}
	for _, secret := range f.missingSecrets {
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("pull secret %s does not exist in namespace %s", secret, f.namespace))
		finding.Remedy = fmt.Sprintf("kubectl create secret docker-registry %s%s …", secret, namespaceFlag(f.namespace))
	}
	return finding
}

// probeFails explains a container that runs and is not ready: which probe, and its last answer.
func (f *podFacts) probeFails(s *corev1.ContainerStatus) Finding {
	kind, probe := "readiness", (*corev1.Probe)(nil)
	if c := containerOf(f.pod, s.Name); c != nil {
		probe = c.ReadinessProbe
		if c.StartupProbe != nil && (s.Started == nil || !*s.Started) {
			kind, probe = "startup", c.StartupProbe
		}
	}
	running := span(f.now.Sub(s.State.Running.StartedAt.Time))
	if probe == nil {
		return Finding{Weight: Waiting, Title: fmt.Sprintf("Not Ready: container %s runs for %s, has no probe, and is about to be Ready", s.Name, running)}
	}
	finding := Finding{Weight: Trouble, Title: fmt.Sprintf("Not Ready: the %s probe of container %s has not succeeded", kind, s.Name)}
	finding.Evidence = append(finding.Evidence, fmt.Sprintf("%s, every %ds, %d failures in a row count; it runs for %s", probeText(probe), max(1, probe.PeriodSeconds), max(1, probe.FailureThreshold), running))
	event := f.lastFailure(s.Name, kind)
	if event == nil {
		finding.Weight = Waiting
		finding.Title = fmt.Sprintf("Not Ready: the %s probe of container %s has not answered yet", kind, s.Name)
		return finding
	}
	finding.Evidence = append(finding.Evidence, oneLine(event.Message, 300), f.seen(event))
	if since, ok := f.failing[kind+" probe of "+s.Name]; ok {
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("without a break since %s (%s): about %d times in a row", since.Format(time.TimeOnly), ago(f.now, since), 1+int(f.now.Sub(since).Seconds())/int(max(1, probe.PeriodSeconds))))
	}
	finding.Remedy = f.logs(s.Name, "") + fmt.Sprintf("; the probe itself is spec.containers[].%sProbe", kind)
	return finding
}

// lastFailure is the newest Event of a failed probe of a kind: "Readiness probe failed: …".
func (f *podFacts) lastFailure(container, kind string) *corev1.Event {
	return lastEvent(f.events, func(e *corev1.Event) bool {
		return e.Reason == "Unhealthy" && aboutContainer(e, container) && strings.HasPrefix(strings.ToLower(e.Message), kind+" probe")
	})
}

func probeText(p *corev1.Probe) string {
	switch {
	case p.HTTPGet != nil:
		scheme := strings.ToLower(string(p.HTTPGet.Scheme))
		if scheme == "" {
			scheme = "http"
		}
		return fmt.Sprintf("it asks GET %s://%s:%s%s", scheme, p.HTTPGet.Host, p.HTTPGet.Port.String(), p.HTTPGet.Path)
	case p.TCPSocket != nil:
		return "it connects to TCP port " + p.TCPSocket.Port.String()
	case p.GRPC != nil:
		return fmt.Sprintf("it asks gRPC port %d", p.GRPC.Port)
	case p.Exec != nil:
		return "it runs " + oneLine(strings.Join(p.Exec.Command, " "), 80)
	}
	return "it does nothing"
}

// ended explains a pod whose containers have ended for good, and one that was put off its node.
func ended(f *podFacts) (findings []Finding) {
	for _, c := range f.pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			findings = append(findings, Finding{Weight: Trouble, Title: "It was put off its node: " + c.Reason, Evidence: []string{oneLine(c.Message, 300) + ", " + ago(f.now, c.LastTransitionTime.Time)}})
		}
	}
	if f.pod.Status.Phase != corev1.PodFailed {
		return findings
	}
	if f.pod.Status.Reason != "" {
		finding := Finding{Weight: Trouble, Title: fmt.Sprintf("Failed: %s: %s", f.pod.Status.Reason, oneLine(f.pod.Status.Message, 300))}
		if f.pod.Status.Reason == "Evicted" {
			finding.Evidence, finding.Remedy = []string{"the kubelet of " + f.pod.Spec.NodeName + " evicted it, to save its node"}, "request what it uses, or give the node more; its owner makes another pod"
		}
		findings = append(findings, finding)
	}
	for _, s := range containerStatuses(f.pod) {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			findings = append(findings, f.endOf(&s, t, "Failed: container "+s.Name))
		}
	}
	return findings
}

// restarted explains the last end of each container that was started again, or is about to be.
func restarted(f *podFacts) (findings []Finding) {
	if f.pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	for _, s := range containerStatuses(f.pod) {
		last := s.LastTerminationState.Terminated
		if s.State.Terminated != nil && (s.State.Terminated.ExitCode != 0 || s.RestartCount > 0) {
			last = s.State.Terminated
		}
		if last == nil {
			continue
		}
		finding := f.endOf(&s, last, fmt.Sprintf("Container %s was restarted %s; last", s.Name, counted(s.RestartCount)))
		backOff := s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
		switch {
		case backOff:
			finding.Title = fmt.Sprintf("CrashLoopBackOff: container %s ended %s times; last", s.Name, fmt.Sprint(s.RestartCount+1)) + strings.TrimPrefix(finding.Title, fmt.Sprintf("Container %s was restarted %s; last", s.Name, counted(s.RestartCount)))
			finding.Evidence = append(finding.Evidence, f.backOff(s.State.Waiting.Message, last))
		case s.State.Running != nil && s.Ready && f.now.Sub(s.State.Running.StartedAt.Time) > 10*time.Minute:
			finding.Weight, finding.Remedy = Note, ""
		}
		findings = append(findings, finding)
	}
	return findings
}

func counted(n int32) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

var backOffText = regexp.MustCompile(`back-off (\S+) restarting`)

// backOff says until when the kubelet waits: the length is in the message it wrote.
func (f *podFacts) backOff(message string, last *corev1.ContainerStateTerminated) string {
	found := backOffText.FindStringSubmatch(message)
	if found == nil {
		return oneLine(message, 150)
	}
	wait, err := time.ParseDuration(found[1])
	if err != nil {
		return oneLine(message, 150)
	}
	until := last.FinishedAt.Add(wait)
	if !until.After(f.now) {
		return fmt.Sprintf("the back-off of %s is over: it is started again any moment", wait)
	}
	return fmt.Sprintf("back-off of %s, until %s (in %s); it doubles up to 5m", wait, until.Format(time.TimeOnly), span(until.Sub(f.now)))
}

// endOf explains how a container ended: exit code, signal, who killed it.
func (f *podFacts) endOf(s *corev1.ContainerStatus, t *corev1.ContainerStateTerminated, head string) Finding {
	meaning, remedy := f.meaning(s, t)
	finding := Finding{Weight: Trouble, Title: fmt.Sprintf("%s: exit code %d, %s", head, t.ExitCode, meaning), Remedy: remedy}
	when := fmt.Sprintf("it ended %s, having run for %s", ago(f.now, t.FinishedAt.Time), span(t.FinishedAt.Sub(t.StartedAt.Time)))
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		when += "; reason " + t.Reason
	}
	finding.Evidence = append(finding.Evidence, when)
	if t.Message != "" {
		finding.Evidence = append(finding.Evidence, "its last words: "+oneLine(t.Message, 300))
	}
	if killed := f.killedBy(s.Name, t); killed != nil {
		if strings.Contains(killed.Message, "probe") {
			finding.Title = fmt.Sprintf("%s: killed by the kubelet, for a probe failed (exit code %d)", head, t.ExitCode)
			finding.Remedy = "mend what the probe asks, or the probe: its timeoutSeconds, failureThreshold, initialDelaySeconds; " + f.logs(s.Name, " --previous")
		}
		finding.Evidence = append(finding.Evidence, "the kubelet killed it: "+oneLine(killed.Message, 200))
		for _, kind := range []string{"liveness", "startup"} {
			if event := f.lastFailure(s.Name, kind); event != nil && strings.Contains(killed.Message, kind) {
				finding.Evidence = append(finding.Evidence, oneLine(event.Message, 250)+" ("+f.seen(event)+")")
			}
		}
	}
	return finding
}

// killedBy is the Event of the kubelet that stopped the container; nil: it ended by itself, or
// somebody else killed it. Of the many ends that share one Event, the last is meant.
func (f *podFacts) killedBy(container string, t *corev1.ContainerStateTerminated) *corev1.Event {
	return lastEvent(f.events, func(e *corev1.Event) bool {
		if e.Reason != "Killing" && e.Reason != "Preempting" || e.Reason == "Killing" && !aboutContainer(e, container) {
			return false
		}
		grace := 30 * time.Second
		if f.pod.Spec.TerminationGracePeriodSeconds != nil {
			grace = time.Duration(*f.pod.Spec.TerminationGracePeriodSeconds) * time.Second
		}
		at := lastSeen(e)
		return !at.After(t.FinishedAt.Add(2*time.Second)) && !at.Before(t.FinishedAt.Add(-grace-5*time.Second)) && at.After(t.StartedAt.Add(-time.Second))
	})
}

// meaning says what an exit code stands for, and what may help.
func (f *podFacts) meaning(s *corev1.ContainerStatus, t *corev1.ContainerStateTerminated) (text, remedy string) {
	logs := f.logs(s.Name, " --previous")
	signal := int(t.Signal)
	if signal == 0 && t.ExitCode > 128 && t.ExitCode < 128+65 {
		signal = int(t.ExitCode) - 128
	}
	killed := f.killedBy(s.Name, t) != nil
	switch {
	case t.Reason == "OOMKilled":
		limit := "its node's memory"
		if c := containerOf(f.pod, s.Name); c != nil && !c.Resources.Limits.Memory().IsZero() {
			limit = "its memory limit of " + c.Resources.Limits.Memory().String()
		}
		return "out of memory: the kernel killed it, for it had used up " + limit, "raise resources.limits.memory, or make it use less"
	case t.Reason == "ContainerCannotRun" || t.Reason == "StartError" || t.ExitCode == 126 || t.ExitCode == 127:
		return "its command does not exist in the image, or cannot be run", "correct command and args in the pod; " + logs
	case signal == int(syscall.SIGKILL) && killed:
		return "SIGKILL: it did not end within its grace period", logs
	case signal == int(syscall.SIGKILL):
		return "SIGKILL, not from the kubelet: somebody on the node or in the container sent it, or the kernel did", logs
	case signal == int(syscall.SIGTERM):
		return "SIGTERM: it was asked to end", logs
	case signal > 0:
		return fmt.Sprintf("signal %d (%s): the program failed", signal, syscall.Signal(signal)), logs
	case t.ExitCode == 0:
		return "it ended by itself, without an error", "a container that is done does not belong under restartPolicy Always: use a Job"
	}
	return "by itself: the program failed", logs
}
