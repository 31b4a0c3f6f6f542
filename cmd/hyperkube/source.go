package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"hyperkube"
	"hyperkube/component"
)

const sourceUsage = `usage: hyperkube source FILE:LINE | [FILE:]SYMBOL | FILE
  hyperkube source scheduler/schedule_one.go:40    the function around that line
  hyperkube source Scheduler.ScheduleOne           a function, method, type, constant or variable
  hyperkube source kubelet/kubelet.go              the whole file`

// runSource prints code of this binary, out of the binary itself.
func runSource(_ context.Context, args []string) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return &component.UsageError{Err: errors.New(sourceUsage)}
	}
	files, err := hyperkube.Source()
	if err != nil {
		return err
	}
	found := findSource(files, args[0])
	switch {
	case len(found) == 0:
		return fmt.Errorf("there is no %s in this binary's source; see: hyperkube source --help", args[0])
	case len(found) > maxPrinted:
		fmt.Printf("%d places have that name; name one of them:\n", len(found))
		for _, p := range found {
			fmt.Printf("  hyperkube source %s:%d\n", p.file, p.first)
		}
		return nil
	}
	for i, p := range found {
		if i > 0 {
			fmt.Println()
		}
		p.print(os.Stdout, files[p.file])
	}
	return nil
}

// maxPrinted is how many places of one name are printed rather than listed.
const maxPrinted = 3

// place is a piece of a file: lines first to last, of which one may be marked.
type place struct {
	file                string
	first, last, marked int
}

// findSource finds what people mean: a file, a line in it, or a symbol.
func findSource(files map[string][]byte, what string) []place {
	name, rest, _ := strings.Cut(what, ":")
	var found []place
	for _, file := range slices.Sorted(maps.Keys(files)) {
		isFile := strings.HasSuffix(name, ".go") && (file == name || path.Base(file) == name || strings.HasSuffix(file, "/"+name))
		line, err := strconv.Atoi(rest)
		switch {
		case isFile && rest == "":
			found = append(found, place{file: file, first: 1, last: bytes.Count(files[file], []byte("\n"))})
		case isFile && err == nil:
			found = append(found, around(file, files[file], line)...)
		case isFile:
			found = append(found, declarations(file, files[file], rest)...)
		case !strings.HasSuffix(name, ".go"):
			found = append(found, declarations(file, files[file], what)...)
		}
	}
	return found
}

// around is the declaration that holds a line; a line outside of all stands with its neighbours.
func around(file string, data []byte, line int) []place {
	if line < 1 || line > bytes.Count(data, []byte("\n")) {
		return nil
	}
	for _, d := range parseFile(file, data) {
		if d.first <= line && line <= d.last {
			d.place.marked = line
			return []place{d.place}
		}
	}
	return []place{{file: file, first: max(1, line-5), last: min(line+5, bytes.Count(data, []byte("\n"))), marked: line}}
}

// declarations are those of a name: F, T.F, pkg.F or pkg.T.F.
func declarations(file string, data []byte, name string) []place {
	// Most files do not have the last part of the name at all: not parsing them saves half a second.
	if !bytes.Contains(data, []byte(name[strings.LastIndex(name, ".")+1:])) {
		return nil
	}
	var found []place
	for _, d := range parseFile(file, data) {
		for _, full := range d.names {
			if full == name || strings.HasSuffix(full, "."+name) {
				found = append(found, d.place)
			}
		}
	}
	return found
}

// declaration is one of a file's, with its comment, and the names "pkg.T.F" that it declares.
type declaration struct {
	place
	names []string
}

func parseFile(file string, data []byte) []declaration {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, data, parser.ParseComments)
	if err != nil {
		return nil
	}
	var all []declaration
	for _, d := range parsed.Decls {
		declared := declaration{place: place{file: file, first: set.Position(d.Pos()).Line, last: set.Position(d.End()).Line}}
		var comment *ast.CommentGroup
		switch d := d.(type) {
		case *ast.FuncDecl:
			comment = d.Doc
			declared.names = []string{parsed.Name.Name + "." + receiver(d) + d.Name.Name}
		case *ast.GenDecl:
			comment = d.Doc
			declared.names = specNames(parsed.Name.Name, d)
		}
		if comment != nil {
			declared.first = set.Position(comment.Pos()).Line
		}
		all = append(all, declared)
	}
	return all
}

func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return ""
	}
	of := f.Recv.List[0].Type
	for {
		switch t := of.(type) {
		case *ast.StarExpr:
			of = t.X
		case *ast.IndexExpr:
			of = t.X
		case *ast.Ident:
			return t.Name + "."
		default:
			return ""
		}
	}
}

func specNames(pkg string, d *ast.GenDecl) (names []string) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			names = append(names, pkg+"."+s.Name.Name)
		case *ast.ValueSpec:
			for _, name := range s.Names {
				names = append(names, pkg+"."+name.Name)
			}
		}
	}
	return names
}

// print writes the lines with their numbers, the marked one with an arrow.
func (p place) print(out *os.File, data []byte) {
	fmt.Fprintf(out, "%s\n", p.file)
	lines := strings.Split(string(data), "\n")
	for n := p.first; n <= p.last && n <= len(lines); n++ {
		mark := " "
		if n == p.marked {
			mark = ">"
		}
		fmt.Fprintf(out, "%s%5d  %s\n", mark, n, lines[n-1])
	}
}
