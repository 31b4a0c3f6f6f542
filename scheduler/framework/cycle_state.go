package framework

import (
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
)

// ErrNotFound is returned by CycleState.Read for a key nobody has written.
var ErrNotFound = errors.New("not found")

// StateKey names an entry of a CycleState; by custom the extension point and the
// plugin's name, as "PreFilter" + Name.
type StateKey string

// StateData is one entry of a CycleState. Clone is what makes "what if" possible:
// preemption evaluates nodes with some pods removed on a copy of the state. An
// entry that never changes after it was written may return itself.
type StateData interface {
	Clone() StateData
}

// CycleState is what one scheduling attempt of one pod carries from extension
// point to extension point. Written between the points by one goroutine, read by
// many during Filter and Score; made for that, sync.Map needs no lock on a read.
type CycleState struct {
	storage sync.Map

	// SkipFilterPlugins are those whose PreFilter answered Skip; FilterPlugins are the
	// others, a list so that not each node has to look each plugin up.
	SkipFilterPlugins sets.Set[string]
	FilterPlugins     []FilterPlugin
	// SkipScorePlugins are those whose PreScore answered Skip.
	SkipScorePlugins sets.Set[string]
}

// NewCycleState returns an empty state.
func NewCycleState() *CycleState { return &CycleState{} }

// Read returns the entry of key, or ErrNotFound.
func (c *CycleState) Read(key StateKey) (StateData, error) {
	if v, ok := c.storage.Load(key); ok {
		return v.(StateData), nil
	}
	return nil, ErrNotFound
}

// Write stores val under key.
func (c *CycleState) Write(key StateKey, val StateData) { c.storage.Store(key, val) }

// Delete removes the entry of key.
func (c *CycleState) Delete(key StateKey) { c.storage.Delete(key) }

// Clone copies the state, each entry by its own Clone.
func (c *CycleState) Clone() *CycleState {
	if c == nil {
		return nil
	}
	clone := &CycleState{SkipFilterPlugins: c.SkipFilterPlugins, FilterPlugins: c.FilterPlugins, SkipScorePlugins: c.SkipScorePlugins}
	c.storage.Range(func(k, v any) bool {
		clone.storage.Store(k, v.(StateData).Clone())
		return true
	})
	return clone
}
