package podsecurity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/pod-security-admission/api"
)

// maxPodsToCheck bounds what one change of a namespace's labels costs.
const maxPodsToCheck = 3000

// extractPodSpec returns what an object makes pods of; nil for one that makes none.
func extractPodSpec(obj runtime.Object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	var template *corev1.PodTemplateSpec
	switch o := obj.(type) {
	case *corev1.PodTemplate:
		template = &o.Template
	case *corev1.ReplicationController:
		template = o.Spec.Template
	case *appsv1.ReplicaSet:
		template = &o.Spec.Template
	case *appsv1.Deployment:
		template = &o.Spec.Template
	case *appsv1.DaemonSet:
		template = &o.Spec.Template
	case *appsv1.StatefulSet:
		template = &o.Spec.Template
	case *batchv1.Job:
		template = &o.Spec.Template
	case *batchv1.CronJob:
		template = &o.Spec.JobTemplate.Spec.Template
	}
	if template == nil {
		return nil, nil
	}
	return &template.ObjectMeta, &template.Spec
}

// isSignificantPodUpdate: of what can change in a pod, images and added ephemeral containers are judged again.
func isSignificantPodUpdate(pod, old *corev1.Pod) bool {
	return imagesDiffer(pod.Spec.Containers, old.Spec.Containers) || imagesDiffer(pod.Spec.InitContainers, old.Spec.InitContainers) ||
		slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool {
			return !slices.ContainsFunc(old.Spec.EphemeralContainers, func(o corev1.EphemeralContainer) bool {
				return o.Name == c.Name && o.Image == c.Image
			})
		})
}

func imagesDiffer(containers, old []corev1.Container) bool {
	return !slices.EqualFunc(containers, old, func(c, o corev1.Container) bool { return c.Image == o.Image })
}

// evaluatePodsInNamespace says which pods a new level would refuse: one line a reason, with the first pod's name.
func (p *podSecurity) evaluatePodsInNamespace(ctx context.Context, namespace string, enforce api.LevelVersion) []string {
	listed, err := p.pods.List(namespace)
	if err != nil {
		return []string{"failed to list pods while checking new PodSecurity enforce level"}
	}
	pods := prioritizePods(listed)
	total, checked := len(pods), 0
	violators := map[string][]string{}
	for _, pod := range pods[:min(total, maxPodsToCheck)] {
		if ctx.Err() != nil {
			break
		}
		checked++
		if result := p.evaluate(enforce, &pod.ObjectMeta, &pod.Spec); !result.Allowed {
			violators[result.ForbiddenReason()] = append(violators[result.ForbiddenReason()], pod.Name)
		}
	}
	var warnings, lines []string
	if checked < total {
		warnings = append(warnings, fmt.Sprintf("new PodSecurity enforce level only checked against the first %d of %d existing pods", checked, total))
	}
	if len(violators) > 0 {
		warnings = append(warnings, fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, enforce.String()))
	}
	for reason, names := range violators {
		lines = append(lines, slices.Min(names)+others(len(names)-1)+": "+reason)
	}
	slices.SortFunc(lines, strings.Compare)
	return append(warnings, lines...)
}

func others(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " (and 1 other pod)"
	}
	return fmt.Sprintf(" (and %d other pods)", n)
}

// prioritizePods puts the further pods of one controller, which are all alike, last.
func prioritizePods(pods []*corev1.Pod) []*corev1.Pod {
	seen := map[types.UID]bool{}
	var first, alike []*corev1.Pod
	for _, pod := range pods {
		owner := metav1.GetControllerOfNoCopy(pod)
		if owner != nil && seen[owner.UID] {
			alike = append(alike, pod)
			continue
		}
		if owner != nil {
			seen[owner.UID] = true
		}
		first = append(first, pod)
	}
	return append(first, alike...)
}
