package cel

import (
	"fmt"
	"slices"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// OptionalVariableDeclarations are what an expression may name beside object, oldObject, request and namespaceObject.
type OptionalVariableDeclarations struct {
	// HasParams: params, the object that a binding names.
	HasParams bool
	// HasAuthorizer: authorizer and authorizer.requestResource, which ask whether somebody may do something.
	HasAuthorizer bool
	// HasPatchTypes: Object{…} and JSONPatch{…}, of which a mutation is made.
	HasPatchTypes bool
}

// CompilationResult is a program, or why there is none.
type CompilationResult struct {
	Program    cel.Program
	Error      *apiservercel.Error
	OutputType *cel.Type
}

// Compiler compiles expressions about a request.
type Compiler struct {
	base *environment.EnvSet
	// variables is the type of `variables`, to which each CompileAndStoreVariable adds a field; nil where there are none.
	variables *apiservercel.DeclType

	mu   sync.Mutex
	envs map[OptionalVariableDeclarations]*environment.EnvSet
}

// BaseEnv is what all expressions have in common: the language and Kubernetes' libraries, no variables. It is made once.
func BaseEnv() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
}

// NewCompiler makes a compiler for expressions without variables of their own.
func NewCompiler() *Compiler {
	return &Compiler{base: BaseEnv(), envs: map[OptionalVariableDeclarations]*environment.EnvSet{}}
}

// NewCompositedCompiler makes one whose expressions may name those that were compiled before them.
func NewCompositedCompiler() (*Compiler, error) {
	c := NewCompiler()
	c.variables = apiservercel.NewObjectType("kubernetes.variables", map[string]*apiservercel.DeclField{})
	extended, err := c.base.Extend(always([]cel.EnvOption{cel.Variable("variables", c.variables.CelType())}, c.variables))
	c.base = extended
	return c, err
}

// always are options that each release knows.
func always(options []cel.EnvOption, types ...*apiservercel.DeclType) environment.VersionedOptions {
	return environment.VersionedOptions{IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: options, DeclTypes: types}
}

// CompileCELExpression compiles one expression, whose result must have one of the types; cel.AnyType takes all.
func (c *Compiler) CompileCELExpression(expression string, returnTypes []*cel.Type, options OptionalVariableDeclarations, mode environment.Type) CompilationResult {
	fail := func(kind apiservercel.ErrorType, format string, args ...any) CompilationResult {
		return CompilationResult{Error: &apiservercel.Error{Type: kind, Detail: fmt.Sprintf(format, args...)}}
	}
	env, err := c.env(options, mode)
	if err != nil {
		return fail(apiservercel.ErrorTypeInternal, "unexpected error loading CEL environment: %v", err)
	}
	ast, issues := env.Compile(expression)
	if issues != nil {
		return fail(apiservercel.ErrorTypeInvalid, "compilation failed: %s", issues.String())
	}
	fits := func(t *cel.Type) bool { return ast.OutputType().IsExactType(t) || cel.AnyType.IsExactType(t) }
	switch {
	case slices.ContainsFunc(returnTypes, fits):
	case len(returnTypes) == 1:
		return fail(apiservercel.ErrorTypeInvalid, "must evaluate to %v but got %v", returnTypes[0], ast.OutputType())
	default:
		return fail(apiservercel.ErrorTypeInvalid, "must evaluate to one of %v but got %v", returnTypes, ast.OutputType())
	}
	program, err := env.Program(ast, cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	if err != nil {
		return fail(apiservercel.ErrorTypeInternal, "program instantiation failed: %v", err)
	}
	return CompilationResult{Program: program, OutputType: ast.OutputType()}
}

// CompileAndStoreVariable compiles an expression that later ones may name. One that fails is known to them too, with any type:
// otherwise each mistake in a variable would be reported once more by each expression that uses it.
func (c *Compiler) CompileAndStoreVariable(name, expression string, options OptionalVariableDeclarations, mode environment.Type) CompilationResult {
	result := c.CompileCELExpression(expression, []*cel.Type{cel.AnyType}, options, mode)
	c.variables.Fields[name] = apiservercel.NewDeclField(name, declType(result.OutputType), true, nil, nil)
	return result
}

// env is the environment with the variables asked for, made at the first call.
func (c *Compiler) env(options OptionalVariableDeclarations, mode environment.Type) (*cel.Env, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set, there := c.envs[options]
	if !there {
		var err error
		if set, err = c.extend(options); err != nil {
			return nil, err
		}
		c.envs[options] = set
	}
	return set.Env(mode)
}

func (c *Compiler) extend(options OptionalVariableDeclarations) (*environment.EnvSet, error) {
	request, namespace := BuildRequestType(), BuildNamespaceType()
	declared := []cel.EnvOption{
		cel.Variable("object", cel.DynType),
		cel.Variable("oldObject", cel.DynType),
		cel.Variable("namespaceObject", namespace.CelType()),
		cel.Variable("request", request.CelType()),
	}
	if options.HasParams {
		declared = append(declared, cel.Variable("params", cel.DynType))
	}
	if options.HasAuthorizer {
		declared = append(declared,
			cel.Variable("authorizer", library.AuthorizerType),
			cel.Variable("authorizer.requestResource", library.ResourceCheckType))
	}
	set, err := c.base.Extend(always(declared, namespace, request), environment.StrictCostOpt)
	if err != nil || !options.HasPatchTypes {
		return set, err
	}
	return set.Extend(always([]cel.EnvOption{
		common.ResolverEnvOption(&mutation.DynamicTypeResolver{}),
		environment.UnversionedLib(library.JSONPatch),
	}))
}

// simple are the types that a variable keeps as they are.
var simple = map[*cel.Type]*apiservercel.DeclType{
	cel.AnyType: apiservercel.AnyType, cel.BoolType: apiservercel.BoolType, cel.BytesType: apiservercel.BytesType,
	cel.DoubleType: apiservercel.DoubleType, cel.DurationType: apiservercel.DurationType, cel.IntType: apiservercel.IntType,
	cel.NullType: apiservercel.NullType, cel.StringType: apiservercel.StringType, cel.TimestampType: apiservercel.TimestampType,
	cel.UintType: apiservercel.UintType,
}

// declType is the type under which a variable is known: that of its expression where it is simple, a list or a map; else any.
func declType(t *cel.Type) *apiservercel.DeclType {
	if known, there := simple[t]; there {
		return known
	}
	if t != nil && t.HasTrait(traits.ContainerType) && t.HasTrait(traits.IndexerType) {
		switch p := t.Parameters(); len(p) {
		case 1:
			return apiservercel.NewListType(declType(p[0]), -1)
		case 2:
			return apiservercel.NewMapType(declType(p[0]), declType(p[1]), -1)
		}
	}
	return apiservercel.DynType
}
