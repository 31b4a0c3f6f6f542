package endpoints

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"hyperkube/apiserver/storage"
)

// appendStored appends a stored object as this endpoint shows it. typed adds kind and
// apiVersion, which items of lists go without. The bytes of JSON and protobuf are made
// once an object and shared by GET, LIST and WATCH (storage.Object).
func (s *Scope) appendStored(dst []byte, o *storage.Object, f form, typed bool) ([]byte, error) {
	switch {
	case f.as != "":
		return s.appendTransformed(dst, o, f)
	case f.media == mediaProtobuf:
		return s.appendProtobuf(dst, o, typed)
	case f.media == mediaCBOR:
		return s.appendCBOR(dst, o)
	case s.Resource.View != nil:
		return s.appendView(dst, o, typed)
	}
	if _, untyped := o.Object.(*unstructured.Unstructured); o.Stored() == nil && !untyped {
		return s.appendUnstored(dst, o, typed)
	}
	return o.AppendJSON(dst, typed)
}

// appendUnstored is the JSON of an object that is in no store (the result of a dry run, a ComponentStatus).
func (s *Scope) appendUnstored(dst []byte, o *storage.Object, typed bool) ([]byte, error) {
	obj, kind := shallow(s.toServed(o.Object)), schema.GroupVersionKind{}
	if typed {
		kind = s.Resource.Kind
	}
	obj.GetObjectKind().SetGroupVersionKind(kind)
	data, err := json.Marshal(obj)
	return append(dst, data...), err
}

// appendView is the JSON of an object that is stored in another version.
func (s *Scope) appendView(dst []byte, o *storage.Object, typed bool) ([]byte, error) {
	data, err := o.Encoded("json/"+s.Resource.Kind.GroupVersion().String(), func() ([]byte, error) {
		obj := s.toServed(o.Object)
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		return json.Marshal(obj)
	})
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", o.Key, err)
	}
	if !typed {
		return append(dst, data...), nil
	}
	return append(append(append(dst, '{'), jsonHead(s.Resource.Kind)...), data[1:]...), nil
}

// jsonHead is what makes an item of a list an object of its own.
func jsonHead(kind schema.GroupVersionKind) string {
	return `"kind":"` + kind.Kind + `","apiVersion":"` + kind.GroupVersion().String() + `",`
}

func (s *Scope) appendProtobuf(dst []byte, o *storage.Object, typed bool) ([]byte, error) {
	body, err := s.protobufBody(o)
	if err != nil {
		return nil, err
	}
	if !typed {
		return append(dst, body...), nil
	}
	return appendEnvelope(dst, s.Resource.Kind, body), nil
}

// protobufBody is the message of an object, without its envelope. It is shared: read only.
func (s *Scope) protobufBody(o *storage.Object) ([]byte, error) {
	return o.Encoded("protobuf/"+s.Resource.Kind.GroupVersion().String(), func() ([]byte, error) {
		message, ok := s.toServed(o.Object).(interface{ Marshal() ([]byte, error) })
		if !ok {
			return nil, notAcceptable()
		}
		return message.Marshal()
	})
}

// protobufMagic starts every protobuf body of the API.
var protobufMagic = []byte("k8s\x00")

// appendEnvelope appends body inside a runtime.Unknown message:
//
//	1: TypeMeta{1: apiVersion, 2: kind}   2: raw   3: contentEncoding ""   4: contentType ""
func appendEnvelope(dst []byte, kind schema.GroupVersionKind, body []byte) []byte {
	dst = append(dst, protobufMagic...)
	dst = appendEnvelopeHead(dst, kind)
	dst = appendField(dst, 2, body)
	return append(dst, 3<<3|2, 0, 4<<3|2, 0)
}

func appendEnvelopeHead(dst []byte, kind schema.GroupVersionKind) []byte {
	var typeMeta []byte
	typeMeta = appendField(typeMeta, 1, []byte(kind.GroupVersion().String()))
	typeMeta = appendField(typeMeta, 2, []byte(kind.Kind))
	return appendField(dst, 1, typeMeta)
}

// appendField appends one length-delimited protobuf field.
func appendField(dst []byte, number byte, value []byte) []byte {
	dst = append(dst, number<<3|2)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

func appendUvarint(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }

// fieldSize is how many bytes appendField takes for a value of n bytes.
func fieldSize(n int) int {
	return 1 + len(binary.AppendUvarint(nil, uint64(n))) + n
}

// appendAny appends an object that did not come from the store: a Status, a Scale, a review, an APIResourceList.
func appendAny(dst []byte, obj runtime.Object, kind schema.GroupVersionKind, f form) ([]byte, error) {
	if f.media == mediaProtobuf {
		message, ok := obj.(interface{ Marshal() ([]byte, error) })
		if !ok {
			return nil, notAcceptable()
		}
		body, err := message.Marshal()
		if err != nil {
			return nil, err
		}
		return appendEnvelope(dst, kind, body), nil
	}
	if _, untyped := obj.(*unstructured.Unstructured); !untyped {
		obj.GetObjectKind().SetGroupVersionKind(kind)
	}
	if f.media == mediaCBOR {
		return encodeCBOR(dst, obj)
	}
	data, err := json.Marshal(obj)
	return append(dst, data...), err
}

// appendTransformed appends one object as a Table of one row, or as its metadata.
func (s *Scope) appendTransformed(dst []byte, o *storage.Object, f form) ([]byte, error) {
	switch f.as {
	case "Table":
		table, err := s.table([]*storage.Object{o}, f, true)
		if err != nil {
			return nil, err
		}
		table.ResourceVersion = versionText(o.ResourceVersion)
		return appendAny(dst, table, f.metaKind("Table"), f)
	case "PartialObjectMetadataList":
		return nil, wrongView(f.as, "not a list", s.Resource.Kind)
	default:
		partial, err := partialMetadata(s.toServed(o.Object), f)
		if err != nil {
			return nil, err
		}
		return appendAny(dst, partial, f.metaKind("PartialObjectMetadata"), f)
	}
}

// versionText is a resourceVersion as answers show it; what is in no store has none.
func versionText(version int64) string {
	if version == 0 {
		return ""
	}
	return strconv.FormatInt(version, 10)
}

// partialMetadata is an object without all but its metadata.
func partialMetadata(obj runtime.Object, f form) (*metav1.PartialObjectMetadata, error) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	partial := meta.AsPartialObjectMetadata(accessor)
	partial.SetGroupVersionKind(f.metaKind("PartialObjectMetadata"))
	return partial, nil
}

// finish gives JSON the look that was asked for: indented, or as YAML.
func (f form) finish(data []byte) ([]byte, error) {
	switch {
	case f.media == mediaYAML:
		return yaml.JSONToYAML(data)
	case f.media == mediaJSON && f.pretty:
		var out bytes.Buffer
		if err := json.Indent(&out, data, "", "  "); err != nil {
			return nil, err
		}
		return out.Bytes(), nil
	case f.media == mediaJSON:
		return append(data, '\n'), nil
	}
	return data, nil
}
