// Package podsecurity holds pods to the Pod Security Standards, as the labels of their namespace say: enforce refuses,
// warn tells the client, audit tells the audit log. What each level demands is the library's; when it is asked is here.
//
//	namespace labels ──► policy ─┬─ enforce ──► 403           pods only
//	                             ├─ warn    ──► Warning       pods and what makes pods
//	                             └─ audit   ──► annotation    likewise
//
// In Kubernetes: plugin/pkg/admission/security/podsecurity and k8s.io/pod-security-admission/admission. Left out are
// exemptions and other defaults than privileged, which need a configuration file.
package podsecurity

import (
	"context"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// ignoredPodSubresources can change nothing of a pod that the standards speak of.
var ignoredPodSubresources = map[string]bool{
	"exec": true, "attach": true, "binding": true, "eviction": true, "log": true, "portforward": true, "proxy": true, "status": true,
}

type podSecurity struct {
	namespaces lister.Lister[*corev1.Namespace]
	pods       lister.Lister[*corev1.Pod]
	evaluator  policy.Evaluator
	defaults   api.Policy
}

// New makes the plugin; namespaces is a confirmed lister.
func New(namespaces lister.Lister[*corev1.Namespace], pods lister.Lister[*corev1.Pod]) (plugin.Plugin, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return plugin.Plugin{}, err
	}
	privileged := api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()}
	p := &podSecurity{namespaces, pods, evaluator, api.Policy{Enforce: privileged, Audit: privileged, Warn: privileged}}
	return plugin.Plugin{
		Name:       "PodSecurity",
		Operations: []request.Operation{request.Create, request.Update},
		Validate:   p.validate,
	}, nil
}

func (p *podSecurity) validate(ctx context.Context, a *request.AdmissionAttributes) error {
	switch a.Resource.GroupResource() {
	case schema.GroupResource{Resource: "namespaces"}:
		return p.validateNamespace(ctx, a)
	case schema.GroupResource{Resource: "pods"}:
		return p.validatePod(ctx, a)
	}
	return p.validatePodController(ctx, a)
}

// validateNamespace refuses labels that say nothing known, and warns of pods that a stricter level would refuse: those
// that run already go on.
func (p *podSecurity) validateNamespace(ctx context.Context, a *request.AdmissionAttributes) error {
	namespace, ok := a.Object.(*corev1.Namespace)
	if !ok || a.Subresource != "" {
		return nil
	}
	wanted, errs := api.PolicyToEvaluate(namespace.Labels, p.defaults)
	old, isUpdate := a.OldObject.(*corev1.Namespace)
	if !isUpdate {
		if len(errs) > 0 {
			return apierrors.NewInvalid(a.Kind.GroupKind(), a.Name, errs)
		}
		return nil
	}
	before, oldErrs := api.PolicyToEvaluate(old.Labels, p.defaults)
	if len(errs) > 0 && !reflect.DeepEqual(errs, oldErrs) {
		return apierrors.NewInvalid(a.Kind.GroupKind(), a.Name, errs)
	}
	relaxed := wanted.Enforce.Version == before.Enforce.Version && api.CompareLevels(wanted.Enforce.Level, before.Enforce.Level) < 1
	if wanted.Enforce == before.Enforce || wanted.Enforce.Level == api.LevelPrivileged || relaxed {
		return nil
	}
	for _, warning := range p.evaluatePodsInNamespace(ctx, namespace.Name, wanted.Enforce) {
		request.AddWarning(ctx, warning)
	}
	return nil
}

// validatePod judges new pods, and changes of what the standards speak of.
func (p *podSecurity) validatePod(ctx context.Context, a *request.AdmissionAttributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || ignoredPodSubresources[a.Subresource] {
		return nil
	}
	namespace, err := p.namespaces.Get("", a.Namespace)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to lookup namespace %q", a.Namespace))
	}
	wanted, errs := api.PolicyToEvaluate(namespace.Labels, p.defaults)
	if len(errs) == 0 && wanted.FullyPrivileged() {
		annotate(ctx, api.EnforcedPolicyAnnotationKey, wanted.Enforce.String())
		return nil
	}
	if old, ok := a.OldObject.(*corev1.Pod); ok && a.Operation == request.Update && !isSignificantPodUpdate(pod, old) {
		return nil
	}
	annotate(ctx, api.EnforcedPolicyAnnotationKey, wanted.Enforce.String())
	if len(errs) > 0 {
		annotate(ctx, "error", fmt.Sprintf("Failed to parse policy: %v", errs.ToAggregate()))
	}
	result := p.evaluate(wanted.Enforce, &pod.ObjectMeta, &pod.Spec)
	if !result.Allowed {
		p.tellAudit(ctx, wanted.Audit, &pod.ObjectMeta, &pod.Spec)
		return plugin.Forbidden(a, fmt.Errorf("violates PodSecurity %q: %s", wanted.Enforce.String(), result.ForbiddenDetail()))
	}
	p.tell(ctx, wanted, &pod.ObjectMeta, &pod.Spec)
	return nil
}

// validatePodController tells early what would become of the pods: the client hears of it, since nobody reads the
// answers that a controller gets.
func (p *podSecurity) validatePodController(ctx context.Context, a *request.AdmissionAttributes) error {
	if a.Subresource != "" || a.Object == nil {
		return nil
	}
	meta, spec := extractPodSpec(a.Object)
	if spec == nil {
		return nil
	}
	namespace, err := p.namespaces.Get("", a.Namespace)
	if err != nil {
		annotate(ctx, "error", fmt.Sprintf("failed to lookup namespace %q: %v", a.Namespace, err))
		return nil
	}
	wanted, errs := api.PolicyToEvaluate(namespace.Labels, p.defaults)
	if len(errs) > 0 {
		annotate(ctx, "error", fmt.Sprintf("Failed to parse policy: %v", errs.ToAggregate()))
	}
	p.tell(ctx, wanted, meta, spec)
	return nil
}

// tell puts violations into the audit log and tells the client.
func (p *podSecurity) tell(ctx context.Context, wanted api.Policy, meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	p.tellAudit(ctx, wanted.Audit, meta, spec)
	if result := p.evaluate(wanted.Warn, meta, spec); !result.Allowed {
		request.AddWarning(ctx, fmt.Sprintf("would violate PodSecurity %q: %s", wanted.Warn.String(), result.ForbiddenDetail()))
	}
}

func (p *podSecurity) tellAudit(ctx context.Context, level api.LevelVersion, meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	if result := p.evaluate(level, meta, spec); !result.Allowed {
		annotate(ctx, api.AuditViolationsAnnotationKey, fmt.Sprintf("would violate PodSecurity %q: %s", level.String(), result.ForbiddenDetail()))
	}
}

func (p *podSecurity) evaluate(level api.LevelVersion, meta *metav1.ObjectMeta, spec *corev1.PodSpec) policy.AggregateCheckResult {
	return policy.AggregateCheckResults(p.evaluator.EvaluatePod(level, meta, spec))
}

func annotate(ctx context.Context, key, value string) {
	request.AddAuditAnnotation(ctx, api.AuditAnnotationPrefix+key, value)
}
