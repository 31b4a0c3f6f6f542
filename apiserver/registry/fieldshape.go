package registry

import (
	"encoding/binary"
	"encoding/json"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// fieldMemory remembers the fields of new objects by their shape. The library takes a sixth of a create to
// find them, and most objects are made like one before: the pods of a ReplicaSet, a node's leases, events.
//
// The shape of an object is all that its fields depend on, and a little more: which fields are set, the
// keys of maps, and in lists the scalars of each item, which may be its key. Invariant: objects of one
// kind and one shape have the same fields. It needs that list keys and the items of sets are scalars,
// which a test holds for every schema.
type fieldMemory struct {
	mu    sync.Mutex
	known map[string][]byte // FieldsV1 by shape
}

// maxShapes bounds what is remembered of a resource: beyond it all is forgotten.
const maxShapes = 200

// maxShape is the longest shape worth remembering.
const maxShape = 4 << 10

func (m *fieldMemory) get(shape []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[string(shape)]
}

func (m *fieldMemory) put(shape, fields []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxShapes {
		m.known = map[string][]byte{}
	}
	m.known[string(shape)] = fields
}

// shapeOf is the shape of an object, or nil if it has parts that this cannot tell by.
func shapeOf(obj runtime.Object) []byte {
	value := reflect.ValueOf(obj)
	accessor, err := meta.Accessor(obj)
	if err != nil || value.Kind() != reflect.Pointer || accessor.GetManagedFields() != nil {
		return nil // the client's managed fields count too
	}
	w := shapeWalker{shape: make([]byte, 0, 256)}
	w.walk(value.Elem(), false)
	if w.refused || len(w.shape) > maxShape {
		return nil
	}
	return w.shape
}

type shapeWalker struct {
	shape   []byte
	refused bool
}

// shapeEnd ends a struct; fields are numbered from 0, and no struct has so many.
const shapeEnd = 0xffff

// walk appends the shape of v. item: v is in a list, or is a field of what is.
func (w *shapeWalker) walk(v reflect.Value, item bool) {
	switch treatment(v.Type()) {
	case refuse:
		w.refused = true
		return
	case leaf:
		w.leaf(v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		w.structure(v, item)
	case reflect.Pointer:
		if w.number(zeroOrOne(!v.IsNil())); !v.IsNil() {
			w.walk(v.Elem(), item)
		}
	case reflect.Slice:
		w.number(v.Len())
		for i := range v.Len() {
			w.walk(v.Index(i), true)
		}
	case reflect.Map:
		w.mapping(v)
	case reflect.String:
		if item {
			w.text(v.String())
		} else {
			w.number(zeroOrOne(v.Len() > 0))
		}
	case reflect.Bool:
		w.number(zeroOrOne(v.Bool()))
	case reflect.Int, reflect.Int32, reflect.Int64:
		if item {
			w.shape = binary.BigEndian.AppendUint64(w.shape, uint64(v.Int()))
		} else {
			w.number(zeroOrOne(v.Int() != 0))
		}
	default:
		w.refused = true
	}
}

// structure appends the number of each field that is set, and its shape. The fields of an embedded
// struct are its own in JSON.
func (w *shapeWalker) structure(v reflect.Value, item bool) {
	for i := range v.NumField() {
		if field := v.Field(i); !field.IsZero() {
			w.number(i)
			w.walk(field, item && (field.Kind() != reflect.Struct || v.Type().Field(i).Anonymous))
		}
	}
	w.number(shapeEnd)
}

func (w *shapeWalker) mapping(v reflect.Value) {
	if v.Type().Key().Kind() != reflect.String {
		w.refused = true
		return
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	w.number(len(keys))
	for _, key := range keys {
		w.text(key.String())
		w.walk(v.MapIndex(key), false)
	}
}

// leaf is a type that JSON shows as one scalar: it matters only whether that is null.
func (w *shapeWalker) leaf(v reflect.Value) {
	zero := v.IsZero()
	if v.CanAddr() {
		if z, ok := v.Addr().Interface().(interface{ IsZero() bool }); ok {
			zero = z.IsZero()
		}
	}
	w.number(zeroOrOne(!zero))
}

func (w *shapeWalker) text(s string) {
	w.number(len(s) >> 16)
	w.number(len(s))
	w.shape = append(w.shape, s...)
}

func (w *shapeWalker) number(n int) { w.shape = append(w.shape, byte(n>>8), byte(n)) }

func zeroOrOne(b bool) int {
	if b {
		return 1
	}
	return 0
}

// treatments of a type.
const (
	descend = iota
	leaf
	refuse
)

var treatments sync.Map // by reflect.Type

// treatment says what is done with values of a type. A type that writes its own JSON can be anything
// there (RawExtension): only those known to be scalars are told by.
func treatment(t reflect.Type) int {
	if known, ok := treatments.Load(t); ok {
		return known.(int)
	}
	marshaler := reflect.TypeFor[json.Marshaler]()
	how := descend
	switch t {
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime](), reflect.TypeFor[metav1.Duration](), reflect.TypeFor[time.Time](),
		reflect.TypeFor[resource.Quantity](), reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[[]byte]():
		how = leaf
	default:
		if t.Kind() == reflect.Interface || t.Kind() != reflect.Pointer && (t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler)) {
			how = refuse
		}
	}
	treatments.Store(t, how)
	return how
}
