package house

import (
	"go/ast"
	"testing"
)

const (
	maxFile     = 700 // lines
	maxFunction = 70
	maxParams   = 5
)

// dispatchers are functions longer than the budget: a select or switch whose
// cases are calls. The list is a ratchet: it may only get shorter, but for
// another dispatcher of the same kind, with its reason here.
var dispatchers = map[string]bool{}

// imposed are methods whose parameters a library's interface prescribes.
var imposed = map[string]bool{
	"cri/streams_linux.go:streamRuntime.Exec":   true, // k8s.io/cri-streaming Runtime
	"cri/streams_linux.go:streamRuntime.Attach": true,

	"client/events.go:eventsRecorder.Eventf":         true, // client-go's events.EventRecorder
	"client/events.go:eventRecorder.AnnotatedEventf": true, // and record.EventRecorder
}

// TestBudgets holds the sizes that keep the tree readable: it is the tail that
// hurts, not the median.
func TestBudgets(t *testing.T) {
	used := map[string]bool{}
	for _, s := range load(t) {
		if s.generated || s.test {
			continue
		}
		if s.lines > maxFile {
			t.Errorf("%s has %d lines; the budget is %d", s.path, s.lines, maxFile)
		}
		for _, decl := range s.syntax.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			name := s.path + ":" + symbol(f)
			lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			switch {
			case dispatchers[name]:
				used[name] = true
			case lines > maxFunction:
				t.Errorf("%s has %d lines; the budget is %d", name, lines, maxFunction)
			}
			if n := f.Type.Params.NumFields(); n > maxParams && !imposed[name] {
				t.Errorf("%s has %d parameters; the budget is %d, then a struct", name, n, maxParams)
			}
		}
	}
	for name := range dispatchers {
		if !used[name] {
			t.Errorf("%s is named as a long dispatcher and does not exist", name)
		}
	}
}

// symbol names a function as citations do: "Kubelet.syncLoop", "Open".
func symbol(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	for {
		switch r := receiver.(type) {
		case *ast.StarExpr:
			receiver = r.X
		case *ast.IndexExpr:
			receiver = r.X
		case *ast.IndexListExpr:
			receiver = r.X
		case *ast.Ident:
			return r.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}
