package registry

// Shapes is how many shapes of new objects a store remembers the fields of.
func (s *Store) Shapes() int { return len(s.tracker.memory.known) }
