package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"hyperkube/component"
)

// componentArgs are flags that `all` passes on to its components as they are:
// --kubelet-arg=max-pods=20. They come behind those that `all` gives by itself, so they win.
type componentArgs map[string]*[]string

// addFlags makes a flag for each component; --kube-scheduler-arg, as k3s calls it, is --scheduler-arg.
func (a componentArgs) addFlags(flags *pflag.FlagSet) {
	same := map[string]string{}
	for _, c := range commands() {
		if c.options == nil {
			continue
		}
		a[c.name] = &[]string{}
		flags.StringArrayVar(a[c.name], c.name+"-arg", nil, "a flag for the "+c.name+", KEY=VALUE or KEY; may be repeated")
		if c.alias != "" {
			same[c.alias+"-arg"] = c.name + "-arg"
		}
	}
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if known, ok := same[name]; ok {
			name = known
		}
		return pflag.NormalizedName(name)
	})
}

// of are a component's, as they stand on a command line.
func (a componentArgs) of(name string) []string {
	var args []string
	if a[name] != nil {
		for _, arg := range *a[name] {
			args = append(args, "--"+strings.TrimLeft(arg, "-"))
		}
	}
	return args
}

// validate refuses at once what a component would refuse only when it starts, and names it. A component is
// given what stands in the other lines of `all` too, so that only a flag's name and form can be wrong here.
func (a componentArgs) validate() error {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		for _, arg := range a.of(name) {
			if key, _, _ := strings.Cut(arg, "="); key == "--data-dir" || key == "--help" {
				return &component.UsageError{Err: fmt.Errorf("--%s-arg=%s: %s is for all components alike: give it to `all`", name, arg, key)}
			}
			if err := component.Parse(name, find(name).options(), []string{arg}, io.Discard); err != nil {
				var usage *component.UsageError
				if errors.As(err, &usage) {
					err = fmt.Errorf("--%s-arg: %w", name, err)
				}
				return &component.UsageError{Err: err}
			}
		}
	}
	return nil
}
