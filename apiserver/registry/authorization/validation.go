package authorization

import (
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

var spec = field.NewPath("spec")

func validateSubject(s *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateAttributes(s.ResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		errs = append(field.ErrorList{field.Invalid(spec.Child("user"), s.User, "at least one of user or group must be specified")}, errs...)
	}
	return errs
}

// oneOfTwo asks for a resource or a path, and shows the path.
func oneOfTwo(r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) field.ErrorList {
	if (r == nil) != (n == nil) {
		return nil
	}
	return field.ErrorList{field.Invalid(spec, rule.Untagged(n), "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
}

func validateAttributes(r *authorizationv1.ResourceAttributes) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if f, at := r.FieldSelector, spec.Child("resourceAttributes", "fieldSelector"); f != nil {
		errs = append(errs, validateSelector(f.RawSelector, len(f.Requirements), at)...)
		for i, q := range f.Requirements {
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(q,
				metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	if l, at := r.LabelSelector, spec.Child("resourceAttributes", "labelSelector"); l != nil {
		errs = append(errs, validateSelector(l.RawSelector, len(l.Requirements), at)...)
		for i, q := range l.Requirements {
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(q,
				metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	return errs
}

// validateSelector: a selector is said in one of two ways. A word that a newer client may know is let pass; it is
// ignored, which asks for more, never for less.
func validateSelector(raw string, requirements int, path *field.Path) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(path.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(path.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", path))}
	}
	return nil
}

// selectors reads what the asked request would select by. What can't be read selects nothing less: nil
// asks for the right to everything. ignored says, selector by selector, that something was not read.
func selectors(r *authorizationv1.ResourceAttributes) (fieldSelector fields.Selector, labelSelector labels.Selector, ignored []string) {
	tell := func(name string, wrong, partially bool) {
		switch {
		case wrong && partially:
			ignored = append(ignored, fmt.Sprintf("spec.resourceAttributes.%s partially ignored due to parse error", name))
		case wrong:
			ignored = append(ignored, fmt.Sprintf("spec.resourceAttributes.%s ignored due to parse error", name))
		}
	}
	if f := r.FieldSelector; f != nil {
		var wrong bool
		fieldSelector, wrong = readFields(f)
		tell("fieldSelector", wrong, fieldSelector != nil)
	}
	if l := r.LabelSelector; l != nil {
		var wrong bool
		labelSelector, wrong = readLabels(l)
		tell("labelSelector", wrong, labelSelector != nil)
	}
	return fieldSelector, labelSelector, ignored
}

func readFields(f *authorizationv1.FieldSelectorAttributes) (selector fields.Selector, wrong bool) {
	if f.RawSelector != "" {
		parsed, err := fields.ParseSelector(f.RawSelector)
		if err != nil {
			return nil, true
		}
		return parsed, false
	}
	var terms []fields.Selector
	for _, q := range f.Requirements {
		switch {
		case len(q.Values) != 1:
			wrong = true
		case q.Operator == metav1.FieldSelectorOpIn:
			terms = append(terms, fields.OneTermEqualSelector(q.Key, q.Values[0]))
		case q.Operator == metav1.FieldSelectorOpNotIn:
			terms = append(terms, fields.OneTermNotEqualSelector(q.Key, q.Values[0]))
		default:
			wrong = true
		}
	}
	if len(terms) == 0 {
		return nil, wrong
	}
	return fields.AndSelectors(terms...), wrong
}

func readLabels(l *authorizationv1.LabelSelectorAttributes) (selector labels.Selector, wrong bool) {
	if l.RawSelector != "" {
		parsed, err := labels.Parse(l.RawSelector)
		if err != nil {
			return nil, true
		}
		return parsed, false
	}
	for _, q := range l.Requirements {
		operator, known := labelOperators[q.Operator]
		requirement, err := labels.NewRequirement(q.Key, operator, q.Values)
		if !known || err != nil {
			wrong = true
			continue
		}
		if selector == nil {
			selector = labels.NewSelector()
		}
		selector = selector.Add(*requirement)
	}
	return selector, wrong
}

var labelOperators = map[metav1.LabelSelectorOperator]selection.Operator{
	metav1.LabelSelectorOpIn:           selection.In,
	metav1.LabelSelectorOpNotIn:        selection.NotIn,
	metav1.LabelSelectorOpExists:       selection.Exists,
	metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
}
