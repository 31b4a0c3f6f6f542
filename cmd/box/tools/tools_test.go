package tools

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a tool on input and returns what it printed and its status.
func run(t *testing.T, input string, argv ...string) (string, int) {
	t.Helper()
	var out, errs strings.Builder
	tool := table()[argv[0]]
	if tool == nil {
		t.Fatalf("no tool %q", argv[0])
	}
	status := tool(&call{name: argv[0], args: argv[1:], in: strings.NewReader(input), out: &out, err: &errs})
	if errs.Len() > 0 {
		t.Logf("stderr: %s", errs.String())
	}
	return out.String(), status
}

// The demo image's tools do what the usual options of the usual programs do.
func TestTools(t *testing.T) {
	for _, test := range []struct {
		name, input string
		argv        []string
		want        string
		status      int
	}{
		{"cut fields", "a:b:c\n", []string{"cut", "-d:", "-f1,3"}, "a:c\n", 0},
		{"cut range", "abcdef\n", []string{"cut", "-c2-4"}, "bcd\n", 0},
		{"grep found", "one\ntwo\n", []string{"grep", "-n", "w"}, "2:two\n", 0},
		{"grep not found", "one\n", []string{"grep", "x"}, "", 1},
		{"grep bad expression", "one\n", []string{"grep", "-E", "("}, "", 2},
		{"grep inverted count", "a\nb\nc\n", []string{"grep", "-vc", "b"}, "2\n", 0},
		{"grep basic plus is literal", "a+b\naab\n", []string{"grep", "a+b"}, "a+b\n", 0},
		{"sed groups", "a b\n", []string{"sed", `s/\(a\) \(b\)/\2 \1/`}, "b a\n", 0},
		{"sed extended groups", "a b\n", []string{"sed", "-E", `s/(a) (b)/[&] \2/`}, "[a b] b\n", 0},
		{"sed first only", "aaa\n", []string{"sed", "s/a/b/"}, "baa\n", 0},
		{"sed all", "a/a\n", []string{"sed", "s|/|-|g"}, "a-a\n", 0},
		{"sed range", "1\n2\n3\n4\n", []string{"sed", "-n", "2,3p"}, "2\n3\n", 0},
		{"sed from expression to end", "1\n2\n3\n", []string{"sed", "/2/,$d"}, "1\n", 0},
		{"sed unknown command", "", []string{"sed", "y/a/b/"}, "", 1},
		{"head old form", "1\n2\n3\n", []string{"head", "-2"}, "1\n2\n", 0},
		{"tail from line", "1\n2\n3\n", []string{"tail", "-n", "+2"}, "2\n3\n", 0},
		{"wc lines", "a b\nc\n", []string{"wc", "-l"}, "2\n", 0},
		{"wc usual", "a b\nc\n", []string{"wc"}, "2 3 6\n", 0},
		{"seq down", "", []string{"seq", "3", "-1", "1"}, "3\n2\n1\n", 0},
		{"sort numbers once", "10\n9\n9\n", []string{"sort", "-nu"}, "9\n10\n", 0},
		{"tr range", "abc\n", []string{"tr", "a-z", "A-Z"}, "ABC\n", 0},
		{"printf through the shell", "", []string{"printf", "%s=%d\\n", "a", "3"}, "a=3\n", 0},
		{"test false", "", []string{"test", "1", "=", "2"}, "", 1},
		{"echo without newline", "", []string{"echo", "-n", "x"}, "x", 0},
		{"unknown option", "", []string{"cut", "-q"}, "", 1},
		{"date format", "", []string{"date", "-u", "+%%"}, "%\n", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, status := run(t, test.input, test.argv...)
			if got != test.want || status != test.status {
				t.Errorf("got %q, status %d; want %q, status %d", got, status, test.want, test.status)
			}
		})
	}
}

func TestShell(t *testing.T) {
	for _, test := range []struct {
		script, want string
		status       int
	}{
		{`for i in a b; do echo "$i"; done`, "a\nb\n", 0},
		{`exit 7`, "", 7},
		{`x=$(echo hi); echo "${x}!"`, "hi!\n", 0},
		{`[ -n "" ] || echo empty`, "empty\n", 0},
		{`if`, "", 2},
	} {
		got, status := run(t, "", "sh", "-c", test.script)
		if got != test.want || status != test.status {
			t.Errorf("%q: got %q, status %d; want %q, status %d", test.script, got, status, test.want, test.status)
		}
	}
	if got, _ := run(t, "", "sh", "-c", `echo "$0 $1"`, "name", "arg"); !strings.Contains(got, "arg") {
		t.Errorf("arguments after -c: got %q", got)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "file")
	for _, argv := range [][]string{
		{"mkdir", "-p", filepath.Join(dir, "sub")}, {"touch", file}, {"chmod", "640", file},
		{"cp", "-r", filepath.Join(dir, "sub"), filepath.Join(dir, "copy")}, {"mv", filepath.Join(dir, "copy"), filepath.Join(dir, "moved")},
		{"ln", "-s", file, filepath.Join(dir, "link")},
	} {
		if _, status := run(t, "", argv...); status != 0 {
			t.Fatalf("%v: status %d", argv, status)
		}
	}
	if got, _ := run(t, "", "stat", "-c", "%a %F", file); got != "640 regular file\n" {
		t.Errorf("stat: %q", got)
	}
	if got, _ := run(t, "", "ls", dir); got != "link\nmoved\nsub\n" {
		t.Errorf("ls: %q", got)
	}
	if _, status := run(t, "", "rm", "-r", filepath.Join(dir, "moved")); status != 0 {
		t.Error("rm -r failed")
	}
	if _, err := os.Stat(filepath.Join(dir, "moved")); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	if _, status := run(t, "", "rm", filepath.Join(dir, "moved")); status != 1 {
		t.Error("rm of what does not exist succeeded")
	}
}

// A mode is given in octal or by letters, as chmod takes it.
func TestChangedMode(t *testing.T) {
	for _, test := range []struct {
		change     string
		from, want os.FileMode
	}{
		{"600", 0o777, 0o600}, {"u+x", 0o644, 0o744}, {"go-rw", 0o666, 0o600}, {"a=r", 0o777, 0o444}, {"+x", 0o600, 0o711}, {"u=rw,o-r", 0o744, 0o640},
	} {
		got, err := changedMode(test.change, test.from)
		if err != nil || got != test.want {
			t.Errorf("%s of %o: got %o, %v; want %o", test.change, test.from, got, err, test.want)
		}
	}
	if _, err := changedMode("rwx", 0o600); err == nil {
		t.Error("a mode without + - = was accepted")
	}
}
