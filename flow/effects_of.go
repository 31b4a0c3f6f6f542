package flow

// Scheduled is what an attempt of the scheduler is called; its Data is the scheduler's Attempt.
const Scheduled = "schedule"

// EffectsOf returns the effects about an object, oldest first; what picks those of one name, "" all.
// Unlike Trace it puts nothing together, and costs little.
func (r *Record) EffectsOf(t Target, what string) []Effect {
	found := []Effect{}
	if r == nil {
		return found
	}
	for _, e := range r.snapshot() {
		effect, ok := e.(*Effect)
		if ok && effect.Kind == t.Kind.Kind && effect.Namespace == t.Namespace && effect.Name == t.Name &&
			(what == "" || effect.What == what) && !effect.Time.Before(t.Since) {
			found = append(found, *effect)
		}
	}
	return found
}
