package page

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// keepSource is how long unpacked source stays in memory: some megabytes, for who clicks on
// one arrow after the other.
const keepSource = time.Minute

// source is the code of this binary, unpacked while somebody reads it.
type source struct {
	read func() (map[string][]byte, error)

	mu    sync.Mutex
	files map[string][]byte
	drop  *time.Timer
}

// Code is a piece of a file: the declaration that holds a line.
type Code struct {
	File string `json:"file"`
	// First is the number of the first of Lines, Marked that of the line asked for.
	First  int      `json:"first"`
	Marked int      `json:"marked"`
	Lines  []string `json:"lines"`
}

func (s *source) file(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		files, err := s.read()
		if err != nil {
			return nil, err
		}
		s.files = files
		s.drop = time.AfterFunc(keepSource, s.forget)
	}
	s.drop.Reset(keepSource)
	return s.files[name], nil
}

func (s *source) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = nil
}

// serveSource answers ?file=&line= with the declaration around that line.
func (s *Server) serveSource(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("file")
	line, err := strconv.Atoi(r.URL.Query().Get("line"))
	if err != nil {
		http.Error(w, "line: a number is needed", http.StatusBadRequest)
		return
	}
	data, err := s.source.file(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	lines := strings.Split(string(data), "\n")
	if data == nil || line < 1 || line > len(lines) {
		http.Error(w, "there is no "+name+":"+strconv.Itoa(line)+" in this binary's source", http.StatusNotFound)
		return
	}
	first, last := around(data, line)
	last = min(last, len(lines))
	answer(w, Code{File: name, First: first, Marked: line, Lines: lines[first-1 : last]})
}

// around is the declaration, with its comment, that holds a line; else the neighbours.
func around(data []byte, line int) (first, last int) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, "", data, parser.ParseComments)
	if err != nil {
		return max(1, line-20), line + 20
	}
	for _, d := range parsed.Decls {
		begin := d.Pos()
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc != nil {
				begin = d.Doc.Pos()
			}
		case *ast.GenDecl:
			if d.Doc != nil {
				begin = d.Doc.Pos()
			}
		}
		if first, last = set.Position(begin).Line, set.Position(d.End()).Line; first <= line && line <= last {
			return first, last
		}
	}
	return max(1, line-5), line + 5
}
