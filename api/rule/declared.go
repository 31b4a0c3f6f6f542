package rule

import "k8s.io/apimachinery/pkg/util/validation/field"

// Declared marks the errors of a rule that upstream does not write by hand but declares at the type (+k8s:required,
// +k8s:immutable, +k8s:maxLength). There, generated code checks such rules when all the others have been; the apiserver
// tells of their errors last, among each other in the order of the type's fields. Rules of this stage are beta; the library's
// own mark, CoveredByDeclarative, stands on alpha ones too (of metadata, of conditions), which are not in force.
func Declared(errs field.ErrorList) field.ErrorList { return errs.MarkBeta() }
