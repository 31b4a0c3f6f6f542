package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/pki"
)

// doctorOptions is the command line of `hyperkube doctor`.
type doctorOptions struct {
	DataDir string
	Output  string
	Ignore  []string
}

func (o *doctorOptions) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.DataDir, "data-dir", defaultDataDir(), "the cluster's data directory")
	flags.StringVarP(&o.Output, "output", "o", "table", "table or json")
	flags.StringSliceVar(&o.Ignore, "ignore", nil, "checks to leave out: swap,clock")
}

// level is how bad it is.
type level string

const (
	ok   level = "ok"
	warn level = "warn" // a cluster runs, and something in it may not
	fail level = "fail" // none can run
)

// finding is what one check has found on the host, and the command that mends it.
type finding struct {
	Check string `json:"check"`
	Level level  `json:"level"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"`
}

// runDoctor looks at the host and changes nothing (R02). It exits with 0 unless a check fails.
func runDoctor(_ context.Context, args []string) error {
	o := &doctorOptions{}
	if err := component.Parse("doctor", o, args, os.Stdout); err != nil {
		return err
	}
	if o.Output != "table" && o.Output != "json" {
		return &component.UsageError{Err: fmt.Errorf("-o %s: must be table or json", o.Output)}
	}
	for _, name := range o.Ignore {
		if !slices.ContainsFunc(checks, func(c check) bool { return c.name == name }) {
			return &component.UsageError{Err: fmt.Errorf("--ignore=%s: no such check; checks are %s", name, strings.Join(checkNames(), ", "))}
		}
	}
	h, err := thisHost(o.DataDir)
	if err != nil {
		return err
	}
	findings := h.examine(o.Ignore)
	if err := o.print(findings); err != nil {
		return err
	}
	if slices.ContainsFunc(findings, func(f finding) bool { return f.Level == fail }) {
		return exitCode(1)
	}
	return nil
}

func (o *doctorOptions) print(findings []finding) error {
	if o.Output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(findings)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Level, f.Check, f.Found)
		if f.Fix != "" {
			fmt.Fprintf(table, "\t\tfix: %s\n", f.Fix)
		}
	}
	return table.Flush()
}

// host is what the checks look at; tests make one of files.
type host struct {
	root    string // before /proc and /sys
	dataDir string
	cluster pki.Cluster
	uid     int
	name    string
	now     time.Time
	// running: the cluster of dataDir runs, and may hold its own ports.
	running bool
	// otherRuntime: pods get their network from a runtime that is not ours, which
	// keeps it while no cluster runs.
	otherRuntime bool

	lookPath func(string) (string, error)
	output   func(name string, args ...string) (string, error)
	networks func() ([]net.Addr, error)
	disk     func(path string) (disk, error)
	// listen tries a port of the host.
	listen func(port int) error
	// chains names the cluster that writes the KUBE-* chains; "": none.
	chains func() string
}

// disk is how much of a file system is left.
type disk struct{ free, size, freeInodes, inodes uint64 }

func thisHost(dataDir string) (*host, error) {
	cluster := pki.DefaultCluster()
	if found, err := pki.ReadCluster(dataDir); err == nil {
		cluster = *found
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	registered, err := component.Registrations(dataDir)
	if err != nil {
		return nil, err
	}
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	return &host{
		root: "/", dataDir: dataDir, cluster: cluster, running: len(registered) > 0, uid: os.Geteuid(), name: name, now: time.Now(),
		lookPath: exec.LookPath, networks: func() ([]net.Addr, error) { return networksOfOthers(dataDir) }, disk: diskOf, listen: tryPort, chains: chainsHolder,
		output: func(name string, args ...string) (string, error) {
			out, err := exec.Command(name, args...).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		},
	}, nil
}

func tryPort(port int) error {
	address := fmt.Sprintf(":%d", port)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return component.ListenError(address, err)
	}
	return listener.Close()
}

// networksOfOthers are the host's addresses but for those of our own bridges, which a kill -9 leaves.
func networksOfOthers(dataDir string) ([]net.Addr, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	ours := bridgesOf(dataDir)
	var networks []net.Addr
	for _, link := range links {
		if slices.Contains(ours, link.Name) {
			continue
		}
		addresses, err := link.Addrs()
		if err != nil {
			continue // gone since
		}
		networks = append(networks, addresses...)
	}
	return networks, nil
}

// chainsHolder is who writes the KUBE-* chains of this network namespace; "": nobody.
func chainsHolder() string {
	conn, err := net.DialTimeout("unix", chainsSocket, time.Second)
	if err != nil {
		return ""
	}
	conn.Close()
	return holderOfChains()
}

// examine makes every check but those to ignore, in the table's order.
func (h *host) examine(ignore []string) []finding {
	var findings []finding
	for _, c := range checks {
		if slices.Contains(ignore, c.name) {
			continue
		}
		f := c.look(h)
		f.Check = c.name
		findings = append(findings, f)
	}
	return findings
}

// hopeless is the first failure of those checks that can fail at all, in doctor's words; nil: a cluster can run here.
func (h *host) hopeless(ignore []string) error {
	for _, c := range checks {
		if !c.mayFail || slices.Contains(ignore, c.name) {
			continue
		}
		if f := c.look(h); f.Level == fail {
			return fmt.Errorf("%s: %s: %s", c.name, f.Found, f.Fix)
		}
	}
	return nil
}

// read is the content of a file of the host, trimmed; "" when there is none.
func (h *host) read(path string) string {
	data, err := os.ReadFile(filepath.Join(h.root, path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
