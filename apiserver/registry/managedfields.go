package registry

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// tracker keeps metadata.managedFields: who set which field last, per endpoint
// (the main one, status, scale), so that server-side apply can tell a conflict.
type tracker struct {
	store *Store

	mu       sync.Mutex
	managers map[endpoint]*managedfields.FieldManager // nil values: not trackable

	memory fieldMemory
}

// endpoint is a subresource ("" is the main one) in the version that its clients speak.
type endpoint struct {
	subresource string
	kind        schema.GroupVersionKind
}

func (t *tracker) init(s *Store) {
	t.store = s
	t.managers = map[endpoint]*managedfields.FieldManager{}
}

// FieldManager returns the field manager of an endpoint in the version kind, nil when the resource's fields are not tracked.
func (s *Store) FieldManager(subresource string, kind schema.GroupVersionKind) *managedfields.FieldManager {
	return s.tracker.manager(subresource, kind)
}

func (t *tracker) manager(subresource string, kind schema.GroupVersionKind) *managedfields.FieldManager {
	if kind.Empty() {
		kind = t.store.Kind
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := endpoint{subresource, kind}
	m, known := t.managers[at]
	if !known {
		m = t.newManager(at)
		t.managers[at] = m
	}
	return m
}

func (t *tracker) newManager(at endpoint) *managedfields.FieldManager {
	s := t.store
	if s.env.TypeConverter == nil || s.Answer != nil {
		return nil
	}
	served := s.Resource
	for _, view := range s.views {
		if view.Kind == at.kind {
			served = view
		}
	}
	m, err := managedfields.NewDefaultFieldManager(s.env.TypeConverter, viewConvertor{scheme.Scheme, s}, defaulter{served}, scheme.Scheme,
		served.Kind, s.Kind.GroupVersion(), at.subresource, s.resetFields(at.subresource))
	if err != nil {
		return nil
	}
	return m
}

// resetFields are those that the endpoint's strategy puts back: nobody can own them there, in whatever version.
func (s *Store) resetFields(subresource string) map[fieldpath.APIVersion]fieldpath.Filter {
	paths := slices.Clone(s.Resets[subresource])
	switch {
	case s.StatusStrategy == nil:
	case subresource == "status":
		paths = append(paths, "spec")
	case subresource == "":
		paths = append(paths, "status")
	}
	if len(paths) == 0 {
		return nil
	}
	reset := fieldpath.NewSet()
	for _, path := range paths {
		var parts []any
		for part := range strings.SplitSeq(path, ".") {
			parts = append(parts, part)
		}
		reset.Insert(fieldpath.MakePathOrDie(parts...))
	}
	filter := fieldpath.NewExcludeSetFilter(reset)
	filters := map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(s.Kind.GroupVersion().String()): filter}
	for _, view := range s.views {
		filters[fieldpath.APIVersion(view.Kind.GroupVersion().String())] = filter
	}
	return filters
}

// defaulter applies the defaults of a version where the managed fields library asks for the scheme's.
type defaulter struct{ served *Resource }

func (d defaulter) Default(obj runtime.Object) {
	if d.served.Default != nil {
		d.served.Default(obj)
	}
}

// viewConvertor turns an object of one served version into another for the managed fields library: who owns a field of
// autoscaling/v1 owns what is made of it in v2.
type viewConvertor struct {
	runtime.ObjectConvertor
	store *Store
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (c viewConvertor) ConvertToVersion(in runtime.Object, to runtime.GroupVersioner) (runtime.Object, error) {
	from := c.resource(in.GetObjectKind().GroupVersionKind())
	if from == nil || len(c.store.views) == 0 {
		return c.ObjectConvertor.ConvertToVersion(in, to)
	}
	kinds := []schema.GroupVersionKind{c.store.Kind}
	for _, view := range c.store.views {
		kinds = append(kinds, view.Kind)
	}
	target, ok := to.KindForGroupVersionKinds(kinds)
	into := c.resource(target)
	if !ok || into == nil {
		return c.ObjectConvertor.ConvertToVersion(in, to)
	}
	obj := in.DeepCopyObject()
	if u, untyped := in.(runtime.Unstructured); untyped {
		obj = from.New()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.UnstructuredContent(), obj); err != nil {
			return nil, err
		}
	}
	if from != into && from.View != nil {
		obj, from = from.View.ToStored(obj), c.store.Resource
	}
	if from != into {
		obj = into.View.ToServed(obj)
	}
	obj.GetObjectKind().SetGroupVersionKind(into.Kind)
	return obj, nil
}

// resource is the line that serves a kind; nil: none of this store's.
func (c viewConvertor) resource(kind schema.GroupVersionKind) *Resource {
	if kind == c.store.Kind {
		return c.store.Resource
	}
	for _, view := range c.store.views {
		if kind == view.Kind {
			return view
		}
	}
	return nil
}

