package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var spec = field.NewPath("spec")

func validateSubject(s *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateAttributes(s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		errs = append(errs, field.Invalid(spec.Child("user"), s.User, "at least one of user or group must be specified"))
	}
	return errs
}

func validateAttributes(r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) field.ErrorList {
	var errs field.ErrorList
	if r != nil && n != nil {
		errs = append(errs, field.Invalid(spec.Child("nonResourceAttributes"), n, "cannot be specified in combination with resourceAttributes"))
	}
	if r == nil && n == nil {
		errs = append(errs, field.Invalid(spec.Child("resourceAttributes"), n, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if r == nil {
		return errs
	}
	at := spec.Child("resourceAttributes")
	if f := r.FieldSelector; f != nil && f.RawSelector != "" && len(f.Requirements) > 0 {
		errs = append(errs, field.Invalid(at.Child("fieldSelector", "rawSelector"), f.RawSelector, "may not specified at the same time as requirements"))
	}
	if l := r.LabelSelector; l != nil && l.RawSelector != "" && len(l.Requirements) > 0 {
		errs = append(errs, field.Invalid(at.Child("labelSelector", "rawSelector"), l.RawSelector, "may not specified at the same time as requirements"))
	}
	return errs
}

// selectors reads what the asked request would select by. What can't be read selects nothing less: nil
// asks for the right to everything.
func selectors(r *authorizationv1.ResourceAttributes) (fields.Selector, labels.Selector) {
	var fieldSelector fields.Selector
	var labelSelector labels.Selector
	if f := r.FieldSelector; f != nil {
		if parsed, err := fields.ParseSelector(f.RawSelector); err == nil && f.RawSelector != "" {
			fieldSelector = parsed
		}
		var terms []fields.Selector
		for _, q := range f.Requirements {
			if q.Operator == metav1.FieldSelectorOpIn && len(q.Values) == 1 {
				terms = append(terms, fields.OneTermEqualSelector(q.Key, q.Values[0]))
			}
		}
		if len(terms) > 0 {
			fieldSelector = fields.AndSelectors(terms...)
		}
	}
	if l := r.LabelSelector; l != nil {
		if parsed, err := labels.Parse(l.RawSelector); err == nil && l.RawSelector != "" {
			labelSelector = parsed
		}
		for _, q := range l.Requirements {
			operator, known := labelOperators[q.Operator]
			requirement, err := labels.NewRequirement(q.Key, operator, q.Values)
			if !known || err != nil {
				continue
			}
			if labelSelector == nil {
				labelSelector = labels.NewSelector()
			}
			labelSelector = labelSelector.Add(*requirement)
		}
	}
	return fieldSelector, labelSelector
}

var labelOperators = map[metav1.LabelSelectorOperator]selection.Operator{
	metav1.LabelSelectorOpIn:           selection.In,
	metav1.LabelSelectorOpNotIn:        selection.NotIn,
	metav1.LabelSelectorOpExists:       selection.Exists,
	metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
}
