package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"

	"hyperkube/apiserver/openapi"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/storage"
)

// empty is a storage without objects.
type empty struct{ storage.Interface }

func (empty) Get(context.Context, string, string) (*storage.Object, error) {
	return nil, storage.ErrNotFound
}

func newStore(t *testing.T, converter *openapi.Converter, sample runtime.Object) *registry.Store {
	kinds, _, err := scheme.Scheme.ObjectKinds(sample)
	if err != nil {
		t.Fatal(err)
	}
	return registry.NewStore(&registry.Env{TypeConverter: converter}, &registry.Resource{
		Name: "things", Kind: kinds[0], New: func() runtime.Object {
			return reflect.New(reflect.TypeOf(sample).Elem()).Interface().(runtime.Object)
		},
	}, empty{})
}

// create returns the managed fields that a create gives an object.
func create(t *testing.T, s *registry.Store, obj runtime.Object) string {
	created, err := s.Create(t.Context(), "default", obj.DeepCopyObject(), registry.Write{Manager: "test", DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	return ownersOf(t, created.Object)
}

// Objects of one shape have the same managed fields: what is remembered is what the library would have said.
func TestRememberedFieldsAreTheLibrarys(t *testing.T) {
	converter := openapi.TypeConverter()
	for _, sample := range []runtime.Object{
		&corev1.ConfigMap{}, &corev1.Pod{}, &corev1.Service{}, &corev1.Secret{}, &corev1.Node{}, &corev1.PersistentVolumeClaim{}, &corev1.Event{},
		&appsv1.Deployment{}, &batchv1.Job{}, &networkingv1.NetworkPolicy{}, &coordinationv1.Lease{}, &rbacv1.Role{}, &discoveryv1.EndpointSlice{},
		&autoscalingv2.HorizontalPodAutoscaler{}, &resourcev1.ResourceClaim{},
	} {
		t.Run(fmt.Sprintf("%T", sample), func(t *testing.T) {
			store := newStore(t, converter, sample)
			f := filler{rand.New(rand.NewPCG(1, 2))}
			objects, most := 0, 0
			for range 150 {
				obj := store.New()
				f.fill(reflect.ValueOf(obj).Elem(), 0)
				accessor, _ := meta.Accessor(obj)
				accessor.SetResourceVersion("")
				accessor.SetNamespace("")
				accessor.SetGenerateName("")
				accessor.SetManagedFields(nil)
				accessor.SetFinalizers(nil)
				accessor.SetOwnerReferences(nil)
				accessor.SetAnnotations(nil)
				// The same shape once more, with other scalars: what is remembered of the first answers the second.
				for i, name := range []string{"one", "two"} {
					accessor.SetName(name)
					accessor.SetLabels(map[string]string{"app": name})
					got, want := create(t, store, obj), create(t, newStore(t, converter, sample), obj)
					if got != want {
						t.Fatalf("object %d.%d: got\n%s\nwant\n%s", objects, i, got, want)
					}
				}
				objects++
				most = max(most, store.Shapes())
			}
			if most == 0 {
				t.Error("nothing was remembered")
			}
		})
	}
}

// The library, shown only the parts of an object that an update changes, says the same as of the whole.
func TestUnchangedPartsHaveNoSay(t *testing.T) {
	converter := openapi.TypeConverter()
	for _, sample := range []runtime.Object{
		&corev1.ConfigMap{}, &corev1.Pod{}, &corev1.Service{}, &corev1.Node{}, &appsv1.Deployment{}, &batchv1.Job{}, &coordinationv1.Lease{},
		&rbacv1.Role{}, &discoveryv1.EndpointSlice{}, &autoscalingv2.HorizontalPodAutoscaler{}, &resourcev1.ResourceClaim{},
	} {
		t.Run(fmt.Sprintf("%T", sample), func(t *testing.T) {
			store := newStore(t, converter, sample)
			f := filler{rand.New(rand.NewPCG(3, 4))}
			random := func(name string) runtime.Object {
				obj := store.New()
				f.fill(reflect.ValueOf(obj).Elem(), 0)
				accessor, _ := meta.Accessor(obj)
				accessor.SetName(name)
				accessor.SetManagedFields(nil)
				return obj
			}
			for range 60 {
				old := store.Updated(store.New(), random("one"), "first")
				obj, other := old.DeepCopyObject(), random("one")
				parts, others := reflect.ValueOf(obj).Elem(), reflect.ValueOf(other).Elem()
				if i := 1 + f.IntN(parts.NumField()-1); parts.Type().Field(i).Name != "ObjectMeta" {
					parts.Field(i).Set(others.Field(i))
				} else {
					accessor, _ := meta.Accessor(obj)
					accessor.SetLabels(map[string]string{"app": "two"})
				}
				whole := store.FieldManager("", store.Kind).UpdateNoErrors(old.DeepCopyObject(), obj.DeepCopyObject(), "second")
				want, got := ownersOf(t, whole), ownersOf(t, store.Updated(old, obj, "second"))
				if got != want {
					t.Fatalf("got\n%s\nwant\n%s", got, want)
				}
			}
		})
	}
}

// ownersOf are an object's managed fields without their times.
func ownersOf(t *testing.T, obj runtime.Object) string {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		t.Fatal(err)
	}
	entries := accessor.GetManagedFields()
	for i := range entries {
		entries[i].Time = nil
	}
	data, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What tells list items apart belongs to the shape: these differ in nothing else.
func TestListKeysBelongToTheShape(t *testing.T) {
	converter := openapi.TypeConverter()
	for name, pair := range map[string][2]runtime.Object{
		"key": {
			&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}},
			&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "b"}}}},
		},
		"two keys, one a number": {
			&corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, Protocol: "TCP"}}}},
			&corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 81, Protocol: "TCP"}}}},
		},
		"set": {
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"example.com/a"}}},
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"example.com/b"}}},
		},
		"key of a map": {
			&corev1.ConfigMap{Data: map[string]string{"a": ""}},
			&corev1.ConfigMap{Data: map[string]string{"b": ""}},
		},
		"empty and none": {
			&corev1.ConfigMap{Data: map[string]string{}},
			&corev1.ConfigMap{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t, converter, pair[0])
			for i, obj := range pair {
				accessor, _ := meta.Accessor(obj)
				accessor.SetName("x")
				if got, want := create(t, store, obj), create(t, newStore(t, converter, obj), obj); got != want {
					t.Errorf("object %d: got\n%s\nwant\n%s", i, got, want)
				}
			}
		})
	}
}

