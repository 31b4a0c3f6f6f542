package openapi

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

//go:generate sh -c "cd ../.. && go run ./apiserver/openapi/gen"

//go:embed definitions.json.gz
var packed []byte

// gvkExtension says of which kinds a schema is.
const gvkExtension = "x-kubernetes-group-version-kind"

// unpack reads the embedded file: each schema by its model name, not yet decoded.
func unpack() (map[string]json.RawMessage, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("definitions.json.gz: %w", err)
	}
	schemas := map[string]json.RawMessage{}
	if err := json.NewDecoder(reader).Decode(&schemas); err != nil {
		return nil, fmt.Errorf("definitions.json.gz: %w", err)
	}
	return schemas, nil
}

// Definitions decodes the schemas of all types, by model name. Each call makes new ones (some 30 MiB while
// they live): callers keep what they made of them, not these.
func Definitions() (map[string]*spec.Schema, error) {
	raw, err := unpack()
	if err != nil {
		return nil, err
	}
	kinds := kindsOf()
	schemas := make(map[string]*spec.Schema, len(raw))
	for name, data := range raw {
		s := &spec.Schema{}
		if err := s.UnmarshalJSON(data); err != nil {
			return nil, fmt.Errorf("definition of %s: %w", name, err)
		}
		if of := kinds[name]; of != nil {
			s.AddExtension(gvkExtension, of)
		}
		schemas[name] = s
	}
	return schemas, nil
}

// kindsOf are the kinds that each model is the schema of.
func kindsOf() map[string][]any {
	kinds := map[string][]any{}
	for kind, goType := range scheme.Scheme.AllKnownTypes() {
		if kind.Version == runtime.APIVersionInternal {
			continue
		}
		namer, ok := reflect.New(goType).Interface().(interface{ OpenAPIModelName() string })
		if !ok {
			continue
		}
		name := namer.OpenAPIModelName()
		kinds[name] = append(kinds[name], map[string]any{"group": kind.Group, "version": kind.Version, "kind": kind.Kind})
	}
	// In order: a document that keeps its hash keeps its bytes.
	for _, of := range kinds {
		slices.SortFunc(of, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return kinds
}

// TypeConverter knows the fields, list types and merge keys of every kind, for managed fields. It is made
// on first use.
func TypeConverter() *Converter { return &Converter{} }

// Converter is a managedfields.TypeConverter.
type Converter struct {
	once      sync.Once
	converter managedfields.TypeConverter
	err       error
	types     sync.Map // *typed.TypedValue by kind: the first of each
}

// Warm makes the converter now, so that the first write need not wait for it.
func (l *Converter) Warm() error {
	l.once.Do(func() {
		schemas, err := Definitions()
		if err == nil {
			l.converter, err = managedfields.NewTypeConverter(schemas, false)
		}
		l.err = err
	})
	return l.err
}

func (l *Converter) ObjectToTyped(obj runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if err := l.Warm(); err != nil {
		return nil, err
	}
	kind := obj.GetObjectKind().GroupVersionKind()
	_, untyped := obj.(runtime.Unstructured)
	if first, known := l.types.Load(kind); known && !untyped && slices.Equal(options, []typed.ValidationOptions{typed.AllowDuplicates}) {
		// What would be validated is whether the object has the types of its schema, and the schema was made from its Go
		// type. It takes half the time of managed fields.
		structured, err := value.NewValueReflect(obj)
		if err != nil {
			return nil, err
		}
		first := first.(*typed.TypedValue)
		return typed.AsTypedUnvalidated(structured, first.Schema(), first.TypeRef()), nil
	}
	converted, err := l.converter.ObjectToTyped(obj, options...)
	if err == nil && !untyped {
		// Not converted itself, which would hold the object.
		l.types.LoadOrStore(kind, typed.AsTypedUnvalidated(nil, converted.Schema(), converted.TypeRef()))
	}
	return converted, err
}

func (l *Converter) TypedToObject(value *typed.TypedValue) (runtime.Object, error) {
	if err := l.Warm(); err != nil {
		return nil, err
	}
	return l.converter.TypedToObject(value)
}
