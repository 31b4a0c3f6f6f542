package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
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
	// Requests are those that the apiserver remembers, or that a component has counted; Last is when the newest came;
	// Watches are open now.
	Requests int       `json:"requests"`
	Last     time.Time `json:"last,omitzero"`
	Watches  int       `json:"watches,omitempty"`
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
	var peers []flow.Peer
	if err := ask(ctx, set, "/debug/flow/peers", nil, &peers); err != nil {
		return err
	}
	lines, streams := live(ctx, o.DataDir, lines, peers)
	if o.Output == "json" {
		return printJSON(struct {
			Connections []connection  `json:"connections"`
			Streams     []stream      `json:"streams"`
			Watches     []*flow.Watch `json:"watches"`
		}{lines, streams, watches})
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "FROM\tTO\tPROTOCOL\tADDRESS\tREQUESTS\tLAST\tFOR")
	for _, c := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", c.From, c.To, c.Protocol, orDash(c.Address), c.Requests, ago(c.Last), c.For)
	}
	if len(streams) > 0 {
		fmt.Fprintln(w, "\nSTREAM\tBY\tTO\tSINCE")
		for _, s := range streams {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.What, s.By, s.Object, ago(s.Since))
		}
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
	for _, node := range append([]string{""}, furtherSuffixes(registrations)...) {
		for _, c := range protocols {
			line := c
			line.From, line.To = onNode(c.From, node), onNode(c.To, node)
			if node != "" && line == c {
				continue // both ends are the cluster's
			}
			if runs[line.From] && runs[line.To] {
				line.Address = addresses[line.To]
				found = append(found, line)
			}
		}
	}
	return found, nil
}

// nodeParts are the components that each node has; those of a further node bear its name behind.
var nodeParts = []string{"kubelet", "cri", "proxy"}

// furtherSuffixes are what the names of further nodes' components end with: "-node-2".
func furtherSuffixes(registrations []component.Registration) []string {
	var found []string
	for _, r := range registrations {
		for _, part := range nodeParts {
			if suffix, is := strings.CutPrefix(r.Component, part); is && suffix != "" {
				found = append(found, suffix)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// onNode is the name of a component on the node whose components end with suffix.
func onNode(componentName, suffix string) string {
	if slices.Contains(nodeParts, componentName) {
		return componentName + suffix
	}
	return componentName
}

// stream is an exec, a log or a forwarded port that is open: the apiserver passes it on to the kubelet.
type stream struct {
	flow.Stream
	By string `json:"by"`
}

// live adds to lines what goes over them, and a line for each program that is no component of ours.
func live(ctx context.Context, dataDir string, lines []connection, peers []flow.Peer) ([]connection, []stream) {
	streams := []stream{}
	for _, p := range peers {
		for _, s := range p.Streams {
			streams = append(streams, stream{s, p.Program})
		}
		if p.User == "system:apiserver" {
			continue // its own writes go over no line
		}
		i := slices.IndexFunc(lines, func(c connection) bool { return c.To == "apiserver" && c.From == p.Program })
		if i < 0 {
			i = slices.IndexFunc(lines, func(c connection) bool { return c.To == "apiserver" && isProgram(c.From, p.Program) })
		}
		if i < 0 {
			lines = append(lines, connection{From: p.Program, To: "apiserver", Protocol: "HTTP over TLS", For: "as " + p.User})
			i = len(lines) - 1
		}
		lines[i].Requests += p.Requests
		lines[i].Watches += p.Watches
		if p.Last.After(lines[i].Last) {
			lines[i].Last = p.Last
		}
	}
	// Which kubelet a stream leads to, the record does not say.
	several := slices.ContainsFunc(lines, func(c connection) bool { return strings.HasPrefix(c.To, "kubelet-") })
	for i := range lines {
		switch c := &lines[i]; {
		case c.To == "etcd":
			c.Requests = counted(ctx, dataDir, c.From, "etcd_requests_total")
		case strings.HasPrefix(c.To, "cri"):
			c.Requests = counted(ctx, dataDir, c.To, "hyperkube_cri_operation_duration_seconds_count")
		case c.To == "kubelet" && !several:
			c.Requests = len(streams)
		}
	}
	return lines, streams
}

// isProgram: a kubelet's User-Agent names its node behind, "kubelet-n1".
func isProgram(componentName, program string) bool {
	return program == componentName || strings.HasPrefix(program, componentName+"-")
}

// counted is the sum of a component's counter, over all labels; 0 when it does not answer.
func counted(ctx context.Context, dataDir, componentName, name string) int {
	registrations, err := component.Registrations(dataDir)
	i := slices.IndexFunc(registrations, func(r component.Registration) bool { return r.Component == componentName })
	if err != nil || i < 0 {
		return 0
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://socket/metrics", nil)
	if err != nil {
		return 0
	}
	response, err := component.UnixClient(registrations[i].Socket).Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	sum := 0.0
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		line := scanner.Text()
		if rest, found := strings.CutPrefix(line, name); found && rest != "" && (rest[0] == '{' || rest[0] == ' ') {
			value, _ := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			sum += value
		}
	}
	return int(sum)
}

// ago is how long ago something was; "-" if never.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return time.Since(t).Round(time.Second).String()
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
