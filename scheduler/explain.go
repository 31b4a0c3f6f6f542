package scheduler

import (
	"encoding/json"
	"net/http"
	"sort"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

// Of one attempt at most so many nodes are kept, so that an attempt on a large
// cluster takes a few KiB.
const (
	keepFiltered = 50
	keepScored   = 10
)

// Into the record of the cluster go fewer: every pod of every cluster is in there.
const (
	reportFiltered = 20
	reportScored   = 5
)

// Attempt is what one turn of the loop found out about a pod (R23): it answers
// "why there" and "why not". Fields are settled when BoundAt, Message or both are.
type Attempt struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	// Number counts the pod's attempts from 1.
	Number int       `json:"attempt"`
	Time   time.Time `json:"time"`
	// Duration of the scheduling cycle, in nanoseconds in JSON.
	Duration time.Duration `json:"duration"`
	// Result is Scheduled, Unschedulable or Error.
	Result string `json:"result"`
	// Node is the one chosen, also if the binding then failed.
	Node string `json:"node,omitempty"`
	// Message is the text of the FailedScheduling event, or the error of the binding.
	Message        string     `json:"message,omitempty"`
	TotalNodes     int        `json:"totalNodes"`
	FeasibleNodes  int        `json:"feasibleNodes"`
	EvaluatedNodes int        `json:"evaluatedNodes"`
	BoundAt        *time.Time `json:"boundAt,omitempty"`
	// Filtered are nodes that were refused, by name, at most 50.
	Filtered []FilteredNode `json:"filtered,omitempty"`
	// PreFilter is the refusal for all nodes at once.
	PreFilter string `json:"preFilter,omitempty"`
	// Scores are the best nodes, best first, at most 10. Empty when only one node
	// was left: then nothing is scored.
	Scores []runtime.NodePluginScores `json:"scores,omitempty"`

	owner *explanations
}

// FilteredNode is a node that was refused.
type FilteredNode struct {
	Node    string   `json:"node"`
	Plugin  string   `json:"plugin"`
	Reasons []string `json:"reasons"`
	// Unresolvable: evicting pods from it would not help.
	Unresolvable bool `json:"unresolvable,omitempty"`
}

// explanations is a ring of the last attempts of all pods.
type explanations struct {
	mu   sync.Mutex
	ring []*Attempt
	next int
}

func newExplanations(size int) *explanations { return &explanations{ring: make([]*Attempt, size)} }

func (e *explanations) begin(podInfo *framework.QueuedPodInfo, now time.Time) *Attempt {
	a := &Attempt{
		Namespace: podInfo.Pod.Namespace, Name: podInfo.Pod.Name, UID: podInfo.Pod.UID,
		Number: podInfo.Attempts, Time: now, owner: e,
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ring[e.next] = a
	e.next = (e.next + 1) % len(e.ring)
	return a
}

// noteFilter keeps why nodes were refused.
func (a *Attempt) noteFilter(total, feasible int, d framework.Diagnosis) {
	filtered := make([]FilteredNode, 0, min(d.NodeToStatus.Len(), keepFiltered))
	d.NodeToStatus.ForEachExplicitNode(func(node string, status *framework.Status) {
		if len(filtered) < keepFiltered {
			filtered = append(filtered, FilteredNode{
				Node: node, Plugin: status.Plugin(), Reasons: status.Reasons(),
				Unresolvable: status.Code() == framework.UnschedulableAndUnresolvable,
			})
		}
	})
	sort.Slice(filtered, func(i, j int) bool { return filtered[i].Node < filtered[j].Node })
	a.owner.mu.Lock()
	defer a.owner.mu.Unlock()
	a.TotalNodes, a.FeasibleNodes, a.EvaluatedNodes = total, feasible, feasible+d.NodeToStatus.Len()
	a.Filtered, a.PreFilter = filtered, d.PreFilterMsg
}

// noteScores keeps the best nodes, the chosen one first among its equals. One pass
// with a short sorted list: sorting all would cost more than scoring them.
func (a *Attempt) noteScores(scores []runtime.NodePluginScores, chosen string) {
	best := make([]runtime.NodePluginScores, 0, keepScored+1)
	for _, s := range scores {
		i := sort.Search(len(best), func(i int) bool {
			return best[i].TotalScore < s.TotalScore || best[i].TotalScore == s.TotalScore && s.Name == chosen
		})
		if i == keepScored {
			continue
		}
		best = append(best, runtime.NodePluginScores{})
		copy(best[i+1:], best[i:])
		best[i] = s
		best = best[:min(len(best), keepScored)]
	}
	for i := range best {
		// The slices share one array with all other nodes: do not keep it alive.
		best[i].Scores = append([]runtime.PluginScore(nil), best[i].Scores...)
	}
	a.owner.mu.Lock()
	defer a.owner.mu.Unlock()
	a.Scores = best
}

func (a *Attempt) finishCycle(result ScheduleResult, status *framework.Status, d time.Duration) {
	a.owner.mu.Lock()
	defer a.owner.mu.Unlock()
	a.Duration, a.Node = d, result.SuggestedHost
	a.setResult(status)
}

func (a *Attempt) finishBinding(status *framework.Status, now time.Time) {
	a.owner.mu.Lock()
	defer a.owner.mu.Unlock()
	a.setResult(status)
	if status.IsSuccess() {
		a.BoundAt = &now
	}
}

// report is the attempt as the record of the cluster gets it, after its scheduling cycle.
func (a *Attempt) report() json.RawMessage {
	a.owner.mu.Lock()
	short := *a
	a.owner.mu.Unlock()
	short.Filtered = short.Filtered[:min(len(short.Filtered), reportFiltered)]
	short.Scores = short.Scores[:min(len(short.Scores), reportScored)]
	data, err := json.Marshal(short)
	if err != nil {
		return nil // it is made of texts and numbers: cannot happen
	}
	return data
}

func (a *Attempt) setResult(status *framework.Status) {
	switch {
	case status.IsSuccess():
		a.Result = "Scheduled"
		return
	case status.IsRejected():
		a.Result = "Unschedulable"
	default:
		a.Result = "Error"
	}
	a.Message = status.AsError().Error()
}

// Explain returns the attempts kept for a pod, oldest first; all pods of the
// namespace for an empty name, all of all for both empty.
func (sched *Scheduler) Explain(namespace, name string) []Attempt {
	e := sched.explanations
	e.mu.Lock()
	defer e.mu.Unlock()
	attempts := []Attempt{}
	for i := range e.ring {
		a := e.ring[(e.next+i)%len(e.ring)]
		if a == nil || namespace != "" && a.Namespace != namespace || name != "" && a.Name != name {
			continue
		}
		attempts = append(attempts, *a)
	}
	return attempts
}

// ExplainHandler serves Explain as JSON: ?namespace=default&name=web.
func (sched *Scheduler) ExplainHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		w.Header().Set("Content-Type", "application/json")
		// A failed write means the reader has gone: there is nobody left to tell.
		_ = json.NewEncoder(w).Encode(sched.Explain(query.Get("namespace"), query.Get("name")))
	})
}
