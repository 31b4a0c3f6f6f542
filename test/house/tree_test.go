package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// root is the module's root as seen from this package.
const root = "../.."

// source is one Go file of the tree.
type source struct {
	path      string // from the root: "kubelet/kubelet.go"
	lines     int
	generated bool
	test      bool
	fset      *token.FileSet
	syntax    *ast.File
}

// dir is the package's folder, from the root.
func (s *source) dir() string { return filepath.ToSlash(filepath.Dir(s.path)) }

// imports lists the imports of s as they stand in it.
func (s *source) imports() []string {
	var paths []string
	for _, spec := range s.syntax.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

// load parses every Go file of the tree.
func load(t *testing.T) []*source {
	t.Helper()
	var all []*source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		s, err := parse(path)
		if err == nil {
			all = append(all, s)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d Go files found below %s: is this test in its place?", len(all), root)
	}
	return all
}

func parse(path string) (*source, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, path, data, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	relative, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	return &source{
		path: filepath.ToSlash(relative), lines: strings.Count(string(data), "\n"),
		generated: ast.IsGenerated(syntax), test: strings.HasSuffix(path, "_test.go"), fset: fset, syntax: syntax,
	}, nil
}
