// Package tools holds the programs of the demo image hyperkube.local/demo: an
// HTTP server that says who answered, a POSIX shell, and the small tools that
// lessons use inside a pod. They do what the usual options of the usual programs
// do, and refuse what they do not know; they are not busybox.
//
//	/bin/<tool> ──symlink──► /bin/box ──argv[0]──► Main ──► table ──► func(*call) int
//
// A tool is a line in the table and a function. Invariants: no Kubernetes
// package is imported, and no configuration is read but arguments, environment and
// the files named. The shell is a library's (mvdan.cc/sh).
//
// In Kubernetes there is no such image; its documentation uses busybox,
// agnhost and nginx, which a cluster without a network cannot pull.
package tools

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// call is one run of a tool.
type call struct {
	name string
	args []string // without the name
	in   io.Reader
	out  io.Writer
	err  io.Writer
}

// table maps a tool's name to its function, which returns the exit status.
func table() map[string]func(*call) int {
	return map[string]func(*call) int{
		"serve": serve, "sh": shell,
		"cat": cat, "ls": ls, "stat": stat, "touch": touch, "rm": rm, "mkdir": mkdir, "mv": mv, "cp": cp, "tar": tarTool, "ln": ln, "chmod": chmod, "mount": mount,
		"echo": echo, "printf": viaShell, "test": viaShell, "[": viaShell, "true": succeed, "false": fail, "seq": seq,
		"grep": grep, "cut": cut, "sed": sed, "head": head, "tail": tail, "wc": wc, "sort": sortLines, "tr": tr,
		"ps": ps, "kill": kill, "id": id, "env": env, "sleep": sleep, "pause": pause, "date": date, "hostname": hostname,
		"wget": wget, "nc": nc, "nslookup": nslookup, "getent": getent, "ip": ip,
	}
}

// Names lists the tools, sorted: the symlinks of the image.
func Names() []string {
	var names []string
	for name := range table() {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Has reports whether name is a tool.
func Has(name string) bool { return table()[name] != nil }

// Main runs the tool that argv names and returns its exit status: 127 for an
// unknown one, as shells do.
func Main(argv []string) int {
	name, args := filepath.Base(argv[0]), argv[1:]
	if !Has(name) {
		if len(args) == 0 {
			fmt.Fprintf(os.Stderr, "box: tools: %s\n", strings.Join(Names(), " "))
			return 1
		}
		if args[0] == "--list" {
			fmt.Println(strings.Join(Names(), "\n"))
			return 0
		}
		name, args = args[0], args[1:]
	}
	run := table()[name]
	if run == nil {
		fmt.Fprintf(os.Stderr, "box: %s: no such tool\n", name)
		return 127
	}
	return run(&call{name: name, args: args, in: os.Stdin, out: os.Stdout, err: os.Stderr})
}

// fail1 prints an error in the way of the usual tools and returns status 1.
func (c *call) fail1(err error) int {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = fmt.Errorf("%s: %w", path.Path, path.Err)
	}
	fmt.Fprintf(c.err, "%s: %v\n", c.name, err)
	return 1
}

// options parses short options in getopt's way: letters as in "n:v", where ':' says that
// the letter takes a value. Clusters (-la), joined values (-n5) and "--" work.
func (c *call) options(letters string) (flags map[rune]string, operands []string, err error) {
	flags = map[rune]string{}
	for i := 0; i < len(c.args); i++ {
		arg := c.args[i]
		if arg == "--" {
			return flags, append(operands, c.args[i+1:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		for j, letter := range arg[1:] {
			at := strings.IndexRune(letters, letter)
			if at < 0 || letter == ':' {
				return nil, nil, fmt.Errorf("unknown option %q", arg)
			}
			if at+1 == len(letters) || letters[at+1] != ':' {
				flags[letter] = "true"
				continue
			}
			value := arg[1+j+1:]
			if value == "" {
				if i++; i >= len(c.args) {
					return nil, nil, fmt.Errorf("option -%c needs a value", letter)
				}
				value = c.args[i]
			}
			flags[letter] = value
			break
		}
	}
	return flags, operands, nil
}

// eachInput calls do for every file named, or for the standard input; "-" is the
// latter too. It returns 1 if any could not be read.
func (c *call) eachInput(files []string, do func(name string, r io.Reader) error) int {
	if len(files) == 0 {
		files = []string{"-"}
	}
	status := 0
	for _, name := range files {
		if err := c.oneInput(name, do); err != nil {
			status = c.fail1(err)
		}
	}
	return status
}

func (c *call) oneInput(name string, do func(name string, r io.Reader) error) error {
	if name == "-" {
		return do(name, c.in)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(name, f)
}

func succeed(*call) int { return 0 }
func fail(*call) int    { return 1 }

func echo(c *call) int {
	args, newline := c.args, "\n"
	if len(args) > 0 && args[0] == "-n" {
		args, newline = args[1:], ""
	}
	if _, err := io.WriteString(c.out, strings.Join(args, " ")+newline); err != nil {
		return c.fail1(err)
	}
	return 0
}
