// Command code runs what is written in the labs, against a cluster that runs:
//
//	go run ./docs/labs/code greeter      the controller of lab 2
//	go run ./docs/labs/code scheduler    a scheduler named "mine" with the plugin of lab 3
//
// It finds the cluster as kubectl does, in the kubeconfig that KUBECONFIG names.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/client-go/kubernetes"

	"hyperkube/client"
	"hyperkube/client/informers"
	"hyperkube/component"
	"hyperkube/docs/labs/code/frontdoor"
	"hyperkube/docs/labs/code/greeter"
	"hyperkube/flow"
	"hyperkube/scheduler"
	"hyperkube/scheduler/framework/runtime"
	"hyperkube/scheduler/plugins"
)

// programs is the table of what can be run.
var programs = map[string]func(ctx context.Context, set kubernetes.Interface) error{
	"greeter":   runGreeter,
	"scheduler": runScheduler,
}

func main() {
	if len(os.Args) != 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go run ./docs/labs/code greeter|scheduler    (KUBECONFIG names the cluster)")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// run connects a program to the cluster under its own name, and runs it until Ctrl-C.
// What it does besides writing to the API goes into the cluster's record.
func run(name string) error {
	ctx, stop := component.SignalContext(context.Background(), func(os.Signal) {})
	defer stop()
	config, err := client.Load(os.Getenv("KUBECONFIG"), "my-"+name, "")
	if err != nil {
		return err
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	effects := client.NewEffects("my-"+name, set.Discovery().RESTClient())
	go effects.Run(ctx)
	return programs[name](flow.WithSink(ctx, effects), set)
}

func runGreeter(ctx context.Context, set kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(set, 0)
	loop := greeter.New(set, factory)
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	return loop.Run(ctx)
}

// runScheduler is the built-in scheduler with one more line in its table of plugins.
func runScheduler(ctx context.Context, set kubernetes.Interface) error {
	table := append(plugins.NewInTreeRegistry(), runtime.Registration{Name: frontdoor.Name, Weight: 5, New: frontdoor.New})
	sched, err := scheduler.New(scheduler.Config{Client: set, Plugins: table, Profiles: []runtime.Profile{{SchedulerName: "mine"}}})
	if err != nil {
		return err
	}
	return sched.Run(ctx)
}
