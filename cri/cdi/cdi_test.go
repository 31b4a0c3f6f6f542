package cdi

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Of two directories the later counts, two files of one directory make a device nobody's, a file's own edits come once and
// first, and a damaged file matters only to who misses a device.
func TestResolve(t *testing.T) {
	etc, run := t.TempDir(), t.TempDir()
	for file, text := range map[string]string{
		etc + "/a.json": `{"cdiVersion": "0.6.0", "kind": "a.com/x", "containerEdits": {"env": ["ALL=1"]}, "devices": [
			{"name": "one", "containerEdits": {"env": ["ONE=etc"]}}, {"name": "two", "containerEdits": {"env": ["TWO=etc"]}}, {"name": "twice"}]}`,
		etc + "/b.yaml":      "cdiVersion: 0.6.0\nkind: a.com/x\ndevices: [{name: twice}]\n",
		etc + "/c.yaml":      "kind: [",
		etc + "/ignored.txt": "kind: a.com/x",
		run + "/a.yaml":      "cdiVersion: 0.6.0\nkind: a.com/x\ndevices:\n- {name: two, containerEdits: {env: [TWO=run]}}\n- {name: owner, containerEdits: {deviceNodes: [{path: /dev/x, uid: 5}]}}\n- {name: tmp, containerEdits: {mounts: [{type: tmpfs, containerPath: /x}]}}\n- {name: noexec, containerEdits: {mounts: [{hostPath: /, containerPath: /x, options: [noexec]}]}}\n",
	} {
		if err := os.WriteFile(filepath.Clean(file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dirs := []string{"/no/such/directory", etc, run}
	for _, test := range []struct{ names, env, err string }{
		{"a.com/x=one", "[ALL=1 ONE=etc]", ""},
		{"a.com/x=one a.com/x=one", "[ALL=1 ONE=etc]", ""},
		{"a.com/x=one a.com/x=two", "[ALL=1 ONE=etc TWO=run]", ""},
		{"a.com/x=three a.com/x=four", "", "unresolvable CDI devices a.com/x=three, a.com/x=four"},
		{"a.com/x=three", "", "c.yaml"},
		{"a.com/x=twice", "", "b.yaml: another file of that directory describes a.com/x=twice too"},
		{"gpu0", "", `"gpu0" is no name of a CDI device`},
		{"a.com/x=owner", "", "another owner or mode of /dev/x"},
		{"a.com/x=tmp", "", "mounts of type tmpfs"},
		{"a.com/x=noexec", "", "the mount option noexec"},
	} {
		edits, err := Resolve(dirs, strings.Fields(test.names))
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v lacks %q", test.names, err, test.err)
			}
		case err != nil || fmt.Sprint(edits.Env) != test.env:
			t.Errorf("%s: %v, %v, want %s", test.names, edits, err, test.env)
		}
	}
	if got := Names(map[string]string{"cdi.k8s.io/b": "b.com/x=1", "cdi.k8s.io/a": "a.com/x=1, a.com/x=2", "other": "c"}); fmt.Sprint(got) != "[a.com/x=1 a.com/x=2 b.com/x=1]" {
		t.Errorf("names %v", got)
	}
}
