package registry

import "k8s.io/apimachinery/pkg/runtime"

// Shapes is how many shapes of new objects a store remembers the fields of.
func (s *Store) Shapes() int { return len(s.tracker.memory.known) }

// Updated is obj with its managed fields after an update of old.
func (s *Store) Updated(old, obj runtime.Object, manager string) runtime.Object {
	return s.tracker.updated(old, obj, Write{Manager: manager})
}
