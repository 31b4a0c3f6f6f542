package cel

import (
	"sync"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"hyperkube/api/admissionregistration/match"
)

// shared compiles for all objects that define no variables.
var shared = sync.OnceValue(NewCompiler)

// Admission compiles the expressions of one webhook configuration or policy. composed: it defines variables, in whose order the
// expressions come.
func Admission(composed bool) match.Compile {
	own := func() (*Compiler, error) { return shared(), nil }
	if composed {
		own = sync.OnceValues(NewCompositedCompiler)
	}
	return func(e match.Expression) field.ErrorList {
		c, err := shared(), error(nil)
		if !e.Alone {
			c, err = own()
		}
		if err != nil {
			return field.ErrorList{field.InternalError(e.Path, err)}
		}
		mode := environment.NewExpressions
		if e.Stored {
			mode = environment.StoredExpressions
		}
		options := OptionalVariableDeclarations{HasParams: e.Params, HasAuthorizer: e.Authorizer, HasPatchTypes: e.Patch}
		if e.Variable != "" {
			return failure(e.Path, e.Text, c.CompileAndStoreVariable(e.Variable, e.Text, options, mode).Error)
		}
		shown := e.Text
		if e.Shown != "" {
			shown = e.Shown
		}
		return failure(e.Path, shown, c.CompileCELExpression(e.Text, returnTypes(e.Result), options, mode).Error)
	}
}

// returnTypes are the types of which an expression in its place must be.
func returnTypes(result match.Result) []*cel.Type {
	switch result {
	case match.Bool:
		return []*cel.Type{cel.BoolType}
	case match.String:
		return []*cel.Type{cel.StringType}
	case match.StringOrNull:
		return []*cel.Type{cel.StringType, cel.NullType}
	case match.ApplyConfiguration:
		return []*cel.Type{cel.ObjectType("Object")}
	case match.JSONPatch:
		return []*cel.Type{cel.ListType(cel.ObjectType("JSONPatch"))}
	}
	return []*cel.Type{cel.AnyType}
}

// failure says what went wrong as a field error.
func failure(path *field.Path, expression string, err *apiservercel.Error) field.ErrorList {
	switch {
	case err == nil:
		return nil
	case err.Type == apiservercel.ErrorTypeRequired:
		return field.ErrorList{field.Required(path, err.Detail)}
	case err.Type == apiservercel.ErrorTypeInvalid:
		return field.ErrorList{field.Invalid(path, expression, err.Detail)}
	}
	return field.ErrorList{field.InternalError(path, err)}
}
