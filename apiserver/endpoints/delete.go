package endpoints

import (
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
)

// DeleteResource answers DELETE of one object: with the object while it waits (for its grace period, for finalizers), with
// a Status once it is gone.
func DeleteResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	f, err := negotiate(r, "Table", "PartialObjectMetadata", "PartialObjectMetadataList")
	if err != nil {
		return err
	}
	options, err := deleteOptions(r)
	if err != nil {
		return err
	}
	s.warnOrphans(r, options)
	namespace, name := s.target(r)
	if ptr.Deref(options.IgnoreStoreReadErrorWithClusterBreakingPotential, false) {
		return s.Store.RefuseUnread(r.Context(), namespace, name)
	}
	obj, gone, err := s.Store.Delete(r.Context(), namespace, name, options)
	if err != nil {
		return err
	}
	if !gone || s.Store.ReturnDeletedObject {
		code := http.StatusOK
		if !gone && options.OrphanDependents != nil && !*options.OrphanDependents {
			code = http.StatusAccepted
		}
		return s.writeStored(w, r, f, code, obj)
	}
	accessor, err := meta.Accessor(obj.Object)
	if err != nil {
		return err
	}
	status := success(&metav1.StatusDetails{
		Name: name, Group: s.Resource.Kind.Group, Kind: s.Resource.Name, UID: accessor.GetUID(),
	})
	return writeAny(w, r, f, http.StatusOK, ofKind(status, schema.GroupVersionKind{Version: "v1", Kind: "Status"}))
}

// warnOrphans tells who deletes without a word about dependents what becomes of them, where that may surprise.
func (s *Scope) warnOrphans(r *http.Request, options *metav1.DeleteOptions) {
	if options.PropagationPolicy == nil && options.OrphanDependents == nil {
		request.AddWarning(r.Context(), s.Store.OrphanWarning)
	}
}

// DeleteCollection answers DELETE of a collection with the list of what it deleted.
func DeleteCollection(s *Scope, w http.ResponseWriter, r *http.Request) error {
	f, err := negotiate(r, "Table", "PartialObjectMetadataList", "PartialObjectMetadata")
	if err != nil {
		return err
	}
	selection, err := listOptions(r)
	if err != nil {
		return err
	}
	predicate, err := s.predicate(selection, "")
	if err != nil {
		return err
	}
	options, err := deleteOptions(r)
	if err != nil {
		return err
	}
	if ptr.Deref(options.IgnoreStoreReadErrorWithClusterBreakingPotential, false) {
		return invalidOptions("DeleteOptions", field.ErrorList{field.Invalid(field.NewPath("ignoreStoreReadErrorWithClusterBreakingPotential"),
			true, "is not allowed with DELETECOLLECTION, try again after removing the option")})
	}
	s.warnOrphans(r, options)
	namespace, _ := s.target(r)
	deleted, err := s.Store.DeleteCollection(r.Context(), namespace, options, storage.ListOptions{
		ResourceVersion: selection.ResourceVersion, ResourceVersionMatch: selection.ResourceVersionMatch,
		Predicate: predicate, Limit: selection.Limit, Continue: selection.Continue,
	})
	if err != nil {
		return err
	}
	return s.writeList(w, r, f, deleted)
}
