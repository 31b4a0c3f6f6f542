// Package limitrange is what is true of a LimitRange.
//
// In Kubernetes: SetDefaults_LimitRangeItem and ValidateLimitRange.
package limitrange

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
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
		errs = append(errs, validateType(item.Type, path.Child("type"))...)
		if types.Has(item.Type) {
			errs = append(errs, field.Duplicate(path.Child("type"), item.Type))
		}
		types.Insert(item.Type)
		errs = append(errs, validateNames(item, path)...)
		if item.Type == v1.LimitTypePersistentVolumeClaim {
			_, least := item.Min[v1.ResourceStorage]
			_, most := item.Max[v1.ResourceStorage]
			if !least && !most {
				errs = append(errs, field.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
			}
		}
		errs = append(errs, validateOrder(item, path)...)
		errs = append(errs, validateRatios(item, path.Child("maxLimitRequestRatio"))...)
	}
	return errs
}

func validateType(kind v1.LimitType, path *field.Path) field.ErrorList {
	errs := rule.QualifiedName(string(kind), path)
	if len(errs) > 0 || strings.Contains(string(kind), "/") {
		return errs
	}
	switch kind {
	case v1.LimitTypePod, v1.LimitTypeContainer, v1.LimitTypePersistentVolumeClaim:
		return nil
	}
	return field.ErrorList{field.Invalid(path, kind, "must be a standard limit type or fully qualified")}
}

// validateNames: what is limited of pods and containers is what containers have; a pod has no defaults.
func validateNames(item *v1.LimitRangeItem, path *field.Path) field.ErrorList {
	validate := pod.ValidateResourceName
	if item.Type == v1.LimitTypePod || item.Type == v1.LimitTypeContainer {
		validate = pod.ValidateContainerResourceName
	}
	var errs field.ErrorList
	for _, list := range []struct {
		field     string
		list      v1.ResourceList
		ofDefault bool
	}{
		{"max", item.Max, false}, {"min", item.Min, false}, {"default", item.Default, true},
		{"defaultRequest", item.DefaultRequest, true}, {"maxLimitRequestRatio", item.MaxLimitRequestRatio, false},
	} {
		if list.ofDefault && item.Type == v1.LimitTypePod {
			if len(list.list) > 0 {
				errs = append(errs, field.Forbidden(path.Child(list.field), "may not be specified when `type` is 'Pod'"))
			}
			continue
		}
		for name := range list.list {
			errs = append(errs, validate(name, path.Child(list.field).Key(string(name)))...)
		}
	}
	return errs
}

// bound is one of the numbers that an item gives of a resource.
type bound struct {
	list v1.ResourceList
	path *field.Path
	name string // in messages
}

// validateOrder: min ≤ defaultRequest ≤ default ≤ max, for each resource.
func validateOrder(item *v1.LimitRangeItem, path *field.Path) field.ErrorList {
	least, most := bound{item.Min, path.Child("min"), "min"}, bound{item.Max, path.Child("max"), "max"}
	request, limit := bound{path: path.Child("defaultRequest"), name: "default request"}, bound{path: path.Child("default"), name: "default"}
	if item.Type != v1.LimitTypePod {
		request.list, limit.list = item.DefaultRequest, item.Default
	}
	defaultLimit := limit
	defaultLimit.name = "default limit"
	var errs field.ErrorList
	for _, pair := range []struct{ lower, upper, blamed bound }{
		{least, most, least}, {least, request, request}, {request, most, request}, {request, defaultLimit, request}, {least, limit, bound{least.list, limit.path, ""}},
		{limit, most, bound{most.list, limit.path, ""}},
	} {
		for name, low := range pair.lower.list {
			if high, ok := pair.upper.list[name]; ok && low.Cmp(high) > 0 {
				value := pair.blamed.list[name]
				errs = append(errs, field.Invalid(pair.blamed.path.Key(string(name)), value.String(),
					fmt.Sprintf("%s value %s is greater than %s value %s", pair.lower.name, low.String(), pair.upper.name, high.String())))
			}
		}
	}
	for name, asked := range request.list {
		if most, ok := limit.list[name]; ok && !pod.IsOvercommitAllowed(name) && most.Cmp(asked) != 0 {
			errs = append(errs, field.Invalid(request.path.Key(string(name)), asked.String(), fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", most.String(), asked.String(), name)))
		}
	}
	return errs
}

// validateRatios: a limit is at least its request, and no further from it than max is from min.
func validateRatios(item *v1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, ratio := range item.MaxLimitRequestRatio {
		at := path.Key(string(name))
		if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
			errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
		}
		least, ok := item.Min[name]
		most, found := item.Max[name]
		if !ok || !found {
			continue
		}
		if widest := most.AsApproximateFloat64() / least.AsApproximateFloat64(); ratio.AsApproximateFloat64() > widest {
			errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), widest)))
		}
	}
	return errs
}
