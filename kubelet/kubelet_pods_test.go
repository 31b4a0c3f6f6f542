package kubelet

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

// A runtime that cannot mount recursively read-only (KEP-3857): who insists on it is
// refused, who would only like it gets the mount without.
func TestRecursiveReadOnly(t *testing.T) {
	for _, c := range []struct {
		mode      v1.RecursiveReadOnlyMode
		readOnly  bool
		supported bool
		want      bool
		err       string
	}{
		{v1.RecursiveReadOnlyEnabled, true, true, true, ""},
		{v1.RecursiveReadOnlyEnabled, true, false, false, `volume "v" requested recursive read-only mode, but it is not supported by the runtime`},
		{v1.RecursiveReadOnlyIfPossible, true, true, true, ""},
		{v1.RecursiveReadOnlyIfPossible, true, false, false, ""},
		{v1.RecursiveReadOnlyDisabled, true, true, false, ""},
		{v1.RecursiveReadOnlyIfPossible, false, true, false, ""},
	} {
		got, err := recursiveReadOnly(v1.VolumeMount{Name: "v", ReadOnly: c.readOnly, RecursiveReadOnly: &c.mode}, c.supported)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if got != c.want || message != c.err {
			t.Errorf("%s, read-only %v, supported %v: %v, %q; want %v, %q", c.mode, c.readOnly, c.supported, got, message, c.want, c.err)
		}
	}
}
