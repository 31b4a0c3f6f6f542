package cel

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/environment"
	dracel "k8s.io/dynamic-resource-allocation/cel"
)

// Device compiles an expression that selects devices, and bounds what evaluating it may cost: a scheduler evaluates it for
// each device of each node.
func Device(expression string, stored bool, path *field.Path) field.ErrorList {
	mode := environment.NewExpressions
	if stored {
		mode = environment.StoredExpressions
	}
	// The library keeps the compiler it makes here for the next call.
	compiler := dracel.GetCompiler(dracel.Features{EnableConsumableCapacity: true})
	result := compiler.CompileCELExpression(expression, dracel.Options{EnvType: &mode})
	if result.Error == nil && result.MaxCost > resourcev1.CELSelectorExpressionMaxCost {
		return field.ErrorList{field.Forbidden(path, "too complex, exceeds cost limit")}
	}
	return failure(path, expression, result.Error)
}
