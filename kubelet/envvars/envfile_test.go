package envvars

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// KEP-3721: the format, and what is said of what is not in it.
func TestParseEnv(t *testing.T) {
	const at = "invalid environment variable format at line "
	for _, c := range []struct{ file, value, err string }{
		{"KEY='v'", "v", ""},
		{"# KEY='no'\n\n \tKEY='a $b \"c\" \\n' # said\n", `a $b "c" \n`, ""},
		{"OTHER='x'\nKEY='y'\nKEY='z'", "y", ""},
		{"KEY='one\n# two\n\nthree'  \nX='1'", "one\n# two\n\nthree", ""},
		{"OTHER='KEY=1\nKEY=2'\nKEY='3'", "3", ""},
		{"KEY= 'v'", "", ""},
		{"KEY=''", "", ""},
		{"", "", ""},
		{"KEYS='v'", "", ""},
		{"KEY='v'\nnot looked at", "v", ""},
		{"X='1'\nKEY", "", at + "2: missing '='"},
		{"='v'", "", at + "1: empty variable name"},
		{"KEY ='v'", "", at + "1: whitespace before '=' is not allowed"},
		{"KEY=v", "", at + "1: value must be enclosed in single quotes"},
		{"KEY=\"v\"", "", at + "1: value must be enclosed in single quotes"},
		{"KEY='v'w", "", at + "1: unexpected content after closing quote"},
		{"X='a\nb' c\nKEY='v'", "", at + "2: unexpected content after closing quote"},
		{"X='1'\nKEY='v\nw\n", "", "invalid environment variable format starting at line 2: unclosed single quote"},
		{"X='" + strings.Repeat("x", 100_000), "", "token too long"},
	} {
		value, err := ParseEnv(strings.NewReader(c.file), "KEY")
		if value != c.value || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%.40q: %q, %v; want %q, %s", c.file, value, err, c.value, c.err)
		}
	}
}

// What the pod may do in its volume must not lead the kubelet elsewhere, nor hold it.
func TestFileValueStaysInTheVolume(t *testing.T) {
	dir := t.TempDir()
	volume := filepath.Join(dir, "volume")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(volume, "sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "secret"), []byte("KEY='secret'"), 0o600),
		os.WriteFile(filepath.Join(volume, "sub", "env"), []byte("KEY='v'"), 0o600),
		os.Symlink("sub/env", filepath.Join(volume, "link")),
		os.Symlink("../secret", filepath.Join(volume, "out")),
		os.Symlink(filepath.Join(dir, "secret"), filepath.Join(volume, "far")),
		syscall.Mkfifo(filepath.Join(volume, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"sub/env", "link"} {
		if value, err := FileValue(volume, path, "KEY"); value != "v" || err != nil {
			t.Errorf("%s: %q, %v", path, value, err)
		}
	}
	for _, path := range []string{"out", "far", "pipe", "sub"} {
		if value, err := FileValue(volume, path, "KEY"); err == nil {
			t.Errorf("%s: %q", path, value)
		}
	}
	if _, err := FileValue(volume, "none", "KEY"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
