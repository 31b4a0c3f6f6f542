package house

import (
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// citation is `dir/file.go:Symbol`, or `dir/file.go:DOC: name` for a marker inside a function.
var citation = regexp.MustCompile("`([a-z0-9_]+(?:/[A-Za-z0-9_.-]+)*\\.go):([A-Za-z_][A-Za-z0-9_.]*|DOC: [a-z0-9 -]+)`")

// TestAnchors holds that what documents and comments cite exists exactly once.
// Otherwise a tour leads its reader to a line that is not there.
func TestAnchors(t *testing.T) {
	sources := map[string]*source{}
	for _, s := range load(t) {
		sources[s.path] = s
	}
	seen := 0
	for path, text := range texts(t, sources) {
		for _, match := range citation.FindAllStringSubmatch(text, -1) {
			seen++
			file, name := match[1], match[2]
			s := sources[file]
			if s == nil {
				t.Errorf("%s cites %s: no such file", path, match[0])
				continue
			}
			if n := count(t, s, name); n != 1 {
				t.Errorf("%s cites %s: found %d times", path, match[0], n)
			}
		}
	}
	if seen == 0 {
		t.Error("no citation was found: has their form changed?")
	}
}

// texts are all Markdown files and all Go files, by path.
func texts(t *testing.T, sources map[string]*source) map[string]string {
	t.Helper()
	all := map[string]string{}
	for path := range sources {
		if path == "test/house/anchors_test.go" {
			continue // it describes the form
		}
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(data)
	}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// count says how often s declares name: a function, Type.Method, Type.Field, type,
// constant or variable.
func count(t *testing.T, s *source, name string) int {
	if strings.HasPrefix(name, "DOC: ") {
		data, err := os.ReadFile(filepath.Join(root, s.path))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(data), "// "+name+"\n")
	}
	n := 0
	for _, decl := range s.syntax.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if symbol(d) == name {
				n++
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				n += countSpec(spec, name)
			}
		}
	}
	return n
}

func countSpec(spec ast.Spec, name string) int {
	n := 0
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, ident := range spec.Names {
			if ident.Name == name {
				n++
			}
		}
	case *ast.TypeSpec:
		if spec.Name.Name == name {
			n++
		}
		structure, ok := spec.Type.(*ast.StructType)
		if !ok {
			return n
		}
		for _, field := range structure.Fields.List {
			for _, ident := range field.Names {
				if spec.Name.Name+"."+ident.Name == name {
					n++
				}
			}
		}
	}
	return n
}
