// Command hyperkube is a whole Kubernetes in one executable. This file is its table
// of contents: the components in the order in which `all` starts them, and the
// commands that look at them. Each has a file of its own here, in which its command
// line becomes its package's Config: options → Complete → Validate → Run.
//
// This is the only package that knows all components. They do not know each other.
//
// # In Kubernetes
//
// The same is one binary a component: cmd/kube-apiserver, cmd/kubelet and so on, each
// with app/server.go and app/options. Upstream had a hyperkube too, until v1.19.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hyperkube/component"
)

// command is one subcommand of hyperkube.
type command struct {
	name string
	// alias is upstream's name of the same program; argv[0] may bear it too (R10).
	alias   string
	summary string
	// options makes the command line of a component; nil for the other commands.
	options func() component.Options
	// run performs a command that is no component, or a component's own subcommands.
	run func(ctx context.Context, args []string) error
}

// commands is the table of contents: the components in the order in which
// `all` starts them, then what looks at them.
func commands() []command {
	return []command{
		{name: "all", summary: "the whole cluster in one process", run: runAll},

		{name: "etcd", summary: "the store; also: etcd get|ls|watch|env", options: newEtcdOptions, run: runEtcdClient},
		{name: "apiserver", alias: "kube-apiserver", summary: "the REST and watch API over etcd", options: newAPIServerOptions},
		{name: "controller-manager", alias: "kube-controller-manager", summary: "the controllers", options: newControllerManagerOptions},
		{name: "scheduler", alias: "kube-scheduler", summary: "chooses a node for each pod", options: newSchedulerOptions},
		{name: "cri", summary: "the container runtime behind a CRI socket", options: newCRIOptions},
		{name: "kubelet", alias: "kubelet", summary: "runs the pods of a node", options: newKubeletOptions},
		{name: "proxy", alias: "kube-proxy", summary: "Services as iptables rules", options: newProxyOptions},
		{name: "dns", summary: "cluster DNS", options: newDNSOptions},
		{name: "storage", summary: "makes local volumes for claims of the StorageClass local", options: newStorageOptions},
		{name: "nodenet", summary: "links and routes between several nodes of this machine", options: newNodenetOptions},
		{name: "fakenodes", summary: "nodes that are only bookkeeping, for lessons; all --fake-nodes=N starts them", options: newFakenodesOptions},
		{name: "page", summary: "a page that shows the cluster at work; --url prints its link", options: newPageOptions},

		{name: "kubectl", alias: "kubectl", summary: "kubectl on this cluster", run: runKubectl},
		{name: "node", summary: "a further node of this machine, as all --nodes=N starts them: cri, kubelet, proxy", run: runNode},
		{name: "doctor", summary: "what of this host is in the way of a cluster, and how to mend it; -o json", run: runDoctor},
		{name: "status", summary: "how each component is; --wait=60s, -o json", run: runStatus},
		{name: "stop", summary: "stop COMPONENT of a running `all`", run: runStop},
		{name: "start", summary: "start COMPONENT of a running `all` again", run: runStart},
		{name: "trace", summary: "what happened to TYPE/NAME, who did it and why, and where the code is; --follow", run: runTrace},
		{name: "why", summary: "why TYPE/NAME is as it is (pod, node, deploy, svc, pvc, ns …), and what would have to change", run: runWhy},
		{name: "step", summary: "hold the watch events of COMPONENT, or the keys of COMPONENT/CONTROLLER; --one lets the next through", run: runStep},
		{name: "continue", summary: "let everything flow again that step holds", run: runContinue},
		{name: "controllers", summary: "each controller: its queue, last key and last error, and what it waits for; NAME, -o json", run: runControllers},
		{name: "connections", summary: "who talks to whom by which protocol, and the open watches", run: runConnections},
		{name: "routes", summary: "every route of the API and the function behind it", run: runRoutes},
		{name: "source", summary: "print the code of FILE:LINE or SYMBOL, from this binary", run: runSource},
		{name: "inspect", summary: "what a container is made of: inspect container ID", run: runInspect},
		{name: "image", summary: "the runtime's images: load|ls|pull|rm", run: runImage},
		{name: "certs", summary: "make the certificates and kubeconfig files", run: runCerts},
		{name: "reset", summary: "remove everything of ours from this host", run: runReset},
		{name: "version", summary: "the versions of hyperkube and Kubernetes", run: runVersion},
	}
}

func main() {
	if ran, code := runHelperProgram(os.Args); ran {
		os.Exit(code)
	}
	name, args := chosen(os.Args)
	os.Exit(dispatch(name, args))
}

// chosen returns the subcommand and its arguments: argv[0] when it bears the name
// of one (a symlink kube-scheduler), else the first argument.
func chosen(argv []string) (name string, args []string) {
	if self := filepath.Base(argv[0]); find(self) != nil {
		return self, argv[1:]
	}
	if len(argv) < 2 {
		return "help", nil
	}
	return argv[1], argv[2:]
}

func find(name string) *command {
	for _, c := range commands() {
		if c.name == name || c.alias == name && name != "" {
			return &c
		}
	}
	return nil
}

// dispatch runs a subcommand and returns the process's exit status: 0 done, 1
// failed, 2 a mistake in the command line.
func dispatch(name string, args []string) int {
	if name == "help" || name == "--help" || name == "-h" {
		fmt.Print(usage())
		return 0
	}
	c := find(name)
	if c == nil {
		fmt.Fprintf(os.Stderr, "hyperkube: unknown command %q; see: hyperkube help\n", name)
		return 2
	}
	if err := component.SetUpLogging(component.LogOptions{}); err != nil {
		fmt.Fprintf(os.Stderr, "hyperkube: %v\n", err)
		return 1
	}
	ctx, cancel := component.SignalContext(context.Background(), func(s os.Signal) {
		if c.name == "all" || c.options != nil {
			fmt.Fprintf(os.Stderr, "\nhyperkube %s: %v: stopping in order; once more stops at once\n", c.name, s)
		}
	})
	defer cancel()
	return exitStatus(c.name, c.execute(ctx, args))
}

// execute runs a component's own subcommands (etcd get …) before its options.
func (c *command) execute(ctx context.Context, args []string) error {
	if c.options != nil && (c.run == nil || len(args) == 0 || strings.HasPrefix(args[0], "-")) {
		tuneRuntime(c.name)
		return component.Execute(ctx, component.NewEnv(c.name, args), c.options())
	}
	return c.run(ctx, args)
}

// exitStatus prints err once, as "component: cause: what to do", and turns it into a status.
func exitStatus(name string, err error) int {
	var usage *component.UsageError
	var exit exitCode
	switch {
	case err == nil, errors.Is(err, component.ErrHelp):
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "hyperkube %s: %v\n", name, err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "hyperkube %s: %v\n", name, err)
	return 1
}

// exitCode ends a command whose output has said all there is to say.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func usage() string {
	var b strings.Builder
	b.WriteString("hyperkube is a whole Kubernetes in one executable.\n\nUsage: hyperkube COMMAND [flags]\n\nComponents, in start order:\n")
	part := ""
	for _, c := range commands() {
		if c.name == "kubectl" {
			part = "\nCommands:\n"
		}
		summary := c.summary
		if c.alias != "" && c.alias != c.name {
			summary += " (alias " + c.alias + ")"
		}
		fmt.Fprintf(&b, "%s  %-19s %s\n", part, c.name, summary)
		part = ""
	}
	b.WriteString("\nFlags of a command: hyperkube COMMAND --help\nData directory: --data-dir, else $HYPERKUBE_DATA_DIR, else /var/lib/hyperkube\n")
	return b.String()
}
