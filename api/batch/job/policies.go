package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// Bounds of the two policies.
const (
	maxRules            = 20
	maxConditions       = 20
	maxExitCodes        = 255
	maxSucceededIndexes = 64 << 10
)

// validateFailurePolicy checks what failed pods mean for the job.
func validateFailurePolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if spec.PodFailurePolicy == nil {
		return nil
	}
	path = path.Child("rules")
	var errs field.ErrorList
	if n := len(spec.PodFailurePolicy.Rules); n > maxRules {
		errs = append(errs, field.TooMany(path, n, maxRules))
	}
	for i := range spec.PodFailurePolicy.Rules {
		errs = append(errs, validateFailureRule(spec, &spec.PodFailurePolicy.Rules[i], path.Index(i))...)
	}
	return errs
}

var actions = []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}

func validateFailureRule(spec *batchv1.JobSpec, r *batchv1.PodFailurePolicyRule, path *field.Path) field.ErrorList {
	errs := wordOf(r.Action, path.Child("action"), actions...)
	if r.Action == batchv1.PodFailurePolicyActionFailIndex && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(path.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
	}
	if r.OnExitCodes != nil {
		errs = append(errs, validateExitCodes(spec, r.OnExitCodes, path.Child("onExitCodes"))...)
	}
	if n := len(r.OnPodConditions); n > maxConditions {
		errs = append(errs, field.TooMany(path.Child("onPodConditions"), n, maxConditions))
	}
	for i, pattern := range r.OnPodConditions {
		at := path.Child("onPodConditions").Index(i)
		errs = append(errs, rule.QualifiedName(string(pattern.Type), at.Child("type"))...)
		errs = append(errs, wordOf(pattern.Status, at.Child("status"), v1.ConditionFalse, v1.ConditionTrue, v1.ConditionUnknown)...)
	}
	switch {
	case r.OnExitCodes != nil && len(r.OnPodConditions) > 0:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case r.OnExitCodes == nil && len(r.OnPodConditions) == 0:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	return errs
}

// wordOf is rule.Supported which tells also who gives nothing what to choose from.
func wordOf[T ~string](value T, path *field.Path, words ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q", words))}
	}
	return rule.OneOf(value, path, words...)
}

func validateExitCodes(spec *batchv1.JobSpec, r *batchv1.PodFailurePolicyOnExitCodesRequirement, path *field.Path) field.ErrorList {
	errs := wordOf(r.Operator, path.Child("operator"), batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	if name := r.ContainerName; name != nil {
		called := func(c v1.Container) bool { return c.Name == *name }
		if !slices.ContainsFunc(spec.Template.Spec.Containers, called) && !slices.ContainsFunc(spec.Template.Spec.InitContainers, called) {
			errs = append(errs, field.Invalid(path.Child("containerName"), *name, "must be one of the container or initContainer names in the pod template"))
		}
	}
	path = path.Child("values")
	switch n := len(r.Values); {
	case n == 0:
		errs = append(errs, field.Invalid(path, r.Values, "at least one value is required"))
	case n > maxExitCodes:
		errs = append(errs, field.TooMany(path, n, maxExitCodes))
	}
	seen := sets.New[int32]()
	for i, code := range r.Values {
		if code == 0 && r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			errs = append(errs, field.Invalid(path.Index(i), code, "must not be 0 for the In operator"))
		}
		if seen.Has(code) {
			errs = append(errs, field.Duplicate(path.Index(i), code))
		}
		seen.Insert(code)
	}
	if !slices.IsSorted(r.Values) {
		errs = append(errs, field.Invalid(path, r.Values, "must be ordered"))
	}
	return errs
}

// validateSuccessPolicy checks which indexes are enough.
func validateSuccessPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if spec.SuccessPolicy == nil {
		return nil
	}
	if !isIndexed(spec) {
		return field.ErrorList{field.Invalid(path, rule.Untagged(spec.SuccessPolicy), "requires indexed completion mode")}
	}
	path = path.Child("rules")
	var errs field.ErrorList
	switch n := len(spec.SuccessPolicy.Rules); {
	case n == 0:
		errs = append(errs, field.Required(path, "at least one rules must be specified when the successPolicy is specified"))
	case n > maxRules:
		errs = append(errs, field.TooMany(path, n, maxRules))
	}
	if spec.Completions == nil {
		return errs // which is an error of its own
	}
	for i := range spec.SuccessPolicy.Rules {
		errs = append(errs, validateSuccessRule(&spec.SuccessPolicy.Rules[i], *spec.Completions, path.Index(i))...)
	}
	return errs
}

func validateSuccessRule(r *batchv1.SuccessPolicyRule, completions int32, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.SucceededCount == nil && r.SucceededIndexes == nil {
		errs = append(errs, field.Required(path, "at least one of succeededCount or succeededIndexes must be specified"))
	}
	total := int32(0)
	if indexes := r.SucceededIndexes; indexes != nil {
		at := path.Child("succeededIndexes")
		if len(*indexes) > maxSucceededIndexes {
			errs = append(errs, field.TooLong(at, "", maxSucceededIndexes))
		}
		var err error
		if total, err = countIndexes(*indexes, completions); err != nil {
			errs = append(errs, field.Invalid(at, *indexes, fmt.Sprintf("error parsing succeededIndexes: %s", err)))
		}
	}
	if n := r.SucceededCount; n != nil {
		at := path.Child("succeededCount")
		errs = append(errs, rule.NonNegative(int64(*n), at)...)
		if *n > completions {
			errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
		}
		if r.SucceededIndexes != nil && *n > total {
			errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
		}
	}
	return errs
}

// countIndexes reads "1,3-5,7": numbers and ranges that only rise, below completions.
func countIndexes(text string, completions int32) (int32, error) {
	if text == "" {
		return 0, nil
	}
	total, last := int32(0), int32(-1)
	for _, part := range strings.Split(text, ",") {
		from, to, err := parseInterval(part, completions)
		if err != nil {
			return 0, err
		}
		if from <= last {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, from)
		}
		total += to - from + 1
		last = to
	}
	return total, nil
}

// parseInterval reads "3" or "3-5".
func parseInterval(text string, completions int32) (from, to int32, err error) {
	if strings.Count(text, "-") > 1 {
		return 0, 0, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	first, second, isRange := strings.Cut(text, "-")
	if from, err = parseIndex(first, completions); err != nil || !isRange {
		return from, from, err
	}
	if to, err = parseIndex(second, completions); err == nil && to <= from {
		err = fmt.Errorf("non-increasing order, previous: %d, current: %d", from, to)
	}
	return from, to, err
}

func parseIndex(text string, completions int32) (int32, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("cannot convert string to integer for index: %q", text)
	}
	if n >= int(completions) {
		return 0, fmt.Errorf("too large index: %q", text)
	}
	return int32(n), nil
}

// overlap is the first index that is in both lists. What cannot be read is passed over: it is refused elsewhere.
func overlap(one, other string, completions int32) (int32, bool) {
	if one == "" || other == "" {
		return 0, false
	}
	ones, others := strings.Split(one, ","), strings.Split(other, ",")
	for len(ones) > 0 && len(others) > 0 {
		from, to, err := parseInterval(ones[0], completions)
		if err != nil {
			ones = ones[1:]
			continue
		}
		otherFrom, otherTo, err := parseInterval(others[0], completions)
		switch {
		case err != nil:
			others = others[1:]
		case from <= otherTo && otherFrom <= to:
			return max(from, otherFrom), true
		case from <= otherFrom:
			ones = ones[1:]
		default:
			others = others[1:]
		}
	}
	return 0, false
}
