package registry

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// TestInOrder: a rule that is told of twice is told of once; what is declared comes last, unless it is not in force yet.
func TestInOrder(t *testing.T) {
	a, b := field.NewPath("a"), field.NewPath("b")
	got := inOrder(field.ErrorList{
		field.Required(a, "").MarkBeta(), field.Invalid(b, 1, "odd").MarkCoveredByDeclarative(), field.Invalid(b, 1, "odd"), field.Invalid(b, 2, "odd"),
	})
	want := []string{"b: Invalid value: 1: odd", "b: Invalid value: 2: odd", "a: Required value"}
	if len(got) != len(want) {
		t.Fatal(got)
	}
	for i, err := range got {
		if err.Error() != want[i] {
			t.Errorf("%d: %s, want %s", i, err, want[i])
		}
	}
}
