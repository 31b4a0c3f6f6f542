// Package cel compiles the expressions that users store in objects: it is the apiserver's one door to CEL.
//
//	a policy, a webhook ──► Admission ──► Compiler ──► environment ──► what is wrong, or a program
//	a device selector   ──► Devices   ──► k8s.io/dynamic-resource-allocation/cel
//
// # The way of an expression
//
//  1. Validation in api/admissionregistration or api/resource meets an expression. It knows where the expression stands, what it
//     may name and what it must give, and hands these to a function (match.Compile, device.Compile): api/ imports no CEL.
//  2. The function is one of this package's two. It looks up the environment: the language, Kubernetes' libraries (quantities,
//     IPs, URLs, the authorizer …) and the variables that may be named here.
//  3. The expression is parsed, its types are checked, its result is compared with what its place needs, and a program is made
//     of it: that, too, can fail (a regular expression in it may be malformed).
//  4. What went wrong becomes a field error. A program is what enforcement will run.
//
// # Nouns
//
// An environment comes as a set of two: for new expressions, which may use only what the release before knew too, so that an
// apiserver can be rolled back; and for stored ones, which may use all that this release knows. A variable of a policy is an
// expression with a name: later ones find its value as variables.<name>, with its type.
//
// # Invariants
//
//   - Nothing is built before the first expression arrives: an environment costs some 10 ms and a few MiB, and most clusters
//     never see an expression. Otherwise each start would pay for it.
//   - A shared Compiler is never extended. One that takes variables lives as long as one object's validation.
//   - This package does not know the kinds it compiles for, nor where an expression stood in them.
//
// Read first: `apiserver/cel/compiler.go:Compiler.CompileCELExpression`, `apiserver/cel/admission.go:Admission`.
//
// # In Kubernetes
//
// The same is in k8s.io/apiserver/pkg/admission/plugin/cel (compile.go, composition.go), which needs the admission packages; the
// environment and the libraries are upstream's own, k8s.io/apiserver/pkg/cel. Upstream prepares eight environments, one for each
// choice of variables, when the first is asked for; here each is made when it is. Rules of CustomResourceDefinitions
// (x-kubernetes-validations) begin with the same BaseEnv.
package cel
