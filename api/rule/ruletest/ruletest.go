// Package ruletest compares what a validation found with what a test expects:
// the path and the reason of each error, or a part of its words.
package ruletest

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Expect fails the test unless errs are exactly want, in any order. An entry of
// want is the start of an error's text: "spec.containers: Required value".
func Expect(t testing.TB, errs field.ErrorList, want ...string) {
	t.Helper()
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	for _, w := range want {
		i := slices.IndexFunc(texts, func(text string) bool { return matches(text, w) })
		if i < 0 {
			t.Errorf("no error %q among %q", w, texts)
			continue
		}
		texts = slices.Delete(texts, i, i+1)
	}
	if len(texts) > 0 {
		t.Errorf("unexpected errors: %q", texts)
	}
}

// matches: want is "<field>: <Reason>" and may go on with "… <words>" that occur anywhere in the text.
func matches(text, want string) bool {
	start, words, _ := strings.Cut(want, " … ")
	return strings.HasPrefix(text, start) && strings.Contains(text, words)
}
