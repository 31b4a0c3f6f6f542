package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"hyperkube/client"
	"hyperkube/component"
	"hyperkube/flow"
)

// reader is the part of a command line by which what looks at a cluster finds it.
type reader struct {
	DataDir    string
	Kubeconfig string
	Output     string
}

func (r *reader) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&r.DataDir, "data-dir", defaultDataDir(), "the cluster's data directory")
	flags.StringVar(&r.Kubeconfig, "kubeconfig", "", "how to reach the apiserver (default: admin.kubeconfig in --data-dir)")
	flags.StringVarP(&r.Output, "output", "o", "text", "text or json")
}

// connect makes a client of the cluster, for the named command.
func (r *reader) connect(command string) (*rest.Config, kubernetes.Interface, error) {
	if r.Output != "text" && r.Output != "json" {
		return nil, nil, &component.UsageError{Err: fmt.Errorf("-o %s: must be text or json", r.Output)}
	}
	file := r.Kubeconfig
	if file == "" {
		file = filepath.Join(r.DataDir, "admin.kubeconfig")
	}
	config, err := client.Load(file, command, "")
	if err != nil {
		return nil, nil, err
	}
	set, err := kubernetes.NewForConfig(config)
	return config, set, err
}

// ask reads a JSON document from a path of the apiserver that upstream's has not.
func ask(ctx context.Context, set kubernetes.Interface, path string, query url.Values, into any) error {
	request := set.Discovery().RESTClient().Get().AbsPath(path)
	for name, values := range query {
		request.Param(name, values[0])
	}
	data, err := request.Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("this apiserver keeps no record: it is not hyperkube's, or runs with --flow-buffer=-1")
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func printJSON(value any) error {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// traceOptions is the command line of `hyperkube trace`.
type traceOptions struct {
	reader
	Namespace string
	Follow    bool
	Since     time.Duration
	All       bool
	ID        string
}

func (o *traceOptions) AddFlags(flags *pflag.FlagSet) {
	o.reader.AddFlags(flags)
	flags.StringVarP(&o.Namespace, "namespace", "n", "default", "the object's namespace")
	flags.BoolVarP(&o.Follow, "follow", "f", false, "go on printing what happens")
	flags.BoolVarP(&o.All, "all", "v", false, "show each line, also those like others, and each text whole")
	flags.StringVar(&o.ID, "id", "", "instead of an object: a trace id, as log lines have it (traceID)")
	flags.DurationVar(&o.Since, "since", 0, "only what began in this time before now, as 5m (default: all that is recorded)")
}

// parseReader reads the flags of a command that takes names too.
func parseReader(command, usage string, options interface{ AddFlags(*pflag.FlagSet) }, args []string) (names []string, err error) {
	flags := pflag.NewFlagSet(command, pflag.ContinueOnError)
	options.AddFlags(flags)
	flags.Usage = func() { fmt.Printf("%s\n\nFlags:\n%s", usage, flags.FlagUsages()) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, component.ErrHelp
		}
		return nil, &component.UsageError{Err: fmt.Errorf("%w; %s", err, usage)}
	}
	return flags.Args(), nil
}

const traceUsage = "usage: hyperkube trace {TYPE/NAME [-n NAMESPACE] | --id TRACEID} [--since 5m] [--follow] [--all] [-o json]"

// runTrace prints the story of an object, in the order of causes.
func runTrace(ctx context.Context, args []string) error {
	o := &traceOptions{}
	names, err := parseReader("trace", traceUsage, o, args)
	if err != nil {
		return err
	}
	config, set, err := o.connect("trace")
	if err != nil {
		return err
	}
	query, err := o.target(config, names)
	if err != nil {
		return err
	}
	if o.Since > 0 {
		query.Set("since", time.Now().Add(-o.Since).Format(time.RFC3339Nano))
	}
	if o.Follow {
		return followTrace(ctx, set, query)
	}
	var story flow.Story
	if err := ask(ctx, set, "/debug/flow/trace", query, &story); err != nil {
		return err
	}
	if o.Output == "json" {
		return printJSON(story)
	}
	story.Print(os.Stdout, o.All)
	return nil
}

// target is the query for an object that is named by type and name, or for a trace.
func (o *traceOptions) target(config *rest.Config, names []string) (url.Values, error) {
	if o.ID != "" {
		if len(names) > 0 {
			return nil, &component.UsageError{Err: errors.New("--id stands instead of TYPE/NAME; " + traceUsage)}
		}
		if id, err := hex.DecodeString(o.ID); err != nil || len(id) != 16 {
			return nil, &component.UsageError{Err: fmt.Errorf("--id %s: a trace id is 32 hexadecimal digits, as traceID in a log line", o.ID)}
		}
		return url.Values{"id": {strings.ToLower(o.ID)}}, nil
	}
	kind, name, err := splitTypeName(names)
	if err != nil {
		return nil, err
	}
	mapping, err := resolve(config, kind)
	if err != nil {
		return nil, err
	}
	query := url.Values{"group": {mapping.GroupVersionKind.Group}, "kind": {mapping.GroupVersionKind.Kind}, "name": {name}}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		query.Set("namespace", o.Namespace)
	}
	return query, nil
}