// created tracks the fields of a new object.
func (t *tracker) created(obj runtime.Object, w Write) runtime.Object {
	if w.Manager == "" || w.Applied {
		return obj
	}
	m := t.manager(w.Subresource, w.Kind)
	if m == nil {
		return obj
	}
	if !w.Kind.Empty() && w.Kind != t.store.Kind {
		return t.update(m, t.store.New(), obj, w.Manager)
	}
	shape := shapeOf(obj)
	if shape != nil && w.Subresource == "" {
		if fields := t.memory.get(shape); fields != nil {
			t.remembered(obj, w.Manager, fields)
			return obj
		}
	}
	obj = t.update(m, t.store.New(), obj, w.Manager)
	if accessor, err := meta.Accessor(obj); err == nil && shape != nil && w.Subresource == "" {
		if entries := accessor.GetManagedFields(); len(entries) == 1 && entries[0].FieldsV1 != nil {
			t.memory.put(shape, slices.Clone(entries[0].FieldsV1.GetRawBytes()))
		}
	}
	return obj
}

// remembered does what update does, for a new object whose fields are known.
func (t *tracker) remembered(obj runtime.Object, manager string, fields []byte) {
	obj.GetObjectKind().SetGroupVersionKind(t.store.Kind)
	accessor, _ := meta.Accessor(obj) // shapeOf has asked for it
	now := metav1.NewTime(time.Now().UTC())
	accessor.SetManagedFields([]metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: t.store.Kind.GroupVersion().String(),
		Time: &now, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(string(fields)),
	}})
}

// updated tracks the fields that changed from old to obj.
func (t *tracker) updated(old, obj runtime.Object, w Write) runtime.Object {
	if w.Applied {
		return obj
	}
	m := t.manager(w.Subresource, w.Kind)
	if w.Manager == "" || m == nil {
		return obj
	}
	return t.update(m, old, obj, w.Manager)
}

// update asks the library whose the fields of obj are now. It compares two objects field by field, by reflection, and is
// shown only the parts that differ: what is the same in both changes nobody's fields.
func (t *tracker) update(m *managedfields.FieldManager, old, obj runtime.Object, name string) runtime.Object {
	was, is := unlike(old, obj)
	was.GetObjectKind().SetGroupVersionKind(t.store.Kind)
	is.GetObjectKind().SetGroupVersionKind(t.store.Kind)
	is = m.UpdateNoErrors(was, is, name)
	obj.GetObjectKind().SetGroupVersionKind(t.store.Kind)
	if from, err := meta.Accessor(is); err == nil {
		if to, err := meta.Accessor(obj); err == nil {
			to.SetManagedFields(from.GetManagedFields())
		}
	}
	return obj
}

// unlike returns shallow copies of two objects of one type, without those of their parts (spec, status, data) that are equal.
// Equal to the last bit: whether 1 and 1000m are the same is the library's to say.
func unlike(a, b runtime.Object) (runtime.Object, runtime.Object) {
	ofA, ofB := shallow(a), shallow(b)
	partsA, partsB := ofA.Elem(), ofB.Elem()
	for i := range partsA.NumField() {
		switch partsA.Type().Field(i).Name {
		case "TypeMeta", "ObjectMeta":
			continue
		}
		if reflect.DeepEqual(partsA.Field(i).Addr().Interface(), partsB.Field(i).Addr().Interface()) { // by their addresses: a spec is not copied
			partsA.Field(i).SetZero()
			partsB.Field(i).SetZero()
		}
	}
	return ofA.Interface().(runtime.Object), ofB.Interface().(runtime.Object)
}

// shallow is a pointer to a copy of what obj points to, which shares all that that points to.
func shallow(obj runtime.Object) reflect.Value {
	copied := reflect.New(reflect.TypeOf(obj).Elem())
	copied.Elem().Set(reflect.ValueOf(obj).Elem())
	return copied
}

// keepTimesOfUnchanged gives an object that differs from old by the times of its
// managed fields only those of old, so that a write which changes nothing is none.
func keepTimesOfUnchanged(obj, old runtime.Object) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return
	}
	oldAccessor, err := meta.Accessor(old)
	if err != nil {
		return
	}
	entries, oldEntries := accessor.GetManagedFields(), oldAccessor.GetManagedFields()
	if len(entries) != len(oldEntries) {
		return
	}
	for i := range entries {
		if !sameButTime(&entries[i], &oldEntries[i]) {
			return
		}
	}
	kind := obj.GetObjectKind().GroupVersionKind()
	accessor.SetManagedFields(oldEntries)
	obj.GetObjectKind().SetGroupVersionKind(old.GetObjectKind().GroupVersionKind())
	same := equality.Semantic.DeepEqual(obj, old)
	obj.GetObjectKind().SetGroupVersionKind(kind)
	if !same {
		accessor.SetManagedFields(entries)
	}
}

func sameButTime(a, b *metav1.ManagedFieldsEntry) bool {
	return a.Manager == b.Manager && a.Operation == b.Operation && a.Subresource == b.Subresource &&
		a.APIVersion == b.APIVersion && a.FieldsType == b.FieldsType &&
		equality.Semantic.DeepEqual(a.FieldsV1, b.FieldsV1)
}
