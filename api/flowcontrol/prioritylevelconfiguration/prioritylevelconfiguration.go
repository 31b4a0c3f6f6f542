// Package prioritylevelconfiguration is what is true of a PriorityLevelConfiguration.
//
// In Kubernetes: pkg/apis/flowcontrol (v1/defaults.go, validation/validation.go).
package prioritylevelconfiguration

import (
	"fmt"
	"math"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/flowcontrol/bootstrap"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer left out.
func SetDefaults(p *flowcontrolv1.PriorityLevelConfiguration) {
	spec := &p.Spec
	if spec.Exempt != nil {
		setDefault(&spec.Exempt.NominalConcurrencyShares, 0)
		setDefault(&spec.Exempt.LendablePercent, 0)
	}
	if spec.Limited == nil {
		return
	}
	setDefault(&spec.Limited.NominalConcurrencyShares, 30)
	setDefault(&spec.Limited.LendablePercent, 0)
	if q := spec.Limited.LimitResponse.Queuing; q != nil {
		for _, d := range []struct {
			field *int32
			value int32
		}{{&q.HandSize, 8}, {&q.Queues, 64}, {&q.QueueLengthLimit, 50}} {
			if *d.field == 0 {
				*d.field = d.value
			}
		}
	}
}

func setDefault(field **int32, value int32) {
	if *field == nil {
		*field = &value
	}
}

// preserveZero told, in v1beta3, a zero from nothing; v1 can tell them apart.
const preserveZero = "flowcontrol.k8s.io/preserve-zero-concurrency-shares"

// Validate checks a priority level on its own.
func Validate(p *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	path, spec := field.NewPath("spec"), &p.Spec
	var errs field.ErrorList
	if _, ok := p.Annotations[preserveZero]; ok {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "annotations"), fmt.Sprintf("annotation '%s' is forbidden", preserveZero)))
	}
	if (p.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt) != (spec.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(path.Child("type"), spec.Type, "must be 'Exempt' if and only if `name` is 'exempt'"))
	}
	switch spec.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if e := spec.Exempt; e != nil {
			errs = append(errs, validateShares(e.NominalConcurrencyShares, path.Child("exempt"))...)
			errs = append(errs, validateLendable(e.LendablePercent, path.Child("exempt"))...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if spec.Limited != nil {
			errs = append(errs, validateLimited(spec.Limited, path.Child("limited"))...)
		}
	case "":
	default:
		errs = append(errs, field.NotSupported(path.Child("type"), spec.Type,
			[]flowcontrolv1.PriorityLevelEnablement{flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited}))
	}
	errs = append(errs, validateFixed(p, path)...)
	errs = append(errs, ValidateStatus(p)...)
	return append(errs, validateMode(spec, path)...)
}

// validateMode: the type says which of the two shapes may be there. This is declared; shapes are told of before the type.
func validateMode(spec *flowcontrolv1.PriorityLevelConfigurationSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.Type != flowcontrolv1.PriorityLevelEnablementExempt && spec.Exempt != nil {
		errs = append(errs, field.Forbidden(path.Child("exempt"), ""))
	}
	switch limited := spec.Type == flowcontrolv1.PriorityLevelEnablementLimited; {
	case limited && spec.Limited == nil:
		errs = append(errs, field.Required(path.Child("limited"), ""))
	case !limited && spec.Limited != nil:
		errs = append(errs, field.Forbidden(path.Child("limited"), ""))
	}
	errs = append(errs, rule.NonEmpty(string(spec.Type), path.Child("type"))...)
	if spec.Limited != nil {
		errs = append(errs, validateResponseMode(&spec.Limited.LimitResponse, path.Child("limited", "limitResponse"))...)
	}
	return errs.MarkBeta()
}

// validateResponseMode: only a level that queues says how.
func validateResponseMode(r *flowcontrolv1.LimitResponse, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch queues := r.Type == flowcontrolv1.LimitResponseTypeQueue; {
	case queues && r.Queuing == nil:
		errs = append(errs, field.Required(path.Child("queuing"), ""))
	case !queues && r.Queuing != nil:
		errs = append(errs, field.Forbidden(path.Child("queuing"), ""))
	}
	return append(errs, rule.NonEmpty(string(r.Type), path.Child("type"))...)
}

