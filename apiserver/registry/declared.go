package registry

import (
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// inOrder is the order in which a client is told of errors: what is written by hand first, each but once; then
// what upstream declares at the type (+k8s:required, +k8s:maxLength …) and generates. A rule that is declared there
// marks its errors so (rule.Declared), and stands here in the order of the type's fields.
func inOrder(errs field.ErrorList) field.ErrorList {
	seen := sets.New[string]()
	var written, declared field.ErrorList
	for _, err := range errs {
		if err.IsBeta() {
			declared = append(declared, err)
		} else if text := err.Error(); !seen.Has(text) {
			seen.Insert(text)
			written = append(written, err)
		}
	}
	return append(written, declared...)
}
