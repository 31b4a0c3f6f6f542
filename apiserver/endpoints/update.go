package endpoints

import (
	"context"
	stderrors "errors"
	"net/http"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// UpdateResource answers PUT of an object or of one of its views (status, scale).
func UpdateResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	f, err := negotiate(r, "Table", "PartialObjectMetadata", "PartialObjectMetadataList")
	if err != nil {
		return err
	}
	options, err := updateOptions(r)
	if err != nil {
		return err
	}
	obj, err := s.decodeBody(r, fieldValidation(options.FieldValidation))
	if err != nil {
		return err
	}
	namespace, name := s.target(r)
	if err := s.Resource.MatchNamespace(obj, namespace); err != nil {
		return err
	}
	if err := checkName(obj, name); err != nil {
		return err
	}
	if s.Sub != nil && s.Sub.Update != nil {
		return s.updateFunction(w, r, f, functionWrite{options, s.Sub.Update, func(current runtime.Object) (runtime.Object, error) {
			return obj, s.checkVersion(current, obj, name)
		}})
	}
	registry.DedupOwners(r.Context(), obj, registry.DuplicateOwners)
	stored := s.toStored(obj)
	written, created, err := s.Store.Update(r.Context(), namespace, name, func(runtime.Object) (runtime.Object, error) {
		return stored.DeepCopyObject(), nil
	}, registry.Write{
		Subresource: s.Subresource, View: s.View, Kind: s.Resource.Kind, Options: options, DryRun: len(options.DryRun) > 0,
		Manager: manager(options.FieldManager, r), Replaces: true,
		MayCreate: s.Subresource == "" && s.Store.Strategy.AllowCreateOnUpdate(),
	})
	if err != nil {
		return err
	}
	return s.writeStored(w, r, f, updatedCode(created), written)
}

func updatedCode(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

// functionWrite is a write of a subresource with a shape of its own: do is the subresource's Update, or its Apply.
type functionWrite struct {
	options *metav1.UpdateOptions
	do      func(ctx context.Context, namespace, name string, change func(current runtime.Object) (runtime.Object, error), options *metav1.UpdateOptions) (runtime.Object, error)
	change  func(current runtime.Object) (runtime.Object, error)
}

// updateFunction writes a subresource that has a shape of its own (Scale).
func (s *Scope) updateFunction(w http.ResponseWriter, r *http.Request, f form, write functionWrite) error {
	namespace, name := s.target(r)
	// Clients cannot see which version a change without one was made upon: it is made again on the next.
	options := write.options
	options.FieldManager = manager(options.FieldManager, r)
	obj, err := write.do(r.Context(), namespace, name, s.admitted(r.Context(), namespace, name, options, write.change), options)
	if err != nil {
		return err
	}
	return s.writeOwn(w, r, f, obj)
}

// admitted is change with admission after it, which sees the subresource's own shape (Scale), not the object behind it.
func (s *Scope) admitted(ctx context.Context, namespace, name string, options *metav1.UpdateOptions, change func(runtime.Object) (runtime.Object, error)) func(runtime.Object) (runtime.Object, error) {
	return func(current runtime.Object) (runtime.Object, error) {
		old := current.DeepCopyObject()
		obj, err := change(current)
		if err != nil {
			return nil, err
		}
		return obj, s.admit(ctx, &request.AdmissionAttributes{
			Operation: request.Update, Kind: s.kind(), Namespace: namespace, Name: name,
			Object: obj, OldObject: old, Options: options, DryRun: len(options.DryRun) > 0,
		})
	}
}

// checkVersion refuses a body that was made for another version of the object.
func (s *Scope) checkVersion(current, obj runtime.Object, name string) error {
	present, err := meta.Accessor(current)
	if err != nil {
		return errors.NewInternalError(err)
	}
	wanted, err := meta.Accessor(obj)
	if err != nil {
		return errors.NewInternalError(err)
	}
	if rv := wanted.GetResourceVersion(); rv != "" && rv != present.GetResourceVersion() {
		return errors.NewConflict(s.Resource.GroupResource(), name,
			stderrors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	return nil
}
