package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hyperkube/component"
	"hyperkube/flow"
)

const whyUsage = "usage: hyperkube why pod/NAME [-n NAMESPACE]"

type whyOptions struct {
	reader
	Namespace string
}

func (o *whyOptions) AddFlags(flags *pflag.FlagSet) {
	o.reader.AddFlags(flags)
	flags.StringVarP(&o.Namespace, "namespace", "n", "default", "the object's namespace")
}

// runWhy explains the state of a pod on one screen.
func runWhy(ctx context.Context, args []string) error {
	o := &whyOptions{}
	names, err := parseReader("why", whyUsage, o, args)
	if err != nil {
		return err
	}
	kind, name, err := splitTypeName(names)
	if err != nil || !slices.Contains([]string{"pod", "pods", "po"}, strings.ToLower(kind)) {
		return &component.UsageError{Err: errors.New(whyUsage)}
	}
	_, set, err := o.connect("why")
	if err != nil {
		return err
	}
	pod, err := set.CoreV1().Pods(o.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	reasons := explainPod(pod, lastAttempt(ctx, set, pod), time.Now())
	if o.Output == "json" {
		return printJSON(reasons)
	}
	printReasons(os.Stdout, reasons)
	return nil
}

// lastAttempt is what the scheduler said of the pod last, from the record; "" if there is
// none: an apiserver without a record has only the pod's condition.
func lastAttempt(ctx context.Context, set kubernetes.Interface, pod *corev1.Pod) string {
	var story flow.Story
	query := url.Values{"kind": {"Pod"}, "namespace": {pod.Namespace}, "name": {pod.Name}}
	if ask(ctx, set, "/debug/flow/trace", query, &story) != nil {
		return ""
	}
	said := ""
	for _, n := range story.Flat() {
		if n.Component == "scheduler" && n.What == "schedule" && n.Object == "Pod "+pod.Namespace+"/"+pod.Name {
			said = fmt.Sprintf("%s (attempt at %s, %s)", n.Detail+n.Error, n.Time.Format(time.TimeOnly), n.Source)
		}
	}
	return said
}

// reason is one answer to "why".
type reason struct {
	// Question is what is asked: "Pending", "not Ready", "restarted", "Terminating", "last changed".
	Question string   `json:"question"`
	Answers  []string `json:"answers"`
}

func printReasons(w io.Writer, reasons []reason) {
	for _, r := range reasons {
		fmt.Fprintf(w, "%s\n", r.Question)
		for _, answer := range r.Answers {
			fmt.Fprintf(w, "  %s\n", answer)
		}
	}
}

// explainPod says why a pod is as it is, what holds it up first:
//
//	Step 1: is it leaving, and who holds it?
//	Step 2: has it no node?
//	Step 3: which containers do not run, or are not ready?
//	Step 4: which have been restarted, and what ended them?
//	Step 5: who last changed which part of it?
func explainPod(pod *corev1.Pod, attempt string, now time.Time) []reason {
	reasons := []reason{{Question: fmt.Sprintf("pod %s/%s: %s on %s", pod.Namespace, pod.Name, pod.Status.Phase, orNone(pod.Spec.NodeName))}}
	add := func(question string, answers []string) {
		if len(answers) > 0 {
			reasons = append(reasons, reason{question, answers})
		}
	}
	// Step 1
	add("Terminating, because", terminating(pod, now))
	// Step 2
	if pod.Spec.NodeName == "" {
		add("Pending, because", unscheduled(pod, attempt))
	}
	// Step 3
	add("not Ready, because", unready(pod))
	// Step 4
	add("restarted, because", restarted(pod))
	// Step 5
	add("last changed by", changers(pod.ManagedFields, now))
	return reasons
}

func orNone(node string) string {
	if node == "" {
		return "no node"
	}
	return node
}

func terminating(pod *corev1.Pod, now time.Time) (answers []string) {
	if pod.DeletionTimestamp == nil {
		return nil
	}
	grace := int64(0)
	if pod.DeletionGracePeriodSeconds != nil {
		grace = *pod.DeletionGracePeriodSeconds
	}
	asked := pod.DeletionTimestamp.Add(-time.Duration(grace) * time.Second)
	answers = append(answers, fmt.Sprintf("it was deleted %s ago, with %d s of grace", now.Sub(asked).Round(time.Second), grace))
	for _, finalizer := range pod.Finalizers {
		answers = append(answers, fmt.Sprintf("finalizer %s: whoever owns that name must remove it", finalizer))
	}
	if len(pod.Finalizers) == 0 && pod.Spec.NodeName != "" {
		answers = append(answers, fmt.Sprintf("the kubelet of %s has not reported that its containers have ended", pod.Spec.NodeName))
	}
	return answers
}

func unscheduled(pod *corev1.Pod, attempt string) (answers []string) {
	for _, gate := range pod.Spec.SchedulingGates {
		answers = append(answers, fmt.Sprintf("scheduling gate %s: whoever set it must remove it", gate.Name))
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			answers = append(answers, c.Reason+": "+c.Message)
		}
	}
	if attempt != "" {
		answers = append(answers, "the scheduler: "+attempt)
	}
	if len(answers) == 0 {
		answers = append(answers, fmt.Sprintf("no scheduler has looked at it yet; it waits for %q: see hyperkube status", pod.Spec.SchedulerName))
	}
	return answers
}

