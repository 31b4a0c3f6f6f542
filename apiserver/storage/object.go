package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is one version of one stored object: decoded once, and encoded at most
// once a form, however many requests and watchers it is sent to.
//
// Invariants:
//   - Nothing reachable from Object is ever changed.
//   - Object's metadata.resourceVersion is ResourceVersion.
//   - A typed Object has no kind and apiVersion, as typed objects in Go
//     programs have none; an unstructured one has them.
type Object struct {
	// Key is the object's key below the resource's prefix: "default/web".
	Key             string
	ResourceVersion int64
	Object          runtime.Object

	resource *resource // nil for an object that is not stored (NewObject)
	value    *value    // as in etcd; nil likewise

	mu        sync.Mutex
	encodings []encoding
	fields    fields.Set // computed on first use
}

type encoding struct {
	id   string
	data []byte
}

// value is what etcd holds: an object without its resourceVersion. Versions of
// an object that differ in their revision only (a deletion) share it.
type value struct {
	data []byte
	once sync.Once
	// body is the JSON after `"metadata":{`; nil if there is none.
	body []byte
	// canonical says that this process encoded data, so that it has all defaults
	// and may be served as it is.
	canonical bool
}

// NewObject wraps an object that did not come from the store (the result of a
// dry run), so that it can be answered like one which did.
func NewObject(key string, obj runtime.Object) *Object {
	o := &Object{Key: key, Object: obj}
	if accessor, err := meta.Accessor(obj); err == nil {
		o.ResourceVersion, _ = strconv.ParseInt(accessor.GetResourceVersion(), 10, 64)
	}
	return o
}

// Encoded returns what make returned on the first call with this id. id must
// name all that the bytes depend on: media type, served version, with kind or
// without. Errors are not kept.
func (o *Object) Encoded(id string, make func() ([]byte, error)) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.encodings {
		if e.id == id {
			return e.data, nil
		}
	}
	data, err := make()
	if err != nil {
		return nil, err
	}
	o.encodings = append(o.encodings, encoding{id, data})
	return data, nil
}

// Stored returns the bytes in etcd: JSON or protobuf, with kind, without
// resourceVersion. nil for an object that is not stored.
func (o *Object) Stored() []byte {
	if o.value == nil {
		return nil
	}
	return o.value.data
}

// AppendJSON appends the object's JSON in its stored version to dst, without a
// newline. typed adds kind and apiVersion, as a GET or a watch event shows them;
// items of built-in lists go without. An unstructured object has them always.
//
// Where the value in etcd is JSON written by this process, this is a copy of it
// around two holes: kind and apiVersion, and resourceVersion. Nothing is encoded
// and nothing is kept.
func (o *Object) AppendJSON(dst []byte, typed bool) ([]byte, error) {
	if body := o.jsonBody(); body != nil {
		dst = append(dst, '{')
		if _, untyped := o.Object.(*unstructured.Unstructured); typed || untyped {
			dst = append(dst, o.resource.jsonHead...)
		}
		dst = append(dst, `"metadata":{"resourceVersion":"`...)
		dst = strconv.AppendInt(dst, o.ResourceVersion, 10)
		dst = append(dst, `",`...)
		return append(dst, body...), nil
	}
	data, err := o.Encoded("storage/json", func() ([]byte, error) { return json.Marshal(o.Object) })
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", o.Key, err)
	}
	if _, untyped := o.Object.(*unstructured.Unstructured); untyped || !typed || o.resource == nil {
		return append(dst, data...), nil
	}
	dst = append(dst, '{')
	dst = append(dst, o.resource.jsonHead...)
	return append(dst, data[1:]...), nil
}

// jsonBody finds what follows `{"kind":…,"apiVersion":…,"metadata":{` in the
// stored value, or makes it, once a value.
func (o *Object) jsonBody() []byte {
	if o.value == nil || o.resource == nil {
		return nil
	}
	v := o.value
	v.once.Do(func() {
		data := v.data
		if !v.canonical {
			// Stored by another program or an older version of this one: what it
			// left out has been defaulted since, so that only the decoded object will do.
			var err error
			if data, err = o.resource.encodeJSON(o.Object); err != nil {
				return
			}
			if bytes.Equal(data, v.data) {
				data = v.data
			}
		}
		v.body = splitBody(data, o.resource.jsonHead)
	})
	return v.body
}

// splitBody returns data without `{<head>"metadata":{`, or nil if it does not
// start so, or has no further metadata.
func splitBody(data []byte, head string) []byte {
	rest, found := bytes.CutPrefix(data, []byte("{"+head+`"metadata":{`))
	if !found || len(rest) == 0 || rest[0] != '"' || bytes.HasPrefix(rest, []byte(`"resourceVersion"`)) {
		return nil
	}
	return rest
}

// Labels are the object's labels.
func (o *Object) Labels() labels.Set {
	accessor, err := meta.Accessor(o.Object)
	if err != nil {
		return nil
	}
	return accessor.GetLabels()
}

// Fields are what a field selector can ask for: metadata.name,
// metadata.namespace, and those of the resource.
func (o *Object) Fields() fields.Set {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fields == nil {
		o.fields = o.selectableFields()
	}
	return o.fields
}

func (o *Object) selectableFields() fields.Set {
	set := fields.Set{}
	if o.resource != nil && o.resource.config.Fields != nil {
		for name, v := range o.resource.config.Fields(o.Object) {
			set[name] = v
		}
	}
	if accessor, err := meta.Accessor(o.Object); err == nil {
		set["metadata.name"], set["metadata.namespace"] = accessor.GetName(), accessor.GetNamespace()
	}
	return set
}

// Matches reports whether the predicate chooses the object.
func (p Predicate) Matches(o *Object) bool {
	if p.Label != nil && !p.Label.Empty() && !p.Label.Matches(o.Labels()) {
		return false
	}
	return p.Field == nil || p.Field.Empty() || p.Field.Matches(o.Fields())
}

// Empty reports whether the predicate chooses every object.
func (p Predicate) Empty() bool {
	return (p.Label == nil || p.Label.Empty()) && (p.Field == nil || p.Field.Empty())
}
