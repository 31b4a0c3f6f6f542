// Package plugin is the form that all admission plugins have. Each plugin is a folder beside
// this one with a New function, and a line in package admission's table.
//
// In Kubernetes: k8s.io/apiserver/pkg/admission (interfaces.go, errors.go).
package plugin

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/request"
)

// Plugin is one step of admission.
type Plugin struct {
	Name string
	// Operations it wants to see.
	Operations []request.Operation
	// Admit may change a.Object; nil for a plugin that only judges.
	Admit func(ctx context.Context, a *request.AdmissionAttributes) error
	// Sets are the fields that Admit may change, by resource: the record shows what became of them. Given is a
	// field without which it changes nothing; "" if there is none.
	Sets  map[schema.GroupResource][]string
	Given string
	// Validate judges what all plugins have made of it; nil for one that only changes.
	Validate func(ctx context.Context, a *request.AdmissionAttributes) error
}

// Pods is the resource that most plugins are about.
var Pods = schema.GroupResource{Resource: "pods"}

// Handles says whether the plugin wants to see a.
func (p *Plugin) Handles(a *request.AdmissionAttributes) bool {
	return slices.Contains(p.Operations, a.Operation)
}

// Is says whether a is about resource itself (not a subresource) in any version.
func Is(a *request.AdmissionAttributes, group, resource string) bool {
	return a.Subresource == "" && a.Resource.GroupResource() == schema.GroupResource{Group: group, Resource: resource}
}

// Forbidden refuses a, saying why. What is Forbidden already stays as it is.
func Forbidden(a *request.AdmissionAttributes, why error) error {
	if apierrors.IsForbidden(why) {
		return why
	}
	return apierrors.NewForbidden(a.Resource.GroupResource(), nameOf(a), why)
}

// nameOf names the object even before generateName has been followed.
func nameOf(a *request.AdmissionAttributes) string {
	if a.Name != "" {
		return a.Name
	}
	if a.Object != nil {
		if accessor, err := meta.Accessor(a.Object); err == nil {
			if name := accessor.GetName(); name != "" {
				return name
			}
			if prefix := accessor.GetGenerateName(); prefix != "" {
				return prefix
			}
		}
	}
	return "Unknown"
}
