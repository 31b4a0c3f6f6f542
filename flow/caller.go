package flow

import (
	"path"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

const module = "hyperkube/"

// passThrough are the packages that a call only passes on its way to the API: the
// reader wants who called them.
var passThrough = []string{module + "flow.", module + "client.", module + "reconcile."}

// positions remembers what a program counter stands for: several functions where one
// was inlined into another, none if it is not ours. There are as many as there are
// places in the code that call something.
var positions sync.Map // uintptr → []string

// Caller returns "FILE:LINE FUNCTION" of the innermost function of this module on
// the stack that is not of the packages that only pass a call on, after leaving out
// skip of them; "" when there is none, as in goroutines of a library.
func Caller(skip int) string {
	var pcs [48]uintptr
	n := runtime.Callers(2, pcs[:])
	for _, pc := range pcs[:n] {
		known, ok := positions.Load(pc)
		if !ok {
			known = positionsOf(pc)
			positions.Store(pc, known)
		}
		ours := known.([]string)
		if skip < len(ours) {
			return ours[skip]
		}
		skip -= len(ours)
	}
	return ""
}

func positionsOf(pc uintptr) (ours []string) {
	frames := runtime.CallersFrames([]uintptr{pc})
	for {
		frame, more := frames.Next()
		if p := position(frame.Function, frame.File, frame.Line); p != "" {
			ours = append(ours, p)
		}
		if !more {
			return ours
		}
	}
}

// position makes a file name relative to the module out of a function's package: the
// path in the frame is that of the machine which built the binary.
func position(function, file string, line int) string {
	switch {
	case strings.HasPrefix(function, "main."):
		function = module + "cmd/hyperkube." + strings.TrimPrefix(function, "main.")
	case !strings.HasPrefix(function, module):
		return ""
	}
	for _, prefix := range passThrough {
		if strings.HasPrefix(function, prefix) {
			return ""
		}
	}
	dir, base := path.Split(function)
	pkg, name, _ := strings.Cut(base, ".")
	// A test's package "x_test" lies in the folder of x.
	dir = strings.TrimPrefix(dir+strings.TrimSuffix(pkg, "_test"), module)
	return dir + "/" + path.Base(file) + ":" + strconv.Itoa(line) + " " + shortName(name)
}

// shortName turns (*T).method.func1.2 into T.method: closures belong to the function
// around them.
func shortName(name string) string {
	name = strings.NewReplacer("(*", "", ")", "", "[...]", "").Replace(name)
	parts := strings.Split(name, ".")
	kept := parts[:1]
	for _, p := range parts[1:] {
		if !isClosure(p) {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ".")
}

// isClosure knows the compiler's names: func1, 2, gowrap1, deferwrap1, func1-range1.
func isClosure(part string) bool {
	part, _, _ = strings.Cut(part, "-range")
	for _, prefix := range []string{"func", "gowrap", "deferwrap"} {
		part = strings.TrimPrefix(part, prefix)
	}
	return strings.Trim(part, "0123456789") == ""
}

// Position is "FILE:LINE FUNCTION" of a function of this module: where it begins.
func Position(function any) string {
	value := reflect.ValueOf(function)
	if value.Kind() != reflect.Func || value.IsNil() {
		return ""
	}
	f := runtime.FuncForPC(value.Pointer())
	file, line := f.FileLine(f.Entry())
	return position(f.Name(), file, line)
}
