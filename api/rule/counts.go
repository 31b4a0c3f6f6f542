package rule

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// Count is a number that a controller reports, under the name of its field.
type Count struct {
	Field string
	N     int64
}

// NonNegativeCounts asks each count to be 0 or more.
func NonNegativeCounts(path *field.Path, counts ...Count) field.ErrorList {
	var errs field.ErrorList
	for _, c := range counts {
		errs = append(errs, NonNegative(c.N, path.Child(c.Field))...)
	}
	return errs
}

// CountsAtMost asks each count to be no more than most, which the message calls by name.
func CountsAtMost(path *field.Path, most int64, name string, counts ...Count) field.ErrorList {
	var errs field.ErrorList
	for _, c := range counts {
		if c.N > most {
			errs = append(errs, field.Invalid(path.Child(c.Field), c.N, fmt.Sprintf("cannot be greater than %s", name)))
		}
	}
	return errs
}

// NotDecremented asks a counter that was once set to stay, and never to fall.
func NotDecremented(count, old *int32, path *field.Path) field.ErrorList {
	if old == nil || (count != nil && *count >= *old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, ptr.Deref(count, 0), "cannot be decremented")}
}
