package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"

	"hyperkube"
	"hyperkube/component"
	"hyperkube/flow/page"
	"hyperkube/flow/why"
)

// defaultPagePort is where people find the page from one start to the next.
const defaultPagePort = 6480

// pageOptions is the command line of `hyperkube page`.
type pageOptions struct {
	apiClient
	Port int
	// URL: only print the link of the page that runs already.
	URL  bool
	flag *pflag.Flag
}

func newPageOptions() component.Options {
	return &pageOptions{apiClient: newAPIClient("page", "kubernetes-admin", "system:masters"), Port: defaultPagePort}
}

func (o *pageOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	flags.IntVar(&o.Port, "page-port", o.Port, "port of 127.0.0.1 to serve the page on; 0: one that the kernel chooses, which is also done when the default is taken")
	flags.BoolVar(&o.URL, "url", o.URL, "print the link of the page that runs, and do nothing else")
	o.flag = flags.Lookup("page-port")
}

func (o *pageOptions) Complete(ctx context.Context) error {
	if o.URL {
		return nil // who asks for a link makes no data directory
	}
	return o.apiClient.Complete(ctx)
}

// Run waits for the apiserver, then serves the page under a token of its own.
func (o *pageOptions) Run(ctx context.Context, env *component.Env) error {
	if o.URL {
		return printPageURL(o.DataDir)
	}
	config, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	listener, err := o.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	token := page.NewToken()
	if err := writeToken(o.DataDir, token); err != nil {
		return err
	}
	defer os.Remove(pageTokenFile(o.DataDir))
	server, err := page.New(page.Config{
		Listener: listener, Token: token, Client: set, Cluster: o.dir.Cluster.Name, Source: hyperkube.Source,
		Components: o.components, Rules: o.rules, Why: o.why(config),
	})
	if err != nil {
		return err
	}
	return o.shared.serveAndRun(ctx, env, server.Address(), server.Run)
}

// listen takes the port asked for. The default one may be another cluster's.
func (o *pageOptions) listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(o.Port))
	if errors.Is(err, syscall.EADDRINUSE) && !o.flag.Changed {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: choose another --page-port, or 0 for any", err)
	}
	return listener, nil
}

// components are those of this data directory, as `hyperkube status` tells them.
func (o *pageOptions) components(ctx context.Context) []page.Component {
	rows, _ := collectStatus(ctx, o.DataDir) // the error sums up what the rows say
	list := []page.Component{}
	for _, row := range rows {
		list = append(list, page.Component{Name: row.Component, Healthy: row.Healthy, Message: row.Message, Address: row.Address})
	}
	return list
}

// rules asks the proxy, if one of ours runs.
func (o *pageOptions) rules(ctx context.Context, namespace, name string) ([]page.Rule, error) {
	steps, err := rulesReader(o.DataDir)(ctx, namespace, name)
	var rules []page.Rule
	for _, step := range steps {
		rules = append(rules, page.Rule{Chain: step.Chain, Text: step.Rule})
	}
	return rules, err
}

// why explains as `hyperkube why` does.
func (o *pageOptions) why(config *rest.Config) func(ctx context.Context, kind, namespace, name string) (string, error) {
	return func(ctx context.Context, kind, namespace, name string) (string, error) {
		gatherer, err := why.NewGatherer(config, rulesReader(o.DataDir))
		if err != nil {
			return "", err
		}
		explanation, err := gatherer.Why(ctx, kind, namespace, name)
		if err != nil {
			return "", err
		}
		var text strings.Builder
		explanation.Print(&text)
		return text.String(), nil
	}
}

// pageTokenFile is where the token of the page that runs now stands, for who may read the data directory.
func pageTokenFile(dataDir string) string {
	return filepath.Join(component.RunDir(dataDir), "page.token")
}

func writeToken(dataDir, token string) error {
	if err := os.MkdirAll(component.RunDir(dataDir), 0o755); err != nil {
		return err
	}
	// Removed first: otherwise the mode of a file that is there already would stay.
	if err := os.Remove(pageTokenFile(dataDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(pageTokenFile(dataDir), []byte(token+"\n"), 0o600)
}

// pageURL is the link that opens the page of a data directory; "" when none runs.
func pageURL(dataDir string) string {
	registrations, err := component.Registrations(dataDir)
	if err != nil {
		return ""
	}
	for _, r := range registrations {
		if r.Component != "page" {
			continue
		}
		if token, err := os.ReadFile(pageTokenFile(dataDir)); err == nil {
			return r.Address + "/?token=" + strings.TrimSpace(string(token))
		}
	}
	return ""
}

func printPageURL(dataDir string) error {
	url := pageURL(dataDir)
	if url == "" {
		return fmt.Errorf("no page runs under %s that you may open: start `hyperkube all`, or `hyperkube page --data-dir %s`", dataDir, dataDir)
	}
	fmt.Println(url)
	return nil
}
