package openapi

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// TestTypesAreUpstreams compares, field by field and for every kind that client-go knows, what our documents say with what
// upstream's say: client-go carries an extract of them, from which its typed apply works. Compared are the fields' names
// and scalar types, defaults, and how lists and maps merge.
func TestTypesAreUpstreams(t *testing.T) {
	ours, upstreams := TypeConverter(), applyconfigurations.NewTypeConverter(scheme.Scheme)
	c := comparison{seen: map[string]bool{}}
	kinds := 0
	for kind := range scheme.Scheme.AllKnownTypes() {
		theirs, ok := typeOf(upstreams, kind)
		if !ok {
			continue // lists, options, and what only servers make
		}
		own, ok := typeOf(ours, kind)
		if !ok {
			if !strings.Contains(kind.Version, "alpha") && !strings.Contains(kind.Version, "beta") {
				t.Errorf("%s is unknown", kind)
			}
			continue
		}
		kinds++
		c.compare(own, theirs, kind.GroupVersion().String()+" "+kind.Kind)
	}
	slices.Sort(c.differences)
	for _, d := range c.differences {
		t.Error(d)
	}
	if kinds < 60 || c.facts < 4000 {
		t.Errorf("only %d facts of %d kinds were compared", c.facts, kinds)
	}
	t.Logf("%d facts of %d kinds", c.facts, kinds)
}

// intOrString is a scalar in client-go's extract, which is made of the v2 document. In that of v3, from which upstream's
// apiserver works and ours too, it is one of two types, which managed fields take for anything.
const intOrString = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

// typeIn is a type and the schema that its parts are in.
type typeIn struct {
	schema *smd.Schema
	ref    smd.TypeRef
}

func typeOf(converter managedfields.TypeConverter, kind schema.GroupVersionKind) (typeIn, bool) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(kind)
	value, err := converter.ObjectToTyped(obj)
	if err != nil {
		return typeIn{}, false
	}
	return typeIn{value.Schema(), value.TypeRef()}, true
}

type comparison struct {
	seen        map[string]bool // types by upstream's name
	facts       int
	differences []string
}

func (c *comparison) same(path, what string, own, theirs any) {
	c.facts++
	if !reflect.DeepEqual(own, theirs) {
		c.differences = append(c.differences, fmt.Sprintf("%s: %s is %v, upstream's %v", path, what, own, theirs))
	}
}

func (c *comparison) compare(own, theirs typeIn, path string) {
	if name := theirs.ref.NamedType; name != nil {
		if c.seen[*name] {
			return
		}
		c.seen[*name] = true
		if *name == intOrString {
			return
		}
	}
	a, okA := own.schema.Resolve(own.ref)
	b, okB := theirs.schema.Resolve(theirs.ref)
	if !okA || !okB {
		c.differences = append(c.differences, fmt.Sprintf("%s: known here: %t, upstream: %t", path, okA, okB))
		return
	}
	if a.Scalar != nil && b.Scalar != nil {
		c.same(path, "scalar", *a.Scalar, *b.Scalar)
	}
	if c.same(path, "list", a.List != nil, b.List != nil); a.List != nil && b.List != nil {
		c.same(path, "elementRelationship", a.List.ElementRelationship, b.List.ElementRelationship)
		c.same(path, "keys", fmt.Sprint(a.List.Keys), fmt.Sprint(b.List.Keys))
		c.compare(typeIn{own.schema, a.List.ElementType}, typeIn{theirs.schema, b.List.ElementType}, path+"[]")
	}
	if c.same(path, "map", a.Map != nil, b.Map != nil); a.Map != nil && b.Map != nil {
		c.same(path, "elementRelationship", a.Map.ElementRelationship, b.Map.ElementRelationship)
		c.fields(typeIn{own.schema, own.ref}, theirs, a.Map, b.Map, path)
	}
}

func (c *comparison) fields(own, theirs typeIn, a, b *smd.Map, path string) {
	names := func(m *smd.Map) []string {
		var all []string
		for _, f := range m.Fields {
			all = append(all, f.Name)
		}
		slices.Sort(all)
		return all
	}
	c.same(path, "fields", names(a), names(b))
	for _, f := range a.Fields {
		if g, ok := b.FindField(f.Name); ok {
			// As text: one is read from JSON and the other from YAML, which differ in Go's types of maps and numbers.
			c.same(path+"."+f.Name, "default", fmt.Sprint(f.Default), fmt.Sprint(g.Default))
			c.compare(typeIn{own.schema, f.Type}, typeIn{theirs.schema, g.Type}, path+"."+f.Name)
		}
	}
}
