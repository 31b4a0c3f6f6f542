package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"hyperkube/component"
)

// Upstream's names are aliases, also through argv[0], so that a symlink
// kube-scheduler is the scheduler (R10, S0-11).
func TestChosen(t *testing.T) {
	for _, test := range []struct {
		argv []string
		name string
		args []string
	}{
		{[]string{"hyperkube", "all", "--name=x"}, "all", []string{"--name=x"}},
		{[]string{"/usr/bin/kube-scheduler", "--v"}, "kube-scheduler", []string{"--v"}},
		{[]string{"kubectl", "get", "pods"}, "kubectl", []string{"get", "pods"}},
		{[]string{"hyperkube"}, "help", nil},
		{[]string{"./hk", "kube-proxy"}, "kube-proxy", []string{}},
	} {
		name, args := chosen(test.argv)
		if name != test.name || !slices.Equal(args, test.args) {
			t.Errorf("%v: %s %v", test.argv, name, args)
		}
	}
	for alias, name := range map[string]string{
		"kube-apiserver": "apiserver", "kube-controller-manager": "controller-manager", "kube-scheduler": "scheduler", "kube-proxy": "proxy", "kubelet": "kubelet",
	} {
		if c := find(alias); c == nil || c.name != name {
			t.Errorf("%s does not name %s", alias, name)
		}
	}
	if find("") != nil || find("nope") != nil {
		t.Error("found a command that is none")
	}
}

// Each component's command line has the shared flags, and no flag without a word of help (S0-24).
func TestEveryComponentHasItsFlags(t *testing.T) {
	for _, name := range componentNames() {
		flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
		find(name).options().AddFlags(flags)
		for _, shared := range []string{"data-dir", "log-level", "log-format", "logs-dir"} {
			if flags.Lookup(shared) == nil {
				t.Errorf("%s has no --%s", name, shared)
			}
		}
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no help", name, f.Name)
			}
		})
	}
}

// What is stopped first needs what is stopped later, and nothing is forgotten.
func TestStopOrderNamesEveryComponent(t *testing.T) {
	names := componentNames()
	slices.Sort(names)
	stops := slices.Clone(stopOrder)
	slices.Sort(stops)
	if !slices.Equal(names, stops) {
		t.Errorf("stop order %v, components %v", stops, names)
	}
	if slices.Index(stopOrder, "kubelet") > slices.Index(stopOrder, "cri") || stopOrder[len(stopOrder)-1] != "etcd" {
		t.Errorf("stop order %v", stopOrder)
	}
}

func TestDataDirFlag(t *testing.T) {
	t.Setenv("HYPERKUBE_DATA_DIR", "/env")
	for _, test := range []struct {
		args []string
		dir  string
		rest []string
	}{
		{[]string{"get", "pods"}, "/env", []string{"get", "pods"}},
		{[]string{"--data-dir=/x", "get"}, "/x", []string{"get"}},
		{[]string{"get", "--data-dir", "/x", "pods"}, "/x", []string{"get", "pods"}},
		{[]string{"exec", "p", "--", "sh", "--data-dir=/x"}, "/env", []string{"exec", "p", "--", "sh", "--data-dir=/x"}},
	} {
		dir, rest, err := dataDirFlag(test.args)
		if err != nil || dir != test.dir || !slices.Equal(rest, test.rest) {
			t.Errorf("%v: %s %v %v", test.args, dir, rest, err)
		}
	}
	var usage *component.UsageError
	if _, _, err := dataDirFlag([]string{"--data-dir"}); !errors.As(err, &usage) {
		t.Errorf("--data-dir without a value: %v", err)
	}
}

// A mistake in the command line is status 2, a failure 1, help 0.
func TestExitStatus(t *testing.T) {
	for want, err := range map[int]error{0: nil, 1: errors.New("x"), 2: &component.UsageError{Err: errors.New("x")}, 7: exitCode(7)} {
		if got := exitStatus("test", err); got != want {
			t.Errorf("%v: status %d, want %d", err, got, want)
		}
	}
	if got := exitStatus("test", component.ErrHelp); got != 0 {
		t.Errorf("help: status %d", got)
	}
}

func TestUsageNamesEveryCommand(t *testing.T) {
	text := usage()
	for _, c := range commands() {
		if !strings.Contains(text, "  "+c.name+" ") {
			t.Errorf("help does not name %s", c.name)
		}
	}
}

func TestVersionNamesTheMinor(t *testing.T) {
	if v := versionString(); !strings.HasPrefix(v, "v1.37.") || !strings.HasSuffix(v, "+hyperkube") {
		t.Errorf("version %q", v)
	}
}

// Any host name becomes a name that a node may have (R68).
func TestNodeNameRule(t *testing.T) {
	for host, want := range map[string]string{"Foo_Bar": "foo-bar", "box": "box", "-a.b-": "a.b"} {
		if got := nameOfHost(host); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}
