package why

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Explanation is the answer to "why": one screen.
type Explanation struct {
	// Object is "pod default/web", State what it is in a few words.
	Object   string    `json:"object"`
	State    string    `json:"state"`
	Findings []Finding `json:"findings"`
	// Unread is what could not be read, and why: the explanation does without.
	Unread []string `json:"unread,omitempty"`
}

// Finding is one thing that explains the state.
type Finding struct {
	Weight Weight `json:"weight"`
	Title  string `json:"title"`
	// Evidence are the lines by which one knows.
	Evidence []string `json:"evidence,omitempty"`
	// Remedy is what would have to change.
	Remedy string `json:"remedy,omitempty"`
}

// Weight orders findings, the worst first.
type Weight string

const (
	// Trouble does not go away by itself.
	Trouble Weight = "trouble"
	// Waiting is a state that somebody is about to end.
	Waiting Weight = "waiting"
	// Note explains, and nothing is wrong.
	Note Weight = "note"
)

var weights = map[Weight]int{Trouble: 0, Waiting: 1, Note: 2}

// Gatherer reads what explanations are made from.
type Gatherer struct {
	client kubernetes.Interface
	// metadata reads Secrets without their values.
	metadata metadata.Interface
	// rules are those of a Service as a node's kernel has them. May be nil.
	rules RulesReader
	clock func() time.Time
}

// RulesReader returns the rules of a Service from the proxy that can be reached from here.
type RulesReader func(ctx context.Context, namespace, name string) ([]Step, error)

// NewGatherer makes a Gatherer for the cluster of config. rules may be nil: then what a
// Service's rules are is said to be unread.
func NewGatherer(config *rest.Config, rules RulesReader) (*Gatherer, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	names, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Gatherer{client: client, metadata: names, rules: rules, clock: time.Now}, nil
}

// explainer is what is known of a kind: its names, and how it is explained.
type explainer struct {
	kind, group string
	names       []string
	clusterWide bool
	explain     func(r *reading, ctx context.Context) (*Explanation, error)
}

// table is all kinds that can be explained. A new one is a file and a line here.
var table = []explainer{
	{"Pod", "", []string{"pod", "pods", "po"}, false, (*reading).pod},
	{"Node", "", []string{"node", "nodes", "no"}, true, (*reading).node},
	{"Deployment", "apps", []string{"deployment", "deployments", "deploy"}, false, (*reading).deployment},
	{"ReplicaSet", "apps", []string{"replicaset", "replicasets", "rs"}, false, (*reading).replicaSet},
	{"StatefulSet", "apps", []string{"statefulset", "statefulsets", "sts"}, false, (*reading).statefulSet},
	{"DaemonSet", "apps", []string{"daemonset", "daemonsets", "ds"}, false, (*reading).daemonSet},
	{"Job", "batch", []string{"job", "jobs"}, false, (*reading).job},
	{"Service", "", []string{"service", "services", "svc"}, false, (*reading).service},
	{"Namespace", "", []string{"namespace", "namespaces", "ns"}, true, (*reading).namespaceObject},
	{"PersistentVolumeClaim", "", []string{"persistentvolumeclaim", "persistentvolumeclaims", "pvc"}, false, (*reading).claim},
}

// Kinds are the short names of what can be explained.
func Kinds() []string {
	var names []string
	for _, e := range table {
		names = append(names, slices.MinFunc(e.names, func(a, b string) int { return cmp.Compare(len(a), len(b)) }))
	}
	return names
}

// Why explains one object; kind is one of its names, as kubectl has them ("deploy").
func (g *Gatherer) Why(ctx context.Context, kind, namespace, name string) (*Explanation, error) {
	word, _, _ := strings.Cut(strings.ToLower(kind), ".")
	i := slices.IndexFunc(table, func(e explainer) bool { return slices.Contains(e.names, word) })
	if i < 0 {
		return nil, fmt.Errorf("%q cannot be explained; these can: %s", kind, strings.Join(Kinds(), ", "))
	}
	if table[i].clusterWide {
		namespace = ""
	}
	r := &reading{Gatherer: g, facts: facts{now: g.clock(), kind: table[i].kind, group: table[i].group, namespace: namespace, name: name}}
	explanation, err := table[i].explain(r, ctx)
	if err != nil {
		return nil, err
	}
	explanation.Object = strings.ToLower(table[i].kind) + " " + key(namespace, name)
	explanation.Unread = r.unread
	explanation.sort()
	return explanation, nil
}

func (e *Explanation) sort() {
	slices.SortStableFunc(e.Findings, func(a, b Finding) int { return cmp.Compare(weights[a.Weight], weights[b.Weight]) })
}

// add appends a finding.
func (e *Explanation) add(f ...Finding) { e.Findings = append(e.Findings, f...) }

// worst is the first finding that is more than a note; nil: there is none.
func (e *Explanation) worst() *Finding {
	e.sort()
	if len(e.Findings) == 0 || e.Findings[0].Weight == Note {
		return nil
	}
	return &e.Findings[0]
}

func key(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// ago is a time as people say it: "12s ago".
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "at an unknown time"
	}
	if then.After(now) {
		return "just now" // clocks of two machines, or whole seconds
	}
	return span(now.Sub(then)) + " ago"
}

// span is a duration with as much detail as matters: 900ms is 0s, 95s is 1m35s, 26h is 26h.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 72*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// plural is "1 pod", "3 pods".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// few joins at most limit of words.
func few(words []string, limit int) string {
	if len(words) <= limit {
		return strings.Join(words, ", ")
	}
	return strings.Join(words[:limit], ", ") + fmt.Sprintf(" and %d more", len(words)-limit)
}

// oneLine folds white space, and cuts what is longer than max runes.
func oneLine(text string, max int) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > max {
		return string(runes[:max-1]) + "…"
	}
	return text
}
