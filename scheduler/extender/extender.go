package extender

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/rest"
	configv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

const (
	// Name stands among the plugins for all extenders: who refused a pod.
	Name = "Extender"
	// defaultTimeout is how long an answer may take.
	defaultTimeout = 5 * time.Second
)

// Extender is one program that is asked.
type Extender struct {
	config  configv1.Extender
	client  *http.Client
	managed sets.Set[v1.ResourceName]
}

// New makes an extender of what a configuration file says about it. It connects to nothing.
func New(config configv1.Extender) (*Extender, error) {
	e := &Extender{config: config, managed: sets.New[v1.ResourceName]()}
	for _, resource := range config.ManagedResources {
		e.managed.Insert(v1.ResourceName(resource.Name))
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if tls := config.TLSConfig; config.EnableHTTPS || tls != nil {
		tls = cmp.Or(tls, &configv1.ExtenderTLSConfig{})
		unverified := tls.Insecure || config.EnableHTTPS && tls.CAFile == "" && len(tls.CAData) == 0
		made, err := rest.TLSConfigFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{
			Insecure: unverified, ServerName: tls.ServerName, CertFile: tls.CertFile, KeyFile: tls.KeyFile,
			CAFile: tls.CAFile, CertData: tls.CertData, KeyData: tls.KeyData, CAData: tls.CAData,
		}})
		if err != nil {
			return nil, fmt.Errorf("extender %s: %w", config.URLPrefix, err)
		}
		transport.TLSClientConfig = made
	}
	e.client = &http.Client{Transport: transport, Timeout: cmp.Or(config.HTTPTimeout.Duration, defaultTimeout)}
	return e, nil
}

// Name is the URL, which is unique enough to find the program by.
func (e *Extender) Name() string { return e.config.URLPrefix }

// IsIgnorable says that scheduling goes on when it fails.
func (e *Extender) IsIgnorable() bool { return e.config.Ignorable }

// IsFilter, IsPrioritizer, IsBinder and SupportsPreemption say which steps it takes part in.
func (e *Extender) IsFilter() bool           { return e.config.FilterVerb != "" }
func (e *Extender) IsPrioritizer() bool      { return e.config.PrioritizeVerb != "" }
func (e *Extender) IsBinder() bool           { return e.config.BindVerb != "" }
func (e *Extender) SupportsPreemption() bool { return e.config.PreemptVerb != "" }

// IsInterested says whether it is asked about a pod: it manages no resource in particular, or
// one that a container wants.
func (e *Extender) IsInterested(pod *v1.Pod) bool {
	if e.managed.Len() == 0 {
		return true
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if e.managed.HasAny(slices.Collect(maps.Keys(c.Resources.Requests))...) || e.managed.HasAny(slices.Collect(maps.Keys(c.Resources.Limits))...) {
			return true
		}
	}
	return false
}

// Filtered is an extender's judgement: the names of the nodes that fit, and why others do not.
type Filtered struct {
	Fit sets.Set[string]
	// Failed nodes may fit after a preemption, Unresolvable ones not.
	Failed, Unresolvable map[string]string
}

// Filter asks which nodes the pod may go to.
func (e *Extender) Filter(ctx context.Context, pod *v1.Pod, nodes []*v1.Node) (*Filtered, error) {
	var result extenderv1.ExtenderFilterResult
	if err := e.send(ctx, e.config.FilterVerb, e.args(pod, nodes), &result); err != nil {
		return nil, err
	}
	if result.Error != "" {
		return nil, errors.New(result.Error)
	}
	known := sets.New[string]()
	for _, node := range nodes {
		known.Insert(node.Name)
	}
	f := &Filtered{Fit: sets.New[string](), Failed: result.FailedNodes, Unresolvable: result.FailedAndUnresolvableNodes}
	switch {
	case e.config.NodeCacheCapable && result.NodeNames != nil:
		f.Fit.Insert(*result.NodeNames...)
	case result.Nodes != nil:
		for i := range result.Nodes.Items {
			f.Fit.Insert(result.Nodes.Items[i].Name)
		}
	}
	if strangers := f.Fit.Difference(known); strangers.Len() > 0 {
		return nil, fmt.Errorf("extender %q claims a filtered node %q which is not found in the input node list", e.Name(), sets.List(strangers)[0])
	}
	return f, nil
}

