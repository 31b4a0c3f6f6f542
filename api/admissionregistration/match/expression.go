package match

import (
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Result is what an expression must give.
type Result int

const (
	Any                Result = iota
	Bool                      // a condition, a validation
	String                    // a message
	StringOrNull              // the value of an audit annotation
	ApplyConfiguration        // Object{…}
	JSONPatch                 // [JSONPatch{…}, …]
)

// Expression is a CEL expression in its place.
type Expression struct {
	Text string
	Path *field.Path
	// Shown is what an error repeats; "": Text.
	Shown  string
	Result Result
	// Params, Authorizer and Patch: it may name the parameters, the authorizer, the types a mutation is made of.
	Params, Authorizer, Patch bool
	// Alone: it may not name the variables of its object (a condition is looked at before they are).
	Alone bool
	// Variable is the name under which later expressions of the same object find its value; "": none.
	Variable string
	// Stored: the object had it before, so that it may use what a new one may not yet.
	Stored bool
}

// Compile says what is wrong with an expression. It is the apiserver's: api/ knows where expressions stand, not CEL.
type Compile func(Expression) field.ErrorList

// Checker checks the expressions of one object.
type Checker struct {
	Compile Compile
	// Params: the object says of what kind its parameters are.
	Params bool
	// Before are the expressions that the object has had so far; nil at a create.
	Before sets.Set[string]
}

// Check compiles one expression.
func (c Checker) Check(e Expression) field.ErrorList {
	e.Params, e.Stored = c.Params, c.Before.Has(e.Text) || c.Before.Has(e.Shown)
	return c.Compile(e)
}
