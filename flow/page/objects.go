package page

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Tree is an object and what hangs below it: what it owns, what a Service leads to.
type Tree struct {
	Kind      string `json:"kind"`
	Group     string `json:"group,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// State is "good", "waiting", "bad" or "gone" (being deleted); Text says more.
	State    string  `json:"state"`
	Text     string  `json:"text,omitempty"`
	Children []*Tree `json:"children,omitempty"`
}

const (
	good    = "good"
	waiting = "waiting"
	bad     = "bad"
	gone    = "gone"
)

// forest is what grows from lists of objects.
type forest struct {
	byUID map[types.UID]*Tree
	// owner is the controlling owner of each.
	owner map[types.UID]types.UID
	order []types.UID
}

// serveObjects answers with the trees from Deployments and their like to containers, and from
// Services to rules.
func (s *Server) serveObjects(w http.ResponseWriter, r *http.Request) {
	f := &forest{byUID: map[types.UID]*Tree{}, owner: map[types.UID]types.UID{}}
	if err := f.plant(r.Context(), s.config.Client); err != nil {
		refuse(w, err, nil)
		return
	}
	services, err := s.services(r.Context(), f)
	if err != nil {
		refuse(w, err, nil)
		return
	}
	answer(w, map[string]any{"owners": f.roots(), "services": services})
}

// fromCache lets the apiserver answer from its watch cache.
var fromCache = metav1.ListOptions{ResourceVersion: "0"}

// plant reads what owns pods, and the pods.
func (f *forest) plant(ctx context.Context, client kubernetes.Interface) error {
	deployments, err1 := client.AppsV1().Deployments("").List(ctx, fromCache)
	stateful, err2 := client.AppsV1().StatefulSets("").List(ctx, fromCache)
	daemons, err3 := client.AppsV1().DaemonSets("").List(ctx, fromCache)
	cronJobs, err4 := client.BatchV1().CronJobs("").List(ctx, fromCache)
	jobs, err5 := client.BatchV1().Jobs("").List(ctx, fromCache)
	sets, err6 := client.AppsV1().ReplicaSets("").List(ctx, fromCache)
	pods, err7 := client.CoreV1().Pods("").List(ctx, fromCache)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return err
	}
	for i := range deployments.Items {
		d := &deployments.Items[i]
		f.add("Deployment", "apps", d, ready(d.Status.ReadyReplicas, replicas(d.Spec.Replicas)))
	}
	for i := range stateful.Items {
		d := &stateful.Items[i]
		f.add("StatefulSet", "apps", d, ready(d.Status.ReadyReplicas, replicas(d.Spec.Replicas)))
	}
	for i := range daemons.Items {
		d := &daemons.Items[i]
		f.add("DaemonSet", "apps", d, ready(d.Status.NumberReady, d.Status.DesiredNumberScheduled))
	}
	for i := range cronJobs.Items {
		f.add("CronJob", "batch", &cronJobs.Items[i], state{good, cronJobs.Items[i].Spec.Schedule})
	}
	for i := range jobs.Items {
		j := &jobs.Items[i]
		job := state{waiting, fmt.Sprintf("%d done, %d running", j.Status.Succeeded, j.Status.Active)}
		if j.Status.CompletionTime != nil {
			job.State = good
		} else if j.Status.Failed > 0 {
			job.State = bad
		}
		f.add("Job", "batch", j, job)
	}
	for i := range sets.Items {
		d := &sets.Items[i]
		f.add("ReplicaSet", "apps", d, ready(d.Status.ReadyReplicas, replicas(d.Spec.Replicas)))
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		f.add("Pod", "", p, podState(p)).Children = containers(p)
	}
	return nil
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

type state struct{ State, Text string }

func ready(have, want int32) state {
	s := state{good, fmt.Sprintf("%d/%d", have, want)}
	if have < want {
		s.State = waiting
	}
	return s
}

func (f *forest) add(kind, group string, object metav1.Object, s state) *Tree {
	tree := &Tree{Kind: kind, Group: group, Namespace: object.GetNamespace(), Name: object.GetName(), State: s.State, Text: s.Text}
	if object.GetDeletionTimestamp() != nil {
		tree.State = gone
	}
	f.byUID[object.GetUID()] = tree
	f.order = append(f.order, object.GetUID())
	if owner := metav1.GetControllerOf(object); owner != nil {
		f.owner[object.GetUID()] = owner.UID
	}
	return tree
}

// podState says about a pod what kubectl's STATUS column would.
func podState(p *corev1.Pod) state {
	text, s := string(p.Status.Phase), waiting
	if p.Status.Reason != "" {
		text = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue:
			s = good
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			text, s = c.Reason, bad
		}
	}
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		s = good
	case corev1.PodFailed:
		s = bad
	}
	if p.Spec.NodeName != "" {
		text += " · " + p.Spec.NodeName
	} else if s == waiting {
		text += " · no node yet"
	}
	return state{s, text}
}

// containers are those of a pod, the init containers first.
func containers(p *corev1.Pod) (trees []*Tree) {
	statuses := map[string]corev1.ContainerStatus{}
	for _, status := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		statuses[status.Name] = status
	}
	for i, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		tree := &Tree{Kind: "container", Namespace: p.Namespace, Name: c.Name, State: waiting, Text: c.Image}
		status, known := statuses[c.Name]
		switch {
		case !known:
		case status.State.Running != nil:
			tree.State, tree.Text = good, "running · "+c.Image
			if !status.Ready && i >= len(p.Spec.InitContainers) {
				tree.State, tree.Text = waiting, "not ready · "+c.Image
			}
		case status.State.Terminated != nil:
			end := status.State.Terminated
			tree.State, tree.Text = good, fmt.Sprintf("ended: %s (%d)", end.Reason, end.ExitCode)
			if end.ExitCode != 0 {
				tree.State = bad
			}
		case status.State.Waiting != nil:
			tree.Text = status.State.Waiting.Reason
			if tree.Text != "ContainerCreating" && tree.Text != "PodInitializing" {
				tree.State = bad
			}
		}
		if status.RestartCount > 0 {
			tree.Text += fmt.Sprintf(" · restarted %d×", status.RestartCount)
		}
		trees = append(trees, tree)
	}
	return trees
}

// roots hangs everything below its owner and returns what has none.
func (f *forest) roots() []*Tree {
	roots := []*Tree{}
	for _, uid := range f.order {
		tree := f.byUID[uid]
		if tree.Kind == "ReplicaSet" && len(tree.Children) == 0 && tree.Text == "0/0" && !f.hasChildren(uid) {
			continue // an old one of a Deployment, kept for going back
		}
		if owner := f.byUID[f.owner[uid]]; owner != nil {
			owner.Children = append(owner.Children, tree)
			continue
		}
		roots = append(roots, tree)
	}
	slices.SortFunc(roots, byName)
	return roots
}

func (f *forest) hasChildren(uid types.UID) bool {
	for _, owner := range f.owner {
		if owner == uid {
			return true
		}
	}
	return false
}

func byName(a, b *Tree) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// services are the trees Service → EndpointSlice → endpoint, and Service → rules.
func (s *Server) services(ctx context.Context, f *forest) ([]*Tree, error) {
	services, err1 := s.config.Client.CoreV1().Services("").List(ctx, fromCache)
	slicesList, err2 := s.config.Client.DiscoveryV1().EndpointSlices("").List(ctx, fromCache)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	trees := []*Tree{}
	for i := range services.Items {
		service := &services.Items[i]
		tree := &Tree{Kind: "Service", Namespace: service.Namespace, Name: service.Name, State: good, Text: service.Spec.ClusterIP + ports(service)}
		usable := 0
		for j := range slicesList.Items {
			slice := &slicesList.Items[j]
			if slice.Namespace == service.Namespace && slice.Labels[discoveryv1.LabelServiceName] == service.Name {
				tree.Children = append(tree.Children, f.slice(slice, &usable))
			}
		}
		if usable == 0 && service.Spec.Type != corev1.ServiceTypeExternalName {
			tree.State = waiting
		}
		tree.Children = append(tree.Children, s.rules(ctx, service)...)
		trees = append(trees, tree)
	}
	slices.SortFunc(trees, byName)
	return trees, nil
}

func ports(service *corev1.Service) string {
	var list []string
	for _, p := range service.Spec.Ports {
		list = append(list, fmt.Sprint(p.Port))
	}
	return ":" + strings.Join(list, ",")
}

// slice is an EndpointSlice with its endpoints; usable counts those that take new connections.
func (f *forest) slice(slice *discoveryv1.EndpointSlice, usable *int) *Tree {
	tree := &Tree{Kind: "EndpointSlice", Group: discoveryv1.GroupName, Namespace: slice.Namespace, Name: slice.Name, State: good,
		Text: fmt.Sprintf("endpoints: %d", len(slice.Endpoints))}
	for _, endpoint := range slice.Endpoints {
		child := &Tree{Kind: "endpoint", Namespace: slice.Namespace, Name: strings.Join(endpoint.Addresses, ","), State: waiting}
		if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
			child.State = good
			*usable++
		}
		if endpoint.TargetRef != nil {
			child.Text = endpoint.TargetRef.Kind + " " + endpoint.TargetRef.Name
		}
		tree.Children = append(tree.Children, child)
	}
	return tree
}

// rules are the chains of a Service on this node with their rules.
func (s *Server) rules(ctx context.Context, service *corev1.Service) (chains []*Tree) {
	if s.config.Rules == nil || service.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	rules, err := s.config.Rules(ctx, service.Namespace, service.Name)
	if err != nil {
		return []*Tree{{Kind: "chain", Name: "?", State: waiting, Text: err.Error()}}
	}
	for _, rule := range rules {
		if len(chains) == 0 || chains[len(chains)-1].Name != rule.Chain {
			chains = append(chains, &Tree{Kind: "chain", Name: rule.Chain, State: good})
		}
		chain := chains[len(chains)-1]
		chain.Children = append(chain.Children, &Tree{Kind: "rule", Name: rule.Text, State: good})
	}
	return chains
}
