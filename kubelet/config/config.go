// Package config brings together where pods come from: the API, a directory of
// manifests, a URL. Each source says what its pods are, all of them each time;
// the mux compares with what it said before and tells the kubelet the difference:
//
//	apiserver watch ─┐
//	directory ───────┼─► Mux.set(source, pods) ─► diff ─► Updates: ADD UPDATE DELETE REMOVE RECONCILE
//	http URL ────────┘
//
// Invariant: a source is "seen" once it has spoken. Until all have, nothing that
// runs may be taken for an orphan: after a restart the API may just be slower
// than the kubelet (R71).
//
// In Kubernetes: pkg/kubelet/config.
package config

import (
	"context"
	"sync"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// PodOperation is what a difference means for its pods.
type PodOperation string

const (
	ADD       PodOperation = "ADD"       // new to this node
	UPDATE    PodOperation = "UPDATE"    // spec, labels or annotations changed
	DELETE    PodOperation = "DELETE"    // asked to end, gracefully
	REMOVE    PodOperation = "REMOVE"    // gone from the source
	RECONCILE PodOperation = "RECONCILE" // only the status differs from what was written
	SET       PodOperation = "SET"       // the source has spoken; no pods differ
)

// Names of the sources.
const (
	ApiserverSource = "api"
	FileSource      = "file"
	HTTPSource      = "http"
)

// PodUpdate is one difference.
type PodUpdate struct {
	Op     PodOperation
	Source string
	Pods   []*v1.Pod
}

// Mux merges the sources.
type Mux struct {
	updates chan PodUpdate

	mu      sync.Mutex
	sources map[string]bool // true once it has spoken
	pods    map[string]map[types.UID]*v1.Pod
}

// NewMux makes a mux of the named sources.
func NewMux(sources ...string) *Mux {
	m := &Mux{updates: make(chan PodUpdate, 50), sources: map[string]bool{}, pods: map[string]map[types.UID]*v1.Pod{}}
	for _, source := range sources {
		m.sources[source], m.pods[source] = false, map[types.UID]*v1.Pod{}
	}
	return m
}

// Updates is where differences come out.
func (m *Mux) Updates() <-chan PodUpdate { return m.updates }

// AllReady tells whether every source has spoken.
func (m *Mux) AllReady() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, seen := range m.sources {
		if !seen {
			return false
		}
	}
	return true
}

// Set takes all pods of a source. It blocks while the kubelet is behind.
func (m *Mux) Set(ctx context.Context, source string, pods []*v1.Pod) {
	m.mu.Lock()
	updates := diff(m.pods[source], pods, source)
	next := map[types.UID]*v1.Pod{}
	for _, pod := range pods {
		next[pod.UID] = pod
	}
	m.pods[source] = next
	if !m.sources[source] {
		m.sources[source] = true
		updates = append(updates, PodUpdate{Op: SET, Source: source})
	}
	m.mu.Unlock()
	for _, update := range updates {
		select {
		case m.updates <- update:
		case <-ctx.Done():
			return
		}
	}
}

// diff compares what a source said before with what it says now. It is pure.
// Removals come first, so that a pod replaced under its name is ended before its
// successor is looked at.
func diff(old map[types.UID]*v1.Pod, pods []*v1.Pod, source string) []PodUpdate {
	byOp := map[PodOperation][]*v1.Pod{}
	seen := map[types.UID]bool{}
	for _, pod := range pods {
		seen[pod.UID] = true
		if op := compare(old[pod.UID], pod); op != "" {
			byOp[op] = append(byOp[op], pod)
		}
	}
	for uid, pod := range old {
		if !seen[uid] {
			byOp[REMOVE] = append(byOp[REMOVE], pod)
		}
	}
	var updates []PodUpdate
	for _, op := range []PodOperation{REMOVE, ADD, UPDATE, DELETE, RECONCILE} {
		if len(byOp[op]) > 0 {
			updates = append(updates, PodUpdate{Op: op, Source: source, Pods: byOp[op]})
		}
	}
	return updates
}

func compare(old, pod *v1.Pod) PodOperation {
	switch {
	case old == nil:
		return ADD
	case old == pod || old.ResourceVersion != "" && old.ResourceVersion == pod.ResourceVersion:
		return ""
	case pod.DeletionTimestamp != nil && (old.DeletionTimestamp == nil || !equalInt64(old.DeletionGracePeriodSeconds, pod.DeletionGracePeriodSeconds)):
		return DELETE
	case !apiequality.Semantic.DeepEqual(old.Spec, pod.Spec) || !apiequality.Semantic.DeepEqual(old.Labels, pod.Labels) ||
		!apiequality.Semantic.DeepEqual(old.Annotations, pod.Annotations) || old.Generation != pod.Generation:
		return UPDATE
	case !apiequality.Semantic.DeepEqual(old.Status, pod.Status):
		return RECONCILE
	}
	return ""
}

func equalInt64(a, b *int64) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
