package component

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
)

// Options is one component's command line. The four methods are called in this
// order, once (R94).
type Options interface {
	// AddFlags binds the fields to flags, whose defaults are the fields' values.
	AddFlags(flags *pflag.FlagSet)
	// Complete fills what was left open from the data directory and the host.
	Complete(ctx context.Context) error
	// Validate refuses what cannot work. Its error names the cause and the remedy.
	Validate() error
	// Run builds the component and blocks until ctx ends.
	Run(ctx context.Context, env *Env) error
}

// Env is one life of one component.
type Env struct {
	// Name is the component's subcommand: "scheduler".
	Name string
	// Metrics is this life's own registry.
	Metrics *prometheus.Registry
	// Health is this life's set of checks.
	Health *Health
	// Args is the command line, as `hyperkube status` shows it.
	Args []string
	// Started is when this life began.
	Started time.Time
	// Handlers are paths that the component serves on its socket besides those of all.
	Handlers map[string]http.Handler
}

// NewEnv begins a life of the named component.
func NewEnv(name string, args []string) *Env {
	env := &Env{Name: name, Metrics: prometheus.NewRegistry(), Health: &Health{}, Args: args, Started: time.Now()}
	env.Health.Add("started", func(context.Context) error { return errors.New("still starting") })
	env.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	return env
}

// Context returns ctx with the component's own logger, which klog.FromContext finds.
func (e *Env) Context(ctx context.Context) context.Context {
	return klog.NewContext(ctx, Logger(e.Name))
}

// ErrHelp says that help was asked for and printed: the command is done.
var ErrHelp = pflag.ErrHelp

// UsageError is a mistake in the command line itself. It is printed as it is:
// it already names the flag and where to find help.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Parse puts args into the flags of options. Help goes to out.
func Parse(name string, options interface{ AddFlags(*pflag.FlagSet) }, args []string, out io.Writer) error {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(out)
	flags.SortFlags = true
	options.AddFlags(flags)
	flags.Usage = func() {
		fmt.Fprintf(out, "Usage: hyperkube %s [flags]\n\nFlags:\n%s", name, flags.FlagUsages())
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return ErrHelp
		}
		return &UsageError{fmt.Errorf("%w; see: hyperkube %s --help", err, name)}
	}
	if flags.NArg() > 0 {
		return &UsageError{fmt.Errorf("unexpected argument %q; see: hyperkube %s --help", flags.Arg(0), name)}
	}
	return nil
}

// ErrLeaving is the cause of a context that ends because the whole cluster
// leaves the host (Ctrl-C on `all`). A component then takes along what it made
// there: containers, links, iptables rules. A component that is stopped alone
// leaves them as they are, to find them again when it starts.
var ErrLeaving = errors.New("the cluster leaves this host")

// Leaving reports whether ctx has ended by ErrLeaving.
func Leaving(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrLeaving) }

// Execute takes a component from its command line (env.Args) to the end of its life:
//
//  1. parse the flags,
//  2. complete them,
//  3. validate them,
//  4. run, with logger, metrics and health of its own.
func Execute(ctx context.Context, env *Env, options Options) error {
	ctx = env.Context(ctx)
	// Step 1: parse the flags.
	if err := Parse(env.Name, options, env.Args, os.Stdout); err != nil {
		return err
	}
	// Step 2: complete them.
	if err := options.Complete(ctx); err != nil {
		return err
	}
	// Step 3: validate them.
	if err := options.Validate(); err != nil {
		return err
	}
	// Step 4: run.
	return options.Run(ctx, env)
}
