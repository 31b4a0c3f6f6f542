// Package namespace is what is true of a Namespace: its label, its phase, its
// finalizers.
//
// In Kubernetes: pkg/apis/core/v1/defaults.go (SetDefaults_Namespace) and
// ValidateNamespace* of pkg/apis/core/validation.
package namespace

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// SetDefaults gives the namespace its phase and the label with its own name, by
// which selectors of namespaces find it.
func SetDefaults(ns *v1.Namespace) {
	if ns.Status.Phase == "" {
		ns.Status.Phase = v1.NamespaceActive
	}
	SetNameLabel(ns)
}

// SetNameLabel is done again after a name was generated.
func SetNameLabel(ns *v1.Namespace) {
	if ns.Name == "" || ns.Labels[v1.LabelMetadataName] == ns.Name {
		return
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[v1.LabelMetadataName] = ns.Name
}

// Validate checks the finalizers. The path does not say which is meant; that of ValidateFinalizeUpdate does.
func Validate(ns *v1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for _, name := range ns.Spec.Finalizers {
		errs = append(errs, validateFinalizer(string(name), field.NewPath("spec", "finalizers"))...)
	}
	return errs
}

// ValidateFinalizeUpdate checks what /finalize leaves.
func ValidateFinalizeUpdate(ns, old *v1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, name := range ns.Spec.Finalizers {
		errs = append(errs, validateFinalizer(string(name), field.NewPath("spec", "finalizers").Index(i))...)
	}
	return errs
}

func validateFinalizer(name string, path *field.Path) field.ErrorList {
	errs := rule.QualifiedName(name, path)
	// Names without a domain are Kubernetes' own.
	switch name {
	case string(v1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
		return errs
	}
	if !strings.Contains(name, "/") {
		errs = append(errs, field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified"))
	}
	return errs
}

// ValidateStatusUpdate: a namespace is Terminating exactly when it is being deleted.
func ValidateStatusUpdate(ns, old *v1.Namespace) field.ErrorList {
	path := field.NewPath("status", "Phase")
	if ns.DeletionTimestamp.IsZero() {
		if ns.Status.Phase != v1.NamespaceActive {
			return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
		}
		return nil
	}
	if ns.Status.Phase != v1.NamespaceTerminating {
		return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}
