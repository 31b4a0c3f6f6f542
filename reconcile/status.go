package reconcile

import (
	"slices"
	"sync"
	"time"
)

// Status is one row of the table of controllers (`hyperkube controller-manager
// --controllers`, S0-05): what the loop does now and did last.
type Status struct {
	Name string `json:"name"`
	// Synced: the informers' first lists are in, and the workers run.
	Synced bool `json:"synced"`
	// QueueLength counts the keys that wait, without those that wait for a time.
	QueueLength int `json:"queueLength"`
	// Running and Held are the keys being synced and those a gate holds.
	Running []string `json:"running,omitempty"`
	Held    []string `json:"held,omitempty"`
	// Syncs and Errors count runs since the start.
	Syncs  int64 `json:"syncs"`
	Errors int64 `json:"errors"`
	// LastKey is the key whose run ended last; LastTime is when it began.
	LastKey      string        `json:"lastKey,omitempty"`
	LastTime     time.Time     `json:"lastTime"`
	LastDuration time.Duration `json:"lastDuration"`
	// LastError is the newest failure of any key. It stays after the key has
	// succeeded; LastErrorKey and LastErrorTime tell how old it is.
	LastError     string    `json:"lastError,omitempty"`
	LastErrorKey  string    `json:"lastErrorKey,omitempty"`
	LastErrorTime time.Time `json:"lastErrorTime"`
}

// Status returns the loop's row as of now.
func (l *Loop) Status() Status {
	s := l.status.copy()
	s.Name = l.name
	s.QueueLength = l.queue.Len()
	return s
}

// statusBoard is the Status that the workers write.
type statusBoard struct {
	mu sync.Mutex
	s  Status
}

func (b *statusBoard) copy() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.s
	s.Running, s.Held = slices.Clone(s.Running), slices.Clone(s.Held)
	return s
}

func (b *statusBoard) setSynced() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Synced = true
}

func (b *statusBoard) hold(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Held = append(b.s.Held, key)
}

func (b *statusBoard) release(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Held = slices.DeleteFunc(b.s.Held, func(held string) bool { return held == key })
}

func (b *statusBoard) begin(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Running = append(b.s.Running, key)
}

func (b *statusBoard) end(key string, started time.Time, took time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Running = slices.DeleteFunc(b.s.Running, func(running string) bool { return running == key })
	b.s.Syncs++
	b.s.LastKey, b.s.LastTime, b.s.LastDuration = key, started, took
	if err != nil {
		b.s.Errors++
		b.s.LastError, b.s.LastErrorKey, b.s.LastErrorTime = err.Error(), key, started
	}
}
