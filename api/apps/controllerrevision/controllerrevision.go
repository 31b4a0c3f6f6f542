// Package controllerrevision is what is true of a ControllerRevision: a snapshot of a
// template that a rollback goes back to.
//
// In Kubernetes: ValidateControllerRevision* of pkg/apis/apps/validation.
package controllerrevision

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// Validate checks a new revision: its data must be an object, which is laid over another.
func Validate(r *appsv1.ControllerRevision) field.ErrorList {
	errs := rule.NonNegative(r.Revision, field.NewPath("revision"))
	path := field.NewPath("data")
	if r.Data.Raw == nil {
		return append(errs, field.Required(path, "data is mandatory"))
	}
	var value any
	if err := json.Unmarshal(r.Data.Raw, &value); err != nil {
		return append(errs, field.Invalid(path, "<value omitted>", fmt.Sprintf("error parsing data: %v", err)))
	}
	if value == nil {
		return append(errs, field.Required(path, "data is mandatory"))
	}
	if _, ok := value.(map[string]any); !ok {
		errs = append(errs, field.Required(path, "data must be a valid JSON object"))
	}
	return errs
}

// ValidateUpdate: a revision may be counted anew, but says for ever what it said.
func ValidateUpdate(r, old *appsv1.ControllerRevision) field.ErrorList {
	errs := rule.NonNegative(r.Revision, field.NewPath("revision"))
	return append(errs, rule.Immutable(r.Data, old.Data, field.NewPath("data"))...)
}
