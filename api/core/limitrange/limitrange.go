// Package limitrange is what is true of a LimitRange.
//
// In Kubernetes: SetDefaults_LimitRangeItem and ValidateLimitRange.
package limitrange

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
)

// SetDefaults lets the default limit of containers follow from the maximum, and
// the default request from the default limit, or else from the minimum.
func SetDefaults(l *v1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		if item.Type != v1.LimitTypeContainer {
			continue
		}
		if item.Default == nil {
			item.Default = v1.ResourceList{}
		}
		if item.DefaultRequest == nil {
			item.DefaultRequest = v1.ResourceList{}
		}
		fill(item.Default, item.Max)
		fill(item.DefaultRequest, item.Default)
		fill(item.DefaultRequest, item.Min)
	}
}

func fill(into, from v1.ResourceList) {
	for name, quantity := range from {
		if _, ok := into[name]; !ok {
			into[name] = quantity.DeepCopy()
		}
	}
}

// Validate checks that the numbers of each item can all hold at once.
func Validate(l *v1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	types := sets.New[v1.LimitType]()
	for i := range l.Spec.Limits {
		item, path := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		errs = append(errs, pod.ValidateResourceName(v1.ResourceName(item.Type), path.Child("type"))...)
		if types.Has(item.Type) {
			errs = append(errs, field.Duplicate(path.Child("type"), item.Type))
		}
		types.Insert(item.Type)
		if item.Type == v1.LimitTypePod {
			if len(item.Default) > 0 {
				errs = append(errs, field.Forbidden(path.Child("default"), "may not be specified when `type` is 'Pod'"))
			}
			if len(item.DefaultRequest) > 0 {
				errs = append(errs, field.Forbidden(path.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
			}
		}
		errs = append(errs, validateOrder(item, path)...)
	}
	return errs
}

// validateOrder: min ≤ defaultRequest ≤ default ≤ max, for each resource.
func validateOrder(item *v1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	lists := []struct {
		name string
		list v1.ResourceList
	}{{"min", item.Min}, {"defaultRequest", item.DefaultRequest}, {"default", item.Default}, {"max", item.Max}}
	for i, lower := range lists {
		for name, low := range lower.list {
			at := path.Child(lower.name).Key(string(name))
			errs = append(errs, pod.ValidateResourceQuantityValue(name, low, at)...)
			for _, upper := range lists[i+1:] {
				if high, ok := upper.list[name]; ok && low.Cmp(high) > 0 {
					errs = append(errs, field.Invalid(at, low.String(), fmt.Sprintf("%s value %s is greater than %s value %s", lower.name, low.String(), upper.name, high.String())))
				}
			}
		}
	}
	return errs
}