func unready(pod *corev1.Pod) (answers []string) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Spec.NodeName == "" {
		return nil
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch state := s.State; {
		case state.Waiting != nil:
			answers = append(answers, fmt.Sprintf("container %s waits: %s %s", s.Name, state.Waiting.Reason, state.Waiting.Message))
		case state.Terminated != nil && state.Terminated.ExitCode != 0:
			answers = append(answers, fmt.Sprintf("container %s ended: %s", s.Name, ended(state.Terminated)))
		case state.Running != nil && !s.Ready:
			answers = append(answers, fmt.Sprintf("container %s runs, but its readiness (or startup) probe has not succeeded: see its events", s.Name))
		}
	}
	for _, gate := range pod.Spec.ReadinessGates {
		met := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		})
		if !met {
			answers = append(answers, fmt.Sprintf("readiness gate %s: its condition is not True", gate.ConditionType))
		}
	}
	return answers
}

func restarted(pod *corev1.Pod) (answers []string) {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if last := s.LastTerminationState.Terminated; s.RestartCount > 0 && last != nil {
			answers = append(answers, fmt.Sprintf("container %s, %d times; last: %s", s.Name, s.RestartCount, ended(last)))
		}
	}
	return answers
}

// ended says what an exit code means.
func ended(s *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("exit code %d", s.ExitCode)
	switch {
	case s.Reason == "OOMKilled":
		text += ": the kernel killed it, for it had used up its memory limit"
	case s.ExitCode == 137:
		text += ": killed with SIGKILL: it did not end within its grace period, or somebody killed it"
	case s.ExitCode == 143:
		text += ": it was asked to end (SIGTERM)"
	case s.ExitCode == 126 || s.ExitCode == 127:
		text += ": its command cannot be run, or does not exist in the image"
	}
	if s.Message != "" {
		text += ": " + s.Message
	}
	return text
}

// changers tells who owns fields, newest first.
func changers(managed []metav1.ManagedFieldsEntry, now time.Time) (answers []string) {
	managed = slices.Clone(managed)
	slices.SortStableFunc(managed, func(a, b metav1.ManagedFieldsEntry) int { return timeOf(b).Compare(timeOf(a)) })
	for _, m := range managed {
		part := "spec and metadata"
		if m.Subresource != "" {
			part = m.Subresource
		}
		answers = append(answers, fmt.Sprintf("%s: %s (%s), %s ago", m.Manager, part, m.Operation, now.Sub(timeOf(m)).Round(time.Second)))
	}
	return answers
}

func timeOf(m metav1.ManagedFieldsEntry) time.Time {
	if m.Time == nil {
		return time.Time{}
	}
	return m.Time.Time
}
