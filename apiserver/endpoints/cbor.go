package endpoints

import (
	"bytes"
	"net/http"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"

	"hyperkube/apiserver/storage"
)

// cborInfo reads and writes CBOR (RFC 8949). client-go's scheme does not list it among its own codecs: there, and in
// kube-apiserver, it is behind a gate (KEP-4222).
var cborInfo = cbor.NewSerializerInfo(scheme.Scheme, scheme.Scheme)

// serializerFor is who reads bodies of a media type.
func serializerFor(media string) (runtime.SerializerInfo, bool) {
	if media == mediaCBOR {
		return cborInfo, true
	}
	return runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), media)
}

// appendCBOR appends a stored object, made anew each time: few ask for it.
func (s *Scope) appendCBOR(dst []byte, o *storage.Object) ([]byte, error) {
	obj := shallow(s.toServed(o.Object))
	obj.GetObjectKind().SetGroupVersionKind(s.Resource.Kind)
	return encodeCBOR(dst, obj)
}

func encodeCBOR(dst []byte, obj runtime.Object) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	// Nobody compares these bytes with others: maps need no order.
	err := cborInfo.Serializer.(runtime.NondeterministicEncoder).EncodeNondeterministic(obj, out)
	return out.Bytes(), err
}

// shallow is an object whose kind can be set without touching the one that all readers share.
func shallow(obj runtime.Object) runtime.Object {
	if _, untyped := obj.(runtime.Unstructured); untyped {
		return obj // it has its kind in its map
	}
	value := reflect.ValueOf(obj).Elem()
	copied := reflect.New(value.Type())
	copied.Elem().Set(value)
	return copied.Interface().(runtime.Object)
}

func (s *Scope) writeCBORList(w http.ResponseWriter, r *http.Request, f form, list *storage.List) error {
	served := s.Resource.NewList()
	items := make([]runtime.Object, len(list.Items))
	for i, item := range list.Items {
		items[i] = s.toServed(item.Object)
	}
	if err := meta.SetList(served, items); err != nil {
		return err
	}
	accessor, err := meta.ListAccessor(served)
	if err != nil {
		return err
	}
	head := listMeta(list)
	accessor.SetResourceVersion(head.ResourceVersion)
	accessor.SetContinue(head.Continue)
	accessor.SetRemainingItemCount(head.RemainingItemCount)
	return writeAny(w, r, f, http.StatusOK, ofKind(served, s.listKind()))
}

// appendCBORFrame appends a watch event; in a sequence of CBOR items (RFC 8742) nothing stands between them.
func appendCBORFrame(dst []byte, kind watch.EventType, object []byte) ([]byte, error) {
	return encodeCBOR(dst, &metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: object}})
}
