package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// shell is sh: -c COMMAND [NAME [ARG…]], FILE [ARG…], or commands from the standard
// input, with a prompt when that is a terminal or -i is given.
func shell(c *call) int {
	runner, err := interp.New(interp.StdIO(c.in, c.out, c.err), interp.Interactive(false))
	if err != nil {
		return c.fail1(err)
	}
	args, interactive := c.args, isTerminal(c.in)
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0] != "-c" {
		switch args[0] {
		case "-i":
			interactive = true
		case "-l":
		case "-e", "-u", "-x", "-ec", "-ex", "-xe", "-xc", "-exc":
			set := strings.TrimSuffix(args[0], "c")
			if err := interp.Params(set)(runner); err != nil {
				return c.fail1(err)
			}
			if set != args[0] {
				args[0] = "-c"
				continue
			}
		default:
			return c.fail1(fmt.Errorf("unknown option %s", args[0]))
		}
		args = args[1:]
	}
	switch {
	case len(args) > 0 && args[0] == "-c":
		if len(args) < 2 {
			return c.fail1(errors.New("-c needs a command"))
		}
		name := "sh"
		if len(args) > 2 {
			name = args[2]
			runner.Params = args[3:]
		}
		return c.runScript(runner, strings.NewReader(args[1]), name)
	case len(args) > 0:
		runner.Params = args[1:]
		status := 0
		if err := c.oneInput(args[0], func(name string, r io.Reader) error {
			status = c.runScript(runner, r, name)
			return nil
		}); err != nil {
			c.fail1(err)
			return 127
		}
		return status
	case interactive:
		return c.interact(runner)
	}
	return c.runScript(runner, c.in, "sh")
}

func (c *call) runScript(runner *interp.Runner, script io.Reader, name string) int {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(script, name)
	if err != nil {
		fmt.Fprintln(c.err, err)
		return 2
	}
	return c.status(runner.Run(context.Background(), file))
}

// interact reads statement by statement. An interrupt ends the statement that
// runs, not the shell.
func (c *call) interact(runner *interp.Runner) int {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	defer signal.Stop(interrupts)

	prompt := func() { fmt.Fprint(c.err, "/ # ") }
	prompt()
	status := 0
	parser := syntax.NewParser(syntax.Variant(syntax.LangPOSIX))
	err := parser.Interactive(c.in, func(statements []*syntax.Stmt) bool {
		if parser.Incomplete() {
			fmt.Fprint(c.err, "> ")
			return true
		}
		for _, statement := range statements {
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() {
				select {
				case <-interrupts:
					cancel()
				case <-ended:
				}
			}()
			status = c.status(runner.Run(ctx, statement))
			close(ended)
			cancel()
			if runner.Exited() {
				return false
			}
		}
		prompt()
		return true
	})
	if err != nil {
		fmt.Fprintln(c.err, err)
		return 2
	}
	return status
}

// status turns what a run returned into an exit status.
func (c *call) status(err error) int {
	var exit interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, context.Canceled):
		return 130
	}
	fmt.Fprintln(c.err, err)
	return 1
}

// viaShell runs what is a builtin of the shell (printf, test) as a program.
func viaShell(c *call) int {
	runner, err := interp.New(interp.StdIO(c.in, c.out, c.err))
	if err != nil {
		return c.fail1(err)
	}
	runner.Params = c.args
	return c.runScript(runner, strings.NewReader(c.name+` "$@"`), c.name)
}

// isTerminal reports whether r is a character device other than /dev/null.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
