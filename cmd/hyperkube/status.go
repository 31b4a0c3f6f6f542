package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hyperkube/client"
	"hyperkube/component"
)

// statusOptions is the command line of `hyperkube status`.
type statusOptions struct {
	DataDir string
	Wait    time.Duration
	Output  string
}

func (o *statusOptions) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.DataDir, "data-dir", defaultDataDir(), "the cluster's data directory")
	flags.DurationVar(&o.Wait, "wait", 0, "how long to wait until everything is healthy")
	flags.StringVarP(&o.Output, "output", "o", "table", "table or json")
}

// statusRow is one component, or one node, as `status` tells it.
type statusRow struct {
	Component string    `json:"component"`
	Healthy   bool      `json:"healthy"`
	PID       int       `json:"pid,omitempty"`
	Address   string    `json:"address,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Message   string    `json:"message,omitempty"`
}

// runStatus prints a row a component and a row a node. It exits with 0 when
// all are healthy and every node is Ready, else with 1.
func runStatus(ctx context.Context, args []string) error {
	o := &statusOptions{}
	if err := component.Parse("status", o, args, os.Stdout); err != nil {
		return err
	}
	if o.Output != "table" && o.Output != "json" {
		return &component.UsageError{Err: fmt.Errorf("-o %s: must be table or json", o.Output)}
	}
	var rows []statusRow
	var unhealthy error
	waitCtx, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	for {
		rows, unhealthy = collectStatus(ctx, o.DataDir)
		if unhealthy == nil || waitCtx.Err() != nil {
			break
		}
		select {
		case <-waitCtx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := o.print(rows); err != nil {
		return err
	}
	if unhealthy != nil {
		fmt.Fprintf(os.Stderr, "hyperkube status: %v\n", unhealthy)
		return exitCode(1)
	}
	return nil
}

// collectStatus asks everyone who has registered, and the apiserver for the nodes.
func collectStatus(ctx context.Context, dataDir string) ([]statusRow, error) {
	registrations, err := component.Registrations(dataDir)
	if err != nil {
		return nil, err
	}
	byName := map[string]component.Registration{}
	for _, r := range registrations {
		byName[r.Component] = r
	}
	var rows []statusRow
	var bad []string
	expected := componentNames()
	if all, runs := byName["all"]; runs {
		expected = all.Parts
	} else {
		// Not every cluster has these.
		expected = slices.DeleteFunc(expected, func(name string) bool {
			_, runs := byName[name]
			return !runs && (name == "nodenet" || name == "fakenodes")
		})
	}
	expected = withNodeParts(expected, byName)
	for _, name := range expected {
		r, running := byName[name]
		row := statusRow{Component: name, PID: r.PID, Address: r.Address, Since: r.Since, Message: "not running"}
		if running {
			probeCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
			err := r.Probe(probeCtx)
			cancel()
			row.Healthy, row.Message = err == nil, "ok"
			if err != nil {
				row.Message = err.Error()
			}
		}
		if !row.Healthy {
			bad = append(bad, name)
		}
		rows = append(rows, row)
	}
	nodes, err := nodeRows(ctx, dataDir)
	if err != nil {
		bad = append(bad, fmt.Sprintf("nodes: %v", err))
	}
	for _, row := range nodes {
		if !row.Healthy {
			bad = append(bad, row.Component)
		}
	}
	bad = append(bad, unregistered(expected, nodes)...)
	if len(bad) > 0 {
		return append(rows, nodes...), fmt.Errorf("not healthy: %s", strings.Join(bad, ", "))
	}
	return append(rows, nodes...), nil
}

// unregistered are the further nodes that run, and that the API does not know (yet).
func unregistered(parts []string, nodes []statusRow) (missing []string) {
	for _, part := range parts {
		name, further := strings.CutPrefix(part, "kubelet-")
		if further && !slices.ContainsFunc(nodes, func(row statusRow) bool { return row.Component == "node/"+name }) {
			missing = append(missing, "node/"+name+" (has not registered yet)")
		}
	}
	return missing
}

// withNodeParts puts the parts of each further node that runs in its place.
func withNodeParts(names []string, byName map[string]component.Registration) []string {
	var all []string
	for _, name := range names {
		if parts := byName[name].Parts; len(parts) > 0 {
			all = append(all, parts...)
			continue
		}
		all = append(all, name)
	}
	return all
}

// nodeRows asks the apiserver for its nodes, and who is held; no node at all is an error.
func nodeRows(ctx context.Context, dataDir string) ([]statusRow, error) {
	config, err := client.Load(filepath.Join(dataDir, "admin.kubeconfig"), "status", "")
	if err != nil {
		return nil, err
	}
	config.Timeout = 3 * time.Second
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	nodes, err := set.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	if len(nodes.Items) == 0 {
		return nil, errors.New("no node has registered")
	}
	var rows []statusRow
	for i := range nodes.Items {
		rows = append(rows, nodeRow(&nodes.Items[i]))
	}
	return append(rows, gateRows(ctx, set)...), nil
}

func nodeRow(node *corev1.Node) statusRow {
	row := statusRow{Component: "node/" + node.Name, Message: "no Ready condition yet"}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP && row.Address == "" { // the first is the one of its kubelet
			row.Address = address.Address
		}
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			row.Healthy, row.Since, row.Message = c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time, c.Message
		}
	}
	return row
}

func (o *statusOptions) print(rows []statusRow) error {
	if o.Output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(rows)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tHEALTHY\tPID\tSINCE\tADDRESS\tMESSAGE")
	for _, r := range rows {
		pid, since := "-", "-"
		if r.PID != 0 {
			pid = fmt.Sprint(r.PID)
		}
		if !r.Since.IsZero() {
			since = time.Since(r.Since).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%t\t%s\t%s\t%s\t%s\n", r.Component, r.Healthy, pid, since, orDash(r.Address), r.Message)
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
