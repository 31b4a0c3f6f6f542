package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"hyperkube/component"
	"hyperkube/flow"
)

const connectionsUsage = "usage: hyperkube connections [-o json]"

// protocols say who talks to whom in a cluster, and how. Nobody else does: components
// share no memory, inside `all` neither (R26).
var protocols = []connection{
	{From: "apiserver", To: "etcd", Protocol: "gRPC over TLS", For: "every read that must be exact, every write, one watch on /registry/"},
	{From: "controller-manager", To: "apiserver", Protocol: "HTTP/2 over TLS, JSON", For: "lists and watches, then writes"},
	{From: "scheduler", To: "apiserver", Protocol: "HTTP/2 over TLS, JSON", For: "watches of pods and nodes, then a Binding"},
	{From: "kubelet", To: "apiserver", Protocol: "HTTP/2 over TLS, JSON", For: "watch of its node's pods, statuses, a Lease"},
	{From: "proxy", To: "apiserver", Protocol: "HTTP/2 over TLS, JSON", For: "watches of Services and EndpointSlices"},
	{From: "dns", To: "apiserver", Protocol: "HTTP/2 over TLS, JSON", For: "watches of Services, EndpointSlices and pods"},
	{From: "apiserver", To: "kubelet", Protocol: "HTTP over TLS, WebSocket or SPDY", For: "kubectl logs, exec, attach, port-forward"},
	{From: "kubelet", To: "cri", Protocol: "gRPC over a unix socket (CRI v1)", For: "sandboxes, containers, images"},
}

// connection is a line between two components.
type connection struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Protocol string `json:"protocol"`
	Address  string `json:"address,omitempty"`
	For      string `json:"for"`
}

// runConnections prints the lines between the components that run, and the watches that are
// open at the apiserver.
func runConnections(ctx context.Context, args []string) error {
	o := &reader{}
	rest, err := parseReader("connections", connectionsUsage, o, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return &component.UsageError{Err: errors.New(connectionsUsage)}
	}
	_, set, err := o.connect("connections")
	if err != nil {
		return err
	}
	lines, err := lines(o.DataDir)
	if err != nil {
		return err
	}
	var watches []*flow.Watch
	if err := ask(ctx, set, "/debug/flow/connections", nil, &watches); err != nil {
		return err
	}
	if o.Output == "json" {
		return printJSON(struct {
			Connections []connection  `json:"connections"`
			Watches     []*flow.Watch `json:"watches"`
		}{lines, watches})
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "FROM\tTO\tPROTOCOL\tADDRESS\tFOR")
	for _, c := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.From, c.To, c.Protocol, orDash(c.Address), c.For)
	}
	fmt.Fprintln(w, "\nWATCH OF\tBY\tSELECTOR\tFROM VERSION\tEVENTS\tLAST VERSION\tSINCE")
	for _, p := range watches {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", watched(p), flow.ProgramOf(p.UserAgent), orDash(selectors(p)), orDash(p.ResourceVersion),
			p.Events, p.LastRevision, time.Since(p.Since).Round(time.Second))
	}
	return w.Flush()
}

// lines are the protocols between those components that run under dataDir.
func lines(dataDir string) ([]connection, error) {
	registrations, err := component.Registrations(dataDir)
	if err != nil {
		return nil, err
	}
	runs, addresses := map[string]bool{}, map[string]string{}
	for _, r := range registrations {
		runs[r.Component] = true
		addresses[r.Component] = r.Address
	}
	found := []connection{}
	for _, c := range protocols {
		if runs[c.From] && runs[c.To] {
			c.Address = addresses[c.To]
			found = append(found, c)
		}
	}
	return found, nil
}

func watched(w *flow.Watch) string {
	if w.Namespace != "" {
		return w.Resource + " in " + w.Namespace
	}
	return w.Resource
}

func selectors(w *flow.Watch) string {
	return strings.Trim(w.LabelSelector+" "+w.FieldSelector, " ")
}