// validateFixed holds the mandatory levels to what they must be.
func validateFixed(p *flowcontrolv1.PriorityLevelConfiguration, path *field.Path) field.ErrorList {
	if !bootstrap.Mandatory(p.Name) {
		return nil
	}
	for _, fixed := range bootstrap.PriorityLevelConfigurations() {
		if fixed.Name != p.Name {
			continue
		}
		spec, message := p.Spec.DeepCopy(), "spec of '%s' must equal the fixed value"
		if p.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt {
			spec.Exempt, message = fixed.Spec.Exempt, "spec of '%s' except the 'spec.exempt' field must equal the fixed value"
		}
		if !equality.Semantic.DeepEqual(*spec, fixed.Spec) {
			return field.ErrorList{field.Invalid(path, rule.Untagged(p.Spec), fmt.Sprintf(message, p.Name))}
		}
	}
	return nil
}

func validateShares(shares *int32, path *field.Path) field.ErrorList {
	if n := ptr.Deref(shares, 0); n < 0 {
		return field.ErrorList{field.Invalid(path.Child("nominalConcurrencyShares"), n, "must be a non-negative integer")}
	}
	return nil
}

func validateLendable(lendable *int32, path *field.Path) field.ErrorList {
	if n := ptr.Deref(lendable, 0); n < 0 || n > 100 {
		return field.ErrorList{field.Invalid(path.Child("lendablePercent"), n, "must be between 0 and 100, inclusive")}
	}
	return nil
}

func validateLimited(limited *flowcontrolv1.LimitedPriorityLevelConfiguration, path *field.Path) field.ErrorList {
	errs := validateShares(limited.NominalConcurrencyShares, path)
	errs = append(errs, validateResponse(&limited.LimitResponse, path.Child("limitResponse"))...)
	errs = append(errs, validateLendable(limited.LendablePercent, path)...)
	if n := limited.BorrowingLimitPercent; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("borrowingLimitPercent"), *n, "if specified, must be a non-negative integer"))
	}
	return errs
}

func validateResponse(r *flowcontrolv1.LimitResponse, path *field.Path) field.ErrorList {
	switch r.Type {
	case "", flowcontrolv1.LimitResponseTypeReject:
	case flowcontrolv1.LimitResponseTypeQueue:
		if r.Queuing != nil {
			return validateQueuing(r.Queuing, path.Child("queuing"))
		}
	default:
		return field.ErrorList{field.NotSupported(path.Child("type"), r.Type,
			[]flowcontrolv1.LimitResponseType{flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject})}
	}
	return nil
}

const (
	maxQueues   = 10 * 1000 * 1000
	maxHashBits = 60 // of a request's hash, by which its hand is dealt
)

func validateQueuing(q *flowcontrolv1.QueuingConfiguration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	positive := func(n int32, name string) bool {
		if n <= 0 {
			errs = append(errs, field.Invalid(path.Child(name), n, "must be positive"))
		}
		return n > 0
	}
	positive(q.QueueLengthLimit, "queueLengthLimit")
	if positive(q.Queues, "queues") && q.Queues > maxQueues {
		errs = append(errs, field.Invalid(path.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
	}
	switch {
	case !positive(q.HandSize, "handSize"):
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(path.Child("handSize"), q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
	case math.Ceil(math.Log2(float64(q.Queues))*float64(q.HandSize)) > maxHashBits:
		errs = append(errs, field.Invalid(path.Child("handSize"), q.HandSize,
			fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, maxHashBits)))
	}
	return errs
}

// ValidateStatus checks the conditions.
func ValidateStatus(p *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	path := field.NewPath("status", "conditions")
	seen := sets.New[flowcontrolv1.PriorityLevelConfigurationConditionType]()
	var errs field.ErrorList
	for i, c := range p.Status.Conditions {
		errs = append(errs, rule.OnceNamed(string(c.Type), seen.Has(c.Type), path.Index(i).Child("type"))...)
		seen.Insert(c.Type)
	}
	return errs
}
