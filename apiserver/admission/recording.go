package admission

import (
	"bytes"
	"maps"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// measured is an object that can be weighed and written without an allocation: what is
// generated for the protobuf encoding of all built-in kinds.
type measured interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

// subject is a kind of write. Most kinds are never changed by a plugin, and cost nothing but
// to be weighed; of those that are, snapshots are taken.
type subject struct {
	resource    schema.GroupResource
	subresource string
	operation   request.Operation
}

// changing are the subjects that plugins have been seen to change. It begins with those
// which the plugins of the table change; a webhook's are learned with the first change, of which only the fact is known.
type changing struct {
	seen atomic.Pointer[map[subject]bool]
	mu   sync.Mutex // of those that add
}

var changedFromTheFirst = map[subject]bool{
	{resource: schema.GroupResource{Resource: "pods"}, operation: request.Create}:                                                     true,
	{resource: schema.GroupResource{Resource: "nodes"}, operation: request.Create}:                                                    true,
	{resource: schema.GroupResource{Resource: "persistentvolumeclaims"}, operation: request.Create}:                                   true,
	{resource: schema.GroupResource{Resource: "persistentvolumes"}, operation: request.Create}:                                        true,
	{resource: schema.GroupResource{Group: "networking.k8s.io", Resource: "ingresses"}, operation: request.Create}:                    true,
	{resource: schema.GroupResource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}, operation: request.Create}:              true,
	{resource: schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}, operation: request.Create}: true,
}

func (c *changing) has(s subject) bool {
	if seen := c.seen.Load(); seen != nil {
		return (*seen)[s]
	}
	return changedFromTheFirst[s]
}

func (c *changing) add(s subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has(s) {
		return
	}
	seen := changedFromTheFirst
	if known := c.seen.Load(); known != nil {
		seen = *known
	}
	more := maps.Clone(seen)
	more[s] = true
	c.seen.Store(&more)
}

// snapshots are buffers in which the objects of one chain's run are encoded, before it is known
// whether there is anything to keep.
var snapshots = sync.Pool{New: func() any { return new([]byte) }}

// recording notes what a chain does with one object. Without a record of the request it does nothing.
type recording struct {
	chain   *Chain
	request *flow.Request
	a       *request.AdmissionAttributes
	began   time.Time

	object measured // nil: cannot be weighed
	size   int
	taken  int     // snapshots in buffer; 0: none are taken
	buffer *[]byte // from the pool
	noted  flow.Admission
}

// record begins to note what the plugins of the chain do.
func (c *Chain) record(q *flow.Request, a *request.AdmissionAttributes) (r recording) {
	if q == nil {
		return r
	}
	r = recording{chain: c, request: q, a: a, began: time.Now()}
	r.noted.Plugins = c.pluginNames()
	object, ok := a.Object.(measured)
	if !ok || reflect.ValueOf(a.Object).IsNil() {
		return r
	}
	r.object, r.size = object, object.Size()
	if c.changing.has(r.subject()) {
		r.buffer = snapshots.Get().(*[]byte)
		*r.buffer = (*r.buffer)[:0]
		r.snapshot()
	}
	return r
}

func (r *recording) subject() subject {
	return subject{resource: r.a.Resource.GroupResource(), subresource: r.a.Subresource, operation: r.a.Operation}
}

// snapshot encodes the object as it is now behind those before; false if it is as it was.
func (r *recording) snapshot() bool {
	if r.taken == len(r.noted.Ends) {
		return true // more changes than anybody reads: the last is not kept
	}
	begin := len(*r.buffer)
	*r.buffer = append(*r.buffer, make([]byte, r.size)...) // the compiler grows it without a temporary
	if _, err := r.object.MarshalToSizedBuffer((*r.buffer)[begin:]); err != nil {
		*r.buffer, r.taken = (*r.buffer)[:begin], len(r.noted.Ends) // no more of them: they would be taken for others
		return true
	}
	if r.taken > 0 {
		before := 0
		if r.taken > 1 {
			before = int(r.noted.Ends[r.taken-2])
		}
		if bytes.Equal((*r.buffer)[before:begin], (*r.buffer)[begin:]) {
			*r.buffer = (*r.buffer)[:begin]
			return false
		}
	}
	r.noted.Ends[r.taken] = int32(len(*r.buffer))
	r.taken++
	return true
}

// asked notes that the i-th plugin has been asked, and answered err.
func (r *recording) asked(i int, err error) {
	if r.request == nil {
		return
	}
	r.noted.Asked |= 1 << i
	if err != nil {
		r.noted.Refused |= 1 << i
	}
	if r.object == nil {
		return
	}
	// A plugin may have put another object into its place.
	if object, ok := r.a.Object.(measured); ok {
		r.object = object
	}
	// What a webhook puts in place of something else may be as long as that was. Our own plugins add.
	size := r.object.Size()
	if size == r.size && (r.taken == 0 || !anybodys[r.noted.Plugins[i]]) {
		return
	}
	r.size = size
	if r.taken > 0 && !r.snapshot() {
		return
	}
	r.noted.Changed |= 1 << i
}

// anybodys are the plugins behind which code of the cluster's users decides.
var anybodys = map[string]bool{"MutatingAdmissionWebhook": true, "MutatingAdmissionPolicy": true}

// end hands what was noted to the record of the request.
func (r *recording) end() {
	if r.request == nil {
		return
	}
	if r.noted.Changed != 0 {
		if r.taken == 0 {
			r.chain.changing.add(r.subject())
		} else {
			r.noted.Object = reflect.TypeOf(r.object).Elem()
			r.noted.Snapshots = bytes.Clone(*r.buffer)
		}
	}
	if r.buffer != nil {
		snapshots.Put(r.buffer)
	}
	r.noted.Took = time.Since(r.began)
	r.request.Admitted(r.noted)
}
