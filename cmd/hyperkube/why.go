package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/flow/why"
)

var whyUsage = "usage: hyperkube why TYPE/NAME [-n NAMESPACE] [-o json]; TYPE is one of " + strings.Join(why.Kinds(), ", ")

// explainPath is where the sockets of the scheduler and the proxy explain their decisions.
const explainPath = "/explain"

type whyOptions struct {
	reader
	Namespace string
}

func (o *whyOptions) AddFlags(flags *pflag.FlagSet) {
	o.reader.AddFlags(flags)
	flags.StringVarP(&o.Namespace, "namespace", "n", "default", "the object's namespace")
}

// runWhy explains the state of an object on one screen.
func runWhy(ctx context.Context, args []string) error {
	o := &whyOptions{}
	names, err := parseReader("why", whyUsage, o, args)
	if err != nil {
		return err
	}
	kind, name, err := splitTypeName(names)
	if err != nil {
		return &component.UsageError{Err: errors.New(whyUsage)}
	}
	config, _, err := o.connect("why")
	if err != nil {
		return err
	}
	gatherer, err := why.NewGatherer(config, rulesReader(o.DataDir))
	if err != nil {
		return err
	}
	explanation, err := gatherer.Why(ctx, kind, o.Namespace, name)
	if err != nil {
		return err
	}
	if o.Output == "json" {
		return printJSON(explanation)
	}
	explanation.Print(os.Stdout)
	return nil
}

// rulesReader asks the proxy of a data directory for the rules of a Service: the kernel shows them to
// root in the node's network namespace only, where the proxy is.
func rulesReader(dataDir string) why.RulesReader {
	return func(ctx context.Context, namespace, name string) ([]why.Step, error) {
		registrations, err := component.Registrations(dataDir)
		if err != nil {
			return nil, err
		}
		for _, r := range registrations {
			if r.Component != "proxy" {
				continue
			}
			var steps []why.Step
			query := url.Values{"namespace": {namespace}, "name": {name}}
			err := askComponent(ctx, r, explainPath+"?"+query.Encode(), &steps)
			return steps, err
		}
		return nil, fmt.Errorf("no proxy of ours runs under %s", dataDir)
	}
}

// askComponent reads a JSON document from a component's socket.
func askComponent(ctx context.Context, r component.Registration, path string, into any) error {
	client := component.UnixClient(r.Socket)
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Component+path, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", r.Component, response.Status, strings.TrimSpace(string(body)))
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}
