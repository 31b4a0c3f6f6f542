package storage

import (
	"bytes"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
)

// writes are the values this process has written or is writing, until they come
// back on the watch: so that writer and watch share one object.
type writes struct {
	mu    sync.Mutex
	byKey map[string][]*write
}

// write is one value on its way.
type write struct {
	key      string
	data     []byte
	frozen   runtime.Object // what data stands for, without a resourceVersion; nil: data has to be decoded
	revision int64          // once known; guarded by writes.mu

	once   sync.Once
	object *Object
	err    error
}

// begin must be called before the value is sent: its event may be here before
// the answer to its writer.
func (w *writes) begin(key string, data []byte, frozen runtime.Object) *write {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byKey == nil {
		w.byKey = map[string][]*write{}
	}
	own := &write{key: key, data: data, frozen: frozen}
	w.byKey[key] = append(w.byKey[key], own)
	return own
}

// abandon forgets a write that failed.
func (w *writes) abandon(own *write) {
	w.remove(own.key, func(other *write) bool { return other == own })
}

// finish says that own was stored at revision. It returns nil when the watch
// took own for another write of the same bytes.
func (w *writes) finish(own *write, revision int64) *write {
	w.mu.Lock()
	defer w.mu.Unlock()
	if own.revision == 0 {
		own.revision = revision
	}
	if own.revision != revision {
		return nil
	}
	return own
}

// claim finds the write that an event is of (nil if it is not ours), and
// forgets all older ones of the key.
func (w *writes) claim(key string, data []byte, revision int64) *write {
	var found *write
	w.remove(key, func(other *write) bool {
		if found == nil && data != nil && (other.revision == 0 || other.revision == revision) && bytes.Equal(other.data, data) {
			other.revision = revision
			found = other
		}
		return other.revision != 0 && other.revision <= revision
	})
	return found
}

// forgetUpTo drops writes whose events will not come, because a list had them.
func (w *writes) forgetUpTo(revision int64) {
	w.mu.Lock()
	keys := make([]string, 0, len(w.byKey))
	for key := range w.byKey {
		keys = append(keys, key)
	}
	w.mu.Unlock()
	for _, key := range keys {
		w.claim(key, nil, revision)
	}
}

func (w *writes) remove(key string, drop func(*write) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kept []*write
	for _, other := range w.byKey[key] {
		if !drop(other) {
			kept = append(kept, other)
		}
	}
	if len(kept) == 0 {
		delete(w.byKey, key)
	} else {
		w.byKey[key] = kept
	}
}

// decoded is the object of a write, made by whoever asks first; of a nil write, the object of data.
func (w *write) decoded(r *resource, key string, data []byte, revision int64) (*Object, error) {
	if w == nil {
		return r.decodeObject(key, &value{data: data}, revision)
	}
	w.once.Do(func() {
		v := &value{data: w.data, canonical: true}
		if w.frozen == nil {
			w.object, w.err = r.decodeObject(w.key, v, revision)
			return
		}
		accessor, err := meta.Accessor(w.frozen)
		if err != nil {
			w.err = err // freeze has refused it
			return
		}
		accessor.SetResourceVersion(strconv.FormatInt(revision, 10))
		w.object = &Object{Key: w.key, ResourceVersion: revision, Object: w.frozen, resource: r, value: v}
	})
	return w.object, w.err
}