// Prioritize asks for the scores of nodes; they are weighted.
func (e *Extender) Prioritize(ctx context.Context, pod *v1.Pod, nodes []*v1.Node) (map[string]int64, error) {
	var result extenderv1.HostPriorityList
	if err := e.send(ctx, e.config.PrioritizeVerb, e.args(pod, nodes), &result); err != nil {
		return nil, err
	}
	scores := make(map[string]int64, len(result))
	for _, r := range result {
		scores[r.Host] = r.Score * e.config.Weight
	}
	return scores, nil
}

// args are pod and nodes, these by name for who knows them.
func (e *Extender) args(pod *v1.Pod, nodes []*v1.Node) *extenderv1.ExtenderArgs {
	args := &extenderv1.ExtenderArgs{Pod: pod}
	if e.config.NodeCacheCapable {
		names := make([]string, len(nodes))
		for i, node := range nodes {
			names[i] = node.Name
		}
		args.NodeNames = &names
		return args
	}
	args.Nodes = &v1.NodeList{Items: make([]v1.Node, len(nodes))}
	for i, node := range nodes {
		args.Nodes.Items[i] = *node
	}
	return args
}

// Bind lets the extender bind the pod.
func (e *Extender) Bind(ctx context.Context, pod *v1.Pod, node string) error {
	var result extenderv1.ExtenderBindingResult
	args := &extenderv1.ExtenderBindingArgs{PodName: pod.Name, PodNamespace: pod.Namespace, PodUID: pod.UID, Node: node}
	if err := e.send(ctx, e.config.BindVerb, args, &result); err != nil {
		return err
	}
	if result.Error != "" {
		return errors.New(result.Error)
	}
	return nil
}

// ProcessPreemption asks which of the nodes, with which victims, are right. podsOn are the pods of a node, among which
// the answer, which has UIDs only, is looked up.
func (e *Extender) ProcessPreemption(ctx context.Context, pod *v1.Pod, victims map[string]*extenderv1.Victims, podsOn func(node string) ([]*v1.Pod, error)) (map[string]*extenderv1.Victims, error) {
	args := &extenderv1.ExtenderPreemptionArgs{Pod: pod}
	if e.config.NodeCacheCapable {
		args.NodeNameToMetaVictims = map[string]*extenderv1.MetaVictims{}
		for node, v := range victims {
			meta := &extenderv1.MetaVictims{NumPDBViolations: v.NumPDBViolations}
			for _, victim := range v.Pods {
				meta.Pods = append(meta.Pods, &extenderv1.MetaPod{UID: string(victim.UID)})
			}
			args.NodeNameToMetaVictims[node] = meta
		}
	} else {
		args.NodeNameToVictims = victims
	}
	var result extenderv1.ExtenderPreemptionResult
	if err := e.send(ctx, e.config.PreemptVerb, args, &result); err != nil {
		return nil, err
	}
	kept := map[string]*extenderv1.Victims{}
	for node, meta := range result.NodeNameToMetaVictims {
		pods, err := podsOn(node)
		if err != nil {
			return nil, err
		}
		v := &extenderv1.Victims{NumPDBViolations: meta.NumPDBViolations}
		for _, wanted := range meta.Pods {
			i := slices.IndexFunc(pods, func(p *v1.Pod) bool { return string(p.UID) == wanted.UID })
			if i < 0 {
				return nil, fmt.Errorf("extender: %v claims to preempt pod (UID: %v) on node: %v, but the pod is not found on that node", e.Name(), wanted.UID, node)
			}
			v.Pods = append(v.Pods, pods[i])
		}
		kept[node] = v
	}
	return kept, nil
}

// send is one question and its answer.
func (e *Extender) send(ctx context.Context, verb string, args, result any) error {
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	url := strings.TrimRight(e.config.URLPrefix, "/") + "/" + verb
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := e.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("failed %v with extender at URL %v, code %v", verb, url, response.StatusCode)
	}
	if err := json.NewDecoder(response.Body).Decode(result); err != nil {
		return fmt.Errorf("the answer of extender %s: %w", url, err)
	}
	return nil
}
