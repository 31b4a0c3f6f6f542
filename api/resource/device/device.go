// Package device is what the kinds of dynamic resource allocation have in common: selectors, driver configuration, names, taints
// and tolerations; and a DeviceClass, which is made of nothing else.
//
// Much of what these kinds must be is declared at their types: sizes of lists, formats, words, which fields are required. For
// these, k8s.io/api brings a generated validation (Validate_DeviceClassSpec …), the same that upstream runs; Declared takes from
// it what is in force. Here, and in the packages beside, stands what it does not know. A list that is too long is reported by it
// and not looked at further.
//
// In Kubernetes: pkg/apis/resource/validation/validation.go, which still says again what is declared.
package device

import (
	"context"
	"encoding/json"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validate"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Compile says what is wrong with an expression that selects devices. stored: the object had it before. It is the apiserver's:
// api/ knows where expressions stand, not CEL.
type Compile func(expression string, stored bool, path *field.Path) field.ErrorList

// options are the features that generated validation asks for; none of them is on by default.
var options = map[string]bool{"DRAPartitionableDevicesType": false}

// Declared runs a generated validation: of a new object where old is nil, else of an update, of which it checks what has changed.
func Declared[T any](
	generated func(context.Context, operation.Operation, *field.Path, *T, *T) field.ErrorList, obj, old *T, path *field.Path,
) field.ErrorList {
	op := operation.Operation{Type: operation.Create, Options: options}
	if old != nil {
		op.Type = operation.Update
	}
	ctx := context.Background()
	return validate.FilterEnforcedDeclarativeErrors(ctx, generated(ctx, op, path, obj, old), true)
}

// ValidateClass checks a DeviceClass on its own.
func ValidateClass(c *resourcev1.DeviceClass, compile Compile) field.ErrorList {
	return validateClass(&c.Spec, nil, compile)
}

// ValidateClassUpdate checks one that was another before.
func ValidateClassUpdate(c, old *resourcev1.DeviceClass, compile Compile) field.ErrorList {
	return validateClass(&c.Spec, &old.Spec, compile)
}

func validateClass(spec, old *resourcev1.DeviceClassSpec, compile Compile) field.ErrorList {
	path := field.NewPath("spec")
	// Lists that are exactly as before were accepted under the rules of their time.
	storedSelectors := old != nil && equality.Semantic.DeepEqual(spec.Selectors, old.Selectors)
	storedConfig := old != nil && equality.Semantic.DeepEqual(spec.Config, old.Config)
	errs := ValidateSelectors(spec.Selectors, storedSelectors, compile, path.Child("selectors"))
	errs = append(errs, Items(spec.Config, resourcev1.DeviceConfigMaxSize, path.Child("config"),
		func(c *resourcev1.DeviceClassConfiguration, at *field.Path) field.ErrorList {
			return ValidateConfiguration(&c.DeviceConfiguration, storedConfig, at)
		})...)
	return append(errs, Declared(resourcev1.Validate_DeviceClassSpec, spec, old, path)...)
}

// Items checks each item of a list, unless there are too many.
func Items[T any](list []T, most int, path *field.Path, check func(item *T, at *field.Path) field.ErrorList) field.ErrorList {
	if len(list) > most {
		return nil
	}
	var errs field.ErrorList
	for i := range list {
		errs = append(errs, check(&list[i], path.Index(i))...)
	}
	return errs
}

// ValidateSelectors checks which devices are asked for.
func ValidateSelectors(selectors []resourcev1.DeviceSelector, stored bool, compile Compile, path *field.Path) field.ErrorList {
	return Items(selectors, resourcev1.DeviceSelectorsMaxSize, path, func(s *resourcev1.DeviceSelector, at *field.Path) field.ErrorList {
		at = at.Child("cel")
		if s.CEL == nil {
			return field.ErrorList{field.Required(at, "")}
		}
		at = at.Child("expression")
		if len(s.CEL.Expression) > resourcev1.CELSelectorExpressionMaxLength {
			return field.ErrorList{field.TooLong(at, "", resourcev1.CELSelectorExpressionMaxLength)}
		}
		return compile(s.CEL.Expression, stored, at)
	})
}

// ValidateConfiguration checks what is handed to a driver. What is stored may be longer than is allowed now.
func ValidateConfiguration(c *resourcev1.DeviceConfiguration, stored bool, path *field.Path) field.ErrorList {
	at := path.Child("opaque")
	if c.Opaque == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	most := resourcev1.OpaqueParametersMaxLength
	if stored {
		most = len(c.Opaque.Parameters.Raw)
	}
	return ValidateObject(c.Opaque.Parameters, at.Child("parameters"), most)
}

// ValidateObject asks for a JSON object of at most so many bytes. Its value is not shown: it may be secret.
func ValidateObject(raw runtime.RawExtension, path *field.Path, most int) field.ErrorList {
	const omitted = "<value omitted>"
	switch n := len(raw.Raw); {
	case n == 0:
		return field.ErrorList{field.Required(path, "")}
	case n > most:
		return field.ErrorList{field.TooLong(path, "", most)}
	}
	var value any
	if err := json.Unmarshal(raw.Raw, &value); err != nil {
		return field.ErrorList{field.Invalid(path, omitted, "error parsing data as JSON: "+err.Error())}
	}
	switch value.(type) {
	case map[string]any:
		return nil
	case nil:
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.Invalid(path, omitted, "must be a valid JSON object")}
}