// splitTypeName takes "deploy/web" or "deploy web".
func splitTypeName(args []string) (kind, name string, err error) {
	if len(args) == 1 {
		kind, name, _ = strings.Cut(args[0], "/")
	}
	if len(args) == 2 {
		kind, name = args[0], args[1]
	}
	if kind == "" || name == "" {
		return "", "", &component.UsageError{Err: errors.New(traceUsage)}
	}
	return kind, name, nil
}

// resolve finds the kind that people mean by deploy, deployments, deployments.apps or Deployment.
func resolve(config *rest.Config, name string) (*meta.RESTMapping, error) {
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	cached := memory.NewMemCacheClient(found)
	mapper := restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(cached), cached, nil)
	resource, group := schema.ParseGroupResource(strings.ToLower(name)).Resource, schema.ParseGroupResource(strings.ToLower(name)).Group
	kind, err := mapper.KindFor(schema.GroupVersionResource{Group: group, Resource: resource})
	if err != nil {
		return nil, fmt.Errorf("the server has no type %q: see `hyperkube kubectl api-resources`", name)
	}
	return mapper.RESTMapping(kind.GroupKind(), kind.Version)
}

// followPause is the least time between two readings of a story that is followed, each of which looks through the record.
const followPause = 100 * time.Millisecond

// followTrace prints each step of a story once, as it becomes known, until ctx ends.
func followTrace(ctx context.Context, set kubernetes.Interface, query url.Values) error {
	printed := map[string]bool{}
	var began time.Time
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := listen(ctx, set)
	for {
		var story flow.Story
		if err := ask(ctx, set, "/debug/flow/trace", query, &story); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for _, node := range story.Flat() {
			if began.IsZero() {
				began = node.Time
			}
			id := fmt.Sprint(node.Time.UnixNano(), node.Component, node.What, node.Object, node.Revision)
			if !printed[id] {
				printed[id] = true
				fmt.Println(node.Line(began))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPause):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		}
	}
}

// listen gives word when something has been recorded, whatever it is; and each second while there is no stream:
// the next reading then tells why.
func listen(ctx context.Context, set kubernetes.Interface) <-chan struct{} {
	news := make(chan struct{}, 1)
	go func() {
		for ctx.Err() == nil {
			stream, err := set.Discovery().RESTClient().Get().AbsPath("/debug/flow/stream").Param("since", "now").Timeout(0).Stream(ctx)
			if err == nil {
				for lines := bufio.NewReader(stream); err == nil; {
					_, err = lines.ReadSlice('\n')
					if errors.Is(err, bufio.ErrBufferFull) {
						err = nil
					}
					select {
					case news <- struct{}{}:
					default: // it has not yet looked since the last word
					}
				}
				stream.Close()
			}
			select {
			case news <- struct{}{}:
			default:
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second): // the apiserver restarts
			}
		}
	}()
	return news
}
