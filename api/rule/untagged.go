package rule

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Untagged is a value of k8s.io/api that an error shows as upstream does. There
// validation sees internal types, which have no JSON tags: an error's value has Go's
// field names, and what is empty stands there as null or 0:
//
//	spec.strategy: Unsupported value: {"Type":"Fast","RollingUpdate":null}: …
//
// Types of apimachinery (LabelSelector, Quantity, IntOrString) are the same inside
// and outside, so they look as they always do.
func Untagged(value any) json.Marshaler { return untagged{value} }

type untagged struct{ value any }

func (u untagged) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	err := writeUntagged(&out, reflect.ValueOf(u.value))
	return out.Bytes(), err
}

func writeUntagged(out *bytes.Buffer, v reflect.Value) error {
	if v.Kind() == reflect.Pointer && v.IsNil() || !v.IsValid() {
		out.WriteString("null")
		return nil
	}
	if v.Kind() == reflect.Pointer {
		return writeUntagged(out, v.Elem())
	}
	switch {
	case v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().PkgPath(), "k8s.io/api/"):
		out.WriteByte('{')
		err := writeFields(out, v, new(int))
		out.WriteByte('}')
		return err
	case v.Kind() == reflect.Slice && !v.IsNil() && v.Type().Elem().Kind() != reflect.Uint8:
		out.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeUntagged(out, v.Index(i)); err != nil {
				return err
			}
		}
		out.WriteByte(']')
		return nil
	}
	text, err := json.Marshal(v.Interface())
	out.Write(text)
	return err
}

// writeFields writes the fields of a struct; those of an embedded one stand among them. written counts them.
func writeFields(out *bytes.Buffer, v reflect.Value, written *int) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && strings.HasPrefix(f.Type.PkgPath(), "k8s.io/api/") {
			if err := writeFields(out, v.Field(i), written); err != nil {
				return err
			}
			continue
		}
		if f.Type == reflect.TypeFor[metav1.TypeMeta]() {
			continue // an inner object within another has no kind
		}
		if f.Anonymous {
			if err := writeEmbedded(out, v.Field(i), written); err != nil {
				return err
			}
			continue
		}
		if *written++; *written > 1 {
			out.WriteByte(',')
		}
		out.WriteString(`"` + f.Name + `":`)
		if err := writeUntagged(out, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// writeEmbedded writes the fields of ObjectMeta, whose tags are the same everywhere, among those of the struct.
func writeEmbedded(out *bytes.Buffer, v reflect.Value, written *int) error {
	text, err := json.Marshal(v.Interface())
	if err != nil || len(text) == len("{}") {
		return err
	}
	if *written++; *written > 1 {
		out.WriteByte(',')
	}
	out.Write(text[1 : len(text)-1])
	return nil
}
