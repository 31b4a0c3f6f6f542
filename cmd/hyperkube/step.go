package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"hyperkube/component"
	"hyperkube/flow"
)

const (
	stepUsage = "usage: hyperkube step [COMPONENT | COMPONENT/CONTROLLER] [--resource pods] [--one [--wait 2s]] [-o json]\n" +
		"without a component: what is held"
	continueUsage = "usage: hyperkube continue [COMPONENT | COMPONENT/CONTROLLER] [--resource pods]\nwithout a component: everything that is held"
	gatesPath     = "/debug/flow/gates"
)

// stepOptions is the command line of `hyperkube step` and `hyperkube continue`.
type stepOptions struct {
	reader
	Resource string
	One      bool
	Wait     time.Duration
}

func (o *stepOptions) AddFlags(flags *pflag.FlagSet) {
	o.reader.AddFlags(flags)
	flags.StringVar(&o.Resource, "resource", "", "hold only the events of this resource, as pods (default: of all but leases and nodes)")
	flags.BoolVar(&o.One, "one", false, "let the next event (or key) through, and say which it was")
	flags.DurationVar(&o.Wait, "wait", 2*time.Second, "with --one: how long to wait for one")
}

// parseStep reads the command line, and connects.
func parseStep(command, usage string, args []string) (*stepOptions, flow.GateName, kubernetes.Interface, error) {
	o := &stepOptions{}
	var name flow.GateName
	names, err := parseReader(command, usage, o, args)
	if err != nil {
		return nil, name, nil, err
	}
	if len(names) > 1 {
		return nil, name, nil, &component.UsageError{Err: errors.New(usage)}
	}
	if len(names) == 1 {
		name = gateNamed(names[0])
	}
	name.Resource = o.Resource
	_, set, err := o.connect(command)
	return o, name, set, err
}

// gateNamed reads "scheduler", "kube-scheduler" or "controller-manager/deployment".
func gateNamed(text string) flow.GateName {
	program, controller, _ := strings.Cut(text, "/")
	if c := find(program); c != nil && c.options != nil {
		program = c.name // upstream's name is as good
	}
	return flow.GateName{Component: program, Controller: controller}
}

// runStep closes a gate, lets one event through, or shows what is held.
func runStep(ctx context.Context, args []string) error {
	o, name, set, err := parseStep("step", stepUsage, args)
	if err != nil {
		return err
	}
	switch {
	case o.One:
		return o.one(ctx, set, name)
	case name.Component != "":
		return o.hold(ctx, set, name)
	case o.Resource != "":
		return &component.UsageError{Err: errors.New(stepUsage)}
	}
	gates, err := askGates(ctx, set)
	if err != nil {
		return err
	}
	if o.Output == "json" {
		return printJSON(gates)
	}
	return printGates(gates)
}

func askGates(ctx context.Context, set kubernetes.Interface) ([]flow.GateStatus, error) {
	var held struct {
		Gates []flow.GateStatus `json:"gates"`
	}
	err := ask(ctx, set, gatesPath, nil, &held)
	return held.Gates, err
}

// tell posts to the gates; what they refuse, they say in one line.
func tell(ctx context.Context, set kubernetes.Interface, path string, query url.Values, into any) error {
	request := set.Discovery().RESTClient().Post().AbsPath(path)
	for key, values := range query {
		request.Param(key, values[0])
	}
	code := 0
	data, err := request.Do(ctx).StatusCode(&code).Raw()
	switch {
	case err == nil:
		return json.Unmarshal(data, into)
	case len(data) > 0 && data[0] != '{' && !strings.HasPrefix(string(data), "404 page not found"):
		return errors.New(strings.TrimSpace(string(data)))
	case apierrors.IsNotFound(err):
		return errors.New("this apiserver has no gates: it is not hyperkube's, or runs with --flow-buffer=-1")
	}
	return err
}

func gateQuery(name flow.GateName) url.Values {
	return url.Values{"component": {name.Component}, "resource": {name.Resource}, "controller": {name.Controller}}
}