// The memory needs that what tells list items apart are scalars, which are part of a shape.
func TestListKeysAreScalars(t *testing.T) {
	schemas, err := openapi.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	scalar := map[string]bool{"string": true, "integer": true, "boolean": true}
	for name, schema := range schemas {
		for field, property := range schema.Properties {
			if property.Items == nil || property.Items.Schema == nil {
				continue
			}
			item := property.Items.Schema
			switch kind, _ := property.Extensions.GetString("x-kubernetes-list-type"); kind {
			case "set":
				if len(item.Type) != 1 || !scalar[item.Type[0]] {
					t.Errorf("%s.%s is a set of %v", name, field, item.Type)
				}
			case "map":
				model := item.Ref.String()
				for i := len(model) - 1; i >= 0; i-- {
					if model[i] == '/' {
						model = model[i+1:]
						break
					}
				}
				keys, _ := property.Extensions.GetStringSlice("x-kubernetes-list-map-keys")
				for _, key := range keys {
					of, found := schemas[model]
					if !found {
						t.Fatalf("%s.%s: no schema %q", name, field, item.Ref.String())
					}
					if of := of.Properties[key]; len(of.Type) != 1 || !scalar[of.Type[0]] {
						t.Errorf("%s.%s has the key %s, a %v", name, field, key, of.Type)
					}
				}
			}
		}
	}
}

// filler makes random objects of few and short values, so that shapes come again.
type filler struct{ *rand.Rand }

func (f filler) fill(v reflect.Value, depth int) {
	switch v.Interface().(type) {
	case metav1.Time:
		v.Set(reflect.ValueOf(metav1.Unix(f.Int64N(3), 0)))
		return
	case metav1.MicroTime:
		v.Set(reflect.ValueOf(metav1.NewMicroTime(time.Unix(f.Int64N(3), 0))))
		return
	case resource.Quantity:
		v.Set(reflect.ValueOf(resource.MustParse([]string{"0", "1", "100m"}[f.IntN(3)])))
		return
	case runtime.RawExtension:
		v.Set(reflect.ValueOf(runtime.RawExtension{Raw: []byte([]string{"{}", `{"a":1}`}[f.IntN(2)])}))
		return
	case intstr.IntOrString:
		v.Set(reflect.ValueOf([]intstr.IntOrString{intstr.FromInt32(0), intstr.FromInt32(8), intstr.FromString("http")}[f.IntN(3)]))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type().Field(i).Name != "TypeMeta" && (depth == 0 || f.IntN(4+2*depth) == 0) {
				f.fill(v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), f.IntN(3), 3))
		for i := range v.Len() {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key, depth+1)
			f.fill(value, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString([]string{"", "a", "b", "c"}[f.IntN(4)])
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 0)
	case reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(f.Int64N(3))
	case reflect.Uint8:
		v.SetUint(f.Uint64N(3))
	}
}
