// Package job is what is true of a Job: defaults, the selector the apiserver
// makes for it, and validation.
//
// In Kubernetes: SetDefaults_Job, ValidateJob* and generateSelector of
// pkg/registry/batch/job.
package job

import (
	"math"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer of a job left out.
func SetDefaults(j *batchv1.Job) {
	spec := &j.Spec
	spec.Scheduling = nil // WorkloadWithJob is a gate that v1.37 has off: nobody can have it yet
	pod.SetDefaultsPodTemplate(&spec.Template)
	if spec.Completions == nil && spec.Parallelism == nil {
		spec.Completions = ptr.To[int32](1)
	}
	setDefault(&spec.Parallelism, 1)
	if spec.BackoffLimitPerIndex != nil {
		setDefault(&spec.BackoffLimit, math.MaxInt32)
	}
	setDefault(&spec.BackoffLimit, 6)
	setDefault(&spec.CompletionMode, batchv1.NonIndexedCompletion)
	setDefault(&spec.Suspend, false)
	if spec.PodFailurePolicy != nil {
		setDefault(&spec.PodReplacementPolicy, batchv1.Failed)
		spec.PodFailurePolicy.Rules = rule.NoneIfEmpty(spec.PodFailurePolicy.Rules)
		for i := range spec.PodFailurePolicy.Rules {
			for j := range spec.PodFailurePolicy.Rules[i].OnPodConditions {
				if p := &spec.PodFailurePolicy.Rules[i].OnPodConditions[j]; p.Status == "" {
					p.Status = v1.ConditionTrue
				}
			}
		}
	}
	setDefault(&spec.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	setDefault(&spec.ManualSelector, false)
	if len(j.Labels) == 0 && spec.Template.Labels != nil {
		// The same map, not a copy: the labels that GenerateSelector gives the pods are the job's as well.
		j.Labels = spec.Template.Labels
	}
}

func setDefault[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// GenerateSelector ties the job to its own pods by its uid: a job of the same
// name made later must not adopt the pods of this one.
func GenerateSelector(j *batchv1.Job) {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	uid := string(j.UID)
	for key, value := range map[string]string{
		batchv1.ControllerUidLabel: uid, batchv1.JobNameLabel: j.Name,
		// The names these labels had before they got a prefix.
		"controller-uid": uid, "job-name": j.Name,
	} {
		if _, ok := j.Spec.Template.Labels[key]; !ok {
			j.Spec.Template.Labels[key] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = uid
	}
}

// IsFinished reports whether the job has ended, and how.
func IsFinished(j *batchv1.Job) (bool, batchv1.JobConditionType) {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == v1.ConditionTrue {
			return true, c.Type
		}
	}
	return false, ""
}
