package flow

import (
	"encoding/json"
	"math/bits"
	"reflect"
	"slices"
	"time"
)

// Admission is what admission did with the object of a write. Its plugins are numbered in
// their order, so that to note one costs a bit.
type Admission struct {
	// Plugins are the names of the chain; shared, 64 at most.
	Plugins []string
	// Bit i: Plugins[i] was asked, has changed the object, has refused it.
	Asked, Changed, Refused uint64
	// Object is the Go type of what Snapshots holds.
	Object reflect.Type
	// Snapshots are protobuf encodings of the object, one after the other: as it came, then
	// after each plugin that changed it, as far as there are Ends; nil when nothing is known
	// but that it was changed.
	Snapshots []byte
	// Ends are where the snapshots end.
	Ends [8]int32
	// Took is how long all of it took.
	Took time.Duration
}

// AdmissionStep is a plugin that was asked about the object of a write.
type AdmissionStep struct {
	Plugin string `json:"plugin"`
	// Changed says that the plugin changed the object, Diff in what, a line a field.
	Changed bool     `json:"changed,omitempty"`
	Diff    []string `json:"diff,omitempty"`
	// Refused: it said no, and so the request failed.
	Refused bool `json:"refused,omitempty"`
}

// Admitted notes what admission did before the validation of the object. Of a request
// that tries again, or is about many objects, the last is kept.
func (q *Request) Admitted(a Admission) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.admission = a
}

// Judged notes the plugins that were asked after the validation, and for how long.
func (q *Request) Judged(plugins []string, asked, refused uint64, took time.Duration) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.admission.Plugins = plugins
	q.admission.Asked |= asked
	q.admission.Refused |= refused
	q.admission.Took += took
}

// names are the plugins that were asked, in order.
func (a *Admission) names() []string {
	var names []string
	for asked := a.Asked; asked != 0; asked &= asked - 1 {
		names = append(names, a.Plugins[bits.TrailingZeros64(asked)])
	}
	return names
}

// steps says of each plugin what it did. Here the snapshots are decoded and compared.
func (a *Admission) steps(secret bool) []AdmissionStep {
	var steps []AdmissionStep
	before, snapshot := a.snapshot(0), 0
	for asked := a.Asked; asked != 0; asked &= asked - 1 {
		i := bits.TrailingZeros64(asked)
		step := AdmissionStep{Plugin: a.Plugins[i], Changed: a.Changed>>i&1 != 0, Refused: a.Refused>>i&1 != 0}
		if step.Changed {
			snapshot++
			after := a.snapshot(snapshot)
			if before != nil && after != nil {
				d := differ{secret: secret}
				d.compare("", before, after)
				step.Diff = d.short()
			}
			before = after
		}
		steps = append(steps, step)
	}
	return steps
}

// snapshot decodes the n-th snapshot; nil if there is none.
func (a *Admission) snapshot(n int) any {
	if n >= len(a.Ends) || a.Ends[n] == 0 || a.Object == nil || int(a.Ends[n]) > len(a.Snapshots) {
		return nil
	}
	begin := int32(0)
	if n > 0 {
		begin = a.Ends[n-1]
	}
	object, ok := reflect.New(a.Object).Interface().(interface{ Unmarshal([]byte) error })
	if !ok || object.Unmarshal(a.Snapshots[begin:a.Ends[n]]) != nil {
		return nil
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil
	}
	value, err := decodeValue(data)
	if err != nil {
		return nil
	}
	return value
}

// confidential are the kinds whose fields are not shown but for metadata: data of Secrets, and the
// questions and answers that bear tokens.
var confidential = []string{"Secret", "TokenReview", "TokenRequest"}

func isConfidential(kind string) bool { return slices.Contains(confidential, kind) }
