// Package events is the table of events.k8s.io/v1: another view of the events of
// the core group.
package events

import (
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/core/event"
)

// Resources is the table of events.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{event.View(env)}
}
