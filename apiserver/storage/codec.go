package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	kjson "sigs.k8s.io/json"
)

// The media types of stored values.
const (
	mediaTypeJSON     = "application/json"
	mediaTypeProtobuf = "application/vnd.kubernetes.protobuf"
)

// protobufPrefix starts every stored protobuf value; JSON starts with '{'.
var protobufPrefix = []byte("k8s\x00")

// codec turns objects of one kind into stored values and back.
type codec struct {
	kind     schema.GroupVersionKind
	new      func() runtime.Object
	fill     func(runtime.Object) // defaults; may be nil
	protobuf bool                 // values are written as protobuf
	untyped  bool
	jsonHead string // `"kind":"Pod","apiVersion":"v1",`
}

func newCodec(cfg ResourceConfig) (codec, error) {
	c := codec{kind: cfg.Kind, new: cfg.New, fill: cfg.Default}
	apiVersion, kind := cfg.Kind.ToAPIVersionAndKind()
	_, c.untyped = cfg.New().(*unstructured.Unstructured)
	if c.untyped {
		c.jsonHead = fmt.Sprintf(`"apiVersion":%q,"kind":%q,`, apiVersion, kind)
	} else {
		c.jsonHead = fmt.Sprintf(`"kind":%q,"apiVersion":%q,`, kind, apiVersion)
	}
	switch cfg.MediaType {
	case "", mediaTypeJSON:
	case mediaTypeProtobuf:
		if c.untyped {
			return c, fmt.Errorf("%s: an unstructured resource cannot be stored as protobuf", cfg.Prefix)
		}
		c.protobuf = true
	default:
		return c, fmt.Errorf("%s: cannot store as %q: use %s or %s", cfg.Prefix, cfg.MediaType, mediaTypeJSON, mediaTypeProtobuf)
	}
	return c, nil
}

// freeze makes the value to store of obj (with kind, without resourceVersion), and the object that stands for: what decode
// would make of the value, but for its resourceVersion. It shares nothing with obj that anybody may change. It is nil where
// only decode can tell.
//
// The copy goes by way of protobuf, which takes a quarter of the time in which JSON is read again. A plain deep copy would
// be no replacement: a time that the server has just set still has its nanoseconds, and would differ from the same time
// that a client sends back. As what is encoded is the copy, both forms say the same.
func (c *codec) freeze(obj runtime.Object) (data []byte, frozen runtime.Object, err error) {
	message, ok := obj.(protobufMessage)
	if !ok {
		data, err = c.encodeJSON(obj)
		return data, nil, err
	}
	frozen = c.new()
	if err := copyMessage(message, frozen.(protobufMessage)); err != nil {
		return nil, nil, err
	}
	if c.fill != nil {
		c.fill(frozen)
	}
	accessor, err := meta.Accessor(frozen)
	if err != nil {
		return nil, nil, err
	}
	accessor.SetResourceVersion("")
	frozen.GetObjectKind().SetGroupVersionKind(c.kind)
	defer frozen.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	if c.protobuf {
		var out bytes.Buffer
		err = protobuf.NewSerializer(nil, nil).Encode(frozen, &out)
		return out.Bytes(), frozen, err
	}
	data, err = json.Marshal(frozen)
	return data, frozen, err
}

// protobufMessage is what the generated code of typed kinds has.
type protobufMessage interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// messageBuffers are scratch of copyMessage, *[]byte: nothing that is read from one points into it.
var messageBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxMessageBuffer is the size up to which a buffer is kept: large objects are rare.
const maxMessageBuffer = 64 << 10

func copyMessage(from, to protobufMessage) error {
	scratch := messageBuffers.Get().(*[]byte)
	size := from.Size()
	*scratch = slices.Grow((*scratch)[:0], size)[:size]
	defer func() {
		if size <= maxMessageBuffer {
			messageBuffers.Put(scratch)
		}
	}()
	if _, err := from.MarshalToSizedBuffer(*scratch); err != nil {
		return err
	}
	return to.Unmarshal(*scratch)
}

func (c *codec) encodeJSON(obj runtime.Object) ([]byte, error) {
	bare, err := c.bare(obj)
	if err != nil {
		return nil, err
	}
	if u, ok := bare.(*unstructured.Unstructured); ok {
		return json.Marshal(u.Object) // Unstructured.MarshalJSON appends a newline
	}
	return json.Marshal(bare)
}

// bare is obj with its kind and without resourceVersion.
func (c *codec) bare(obj runtime.Object) (runtime.Object, error) {
	bare, err := withResourceVersion(obj, 0)
	if err != nil {
		return nil, err
	}
	bare.GetObjectKind().SetGroupVersionKind(c.kind)
	return bare, nil
}

// decode makes the object of a stored value, with defaults and resourceVersion.
func (c *codec) decode(data []byte, revision int64) (runtime.Object, error) {
	obj := c.new()
	if bytes.HasPrefix(data, protobufPrefix) {
		if err := decodeProtobuf(data, obj); err != nil {
			return nil, err
		}
	} else if u, ok := obj.(*unstructured.Unstructured); ok {
		if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &u.Object); err != nil {
			return nil, err
		}
	} else if err := kjson.UnmarshalCaseSensitivePreserveInts(data, obj); err != nil {
		return nil, err
	}
	if kind := obj.GetObjectKind().GroupVersionKind(); kind != c.kind && !kind.Empty() {
		return nil, fmt.Errorf("stored as %s, not %s", kind, c.kind)
	}
	if !c.untyped {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	if c.fill != nil {
		c.fill(obj)
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	accessor.SetResourceVersion(strconv.FormatInt(revision, 10))
	return obj, nil
}

// decodeProtobuf reads the envelope that upstream puts around a message.
func decodeProtobuf(data []byte, into runtime.Object) error {
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(data[len(protobufPrefix):]); err != nil {
		return err
	}
	message, ok := into.(protobufMessage)
	if !ok {
		return fmt.Errorf("%T cannot be read from protobuf", into)
	}
	if err := message.Unmarshal(envelope.Raw); err != nil {
		return err
	}
	into.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(envelope.APIVersion, envelope.Kind))
	return nil
}

// withResourceVersion returns a copy of obj that differs in resourceVersion only
// (0: none) and shares everything below its metadata with obj.
func withResourceVersion(obj runtime.Object, revision int64) (runtime.Object, error) {
	var copied runtime.Object
	if u, ok := obj.(*unstructured.Unstructured); ok {
		content := make(map[string]any, len(u.Object))
		for k, v := range u.Object {
			content[k] = v
		}
		if metadata, ok := u.Object["metadata"].(map[string]any); ok {
			own := make(map[string]any, len(metadata))
			for k, v := range metadata {
				own[k] = v
			}
			content["metadata"] = own
		}
		copied = &unstructured.Unstructured{Object: content}
	} else {
		own := reflect.New(reflect.TypeOf(obj).Elem())
		own.Elem().Set(reflect.ValueOf(obj).Elem())
		copied = own.Interface().(runtime.Object)
	}
	accessor, err := meta.Accessor(copied)
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		accessor.SetResourceVersion("")
	} else {
		accessor.SetResourceVersion(strconv.FormatInt(revision, 10))
	}
	return copied, nil
}