// hold closes a gate.
func (o *stepOptions) hold(ctx context.Context, set kubernetes.Interface, name flow.GateName) error {
	var gate flow.GateStatus
	if err := tell(ctx, set, gatesPath, gateQuery(name), &gate); err != nil {
		return err
	}
	if o.Output == "json" {
		return printJSON(gate)
	}
	switch {
	case gate.Controller != "":
		fmt.Printf("%s is held at its queue.", gate.Name())
	case gate.Resource != "":
		fmt.Printf("%s is held: it hears of nothing that happens to %s after revision %d.", gate.Component, gate.Resource, gate.Revision)
	default:
		fmt.Printf("%s is held: it hears of nothing that happens after revision %d, except to leases and nodes.", gate.Component, gate.Revision)
	}
	fmt.Printf(" Next: hyperkube step --one %s; all: hyperkube continue %s\n", gate.Name(), gate.Name())
	if gate.Held > 0 {
		fmt.Printf("%d wait already; the first: %s\n", gate.Held, gate.Next)
	}
	if gate.Note != "" {
		fmt.Println(gate.Note)
	}
	return nil
}

// one lets the next event through. Without a component it is that of the only gate.
func (o *stepOptions) one(ctx context.Context, set kubernetes.Interface, name flow.GateName) error {
	if name.Component == "" {
		gates, err := askGates(ctx, set)
		if err != nil {
			return err
		}
		switch len(gates) {
		case 1:
			name = flow.GateName{Component: gates[0].Component, Resource: gates[0].Resource, Controller: gates[0].Controller}
		case 0:
			return errors.New("nobody is held: hold a component first, as with `hyperkube step scheduler`")
		default:
			return fmt.Errorf("%d gates are closed: say which component to step: %s", len(gates), gateNames(gates))
		}
	}
	var answer struct {
		Passed *flow.GateEvent `json:"passed"`
		Note   string          `json:"note"`
	}
	query := gateQuery(name)
	query.Set("wait", o.Wait.String())
	if err := tell(ctx, set, gatesPath+"/one", query, &answer); err != nil {
		return err
	}
	switch {
	case o.Output == "json":
		return printJSON(answer)
	case answer.Passed == nil:
		fmt.Println(answer.Note)
		return exitCode(1)
	}
	fmt.Printf("%s ◄ %s\n", name, answer.Passed)
	return nil
}

func gateNames(gates []flow.GateStatus) string {
	var names []string
	for _, g := range gates {
		names = append(names, g.Name())
	}
	return strings.Join(names, ", ")
}

// runContinue opens a gate, or all of them.
func runContinue(ctx context.Context, args []string) error {
	o, name, set, err := parseStep("continue", continueUsage, args)
	if err != nil {
		return err
	}
	var answer struct {
		Opened []flow.GateStatus `json:"opened"`
	}
	if err := tell(ctx, set, gatesPath+"/continue", gateQuery(name), &answer); err != nil {
		return err
	}
	if o.Output == "json" {
		return printJSON(answer)
	}
	for _, g := range answer.Opened {
		fmt.Printf("%s goes on, with %d that waited\n", g.Name(), g.Held)
	}
	if len(answer.Opened) == 0 {
		fmt.Println("nobody was held")
	}
	return nil
}

// printGates prints a line a gate, and below it what there is to know of it.
func printGates(gates []flow.GateStatus) error {
	if len(gates) == 0 {
		fmt.Println("nobody is held; hyperkube step COMPONENT holds one: see hyperkube step --help")
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "HELD\tSINCE\tCONNECTED\tWAITING\tPASSED\tNEXT")
	for _, g := range gates {
		next := "-"
		if g.Next != nil {
			next = g.Next.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%t\t%d\t%d\t%s\n", g.Name(), time.Since(g.Since).Round(time.Second), g.Connected, g.Held, g.Passed, next)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, g := range gates {
		if g.Note != "" {
			fmt.Printf("%s: %s\n", g.Name(), g.Note)
		}
	}
	return nil
}

// gateRows are the closed gates as `status` tells them: whoever wonders why nothing
// happens looks there.
func gateRows(ctx context.Context, set kubernetes.Interface) []statusRow {
	gates, err := askGates(ctx, set)
	if err != nil {
		return nil // an apiserver without gates holds nobody
	}
	var rows []statusRow
	for _, g := range gates {
		message := fmt.Sprintf("held: %d wait", g.Held)
		if g.Next != nil {
			message += ", next " + g.Next.String()
		}
		rows = append(rows, statusRow{Component: "gate/" + g.Name(), Healthy: true, Since: g.Since, Message: message + "; hyperkube continue " + g.Name() + " lets them go"})
	}
	return rows
}
