package endpoints

import (
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
)

// CreateResource answers POST: of a collection it stores the body, of a subresource (binding, eviction, token)
// or of a resource that is never stored (SubjectAccessReview) it hands it to its function.
func CreateResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	views := []string{"Table", "PartialObjectMetadata", "PartialObjectMetadataList"}
	if s.Sub != nil || s.Resource.Answer != nil {
		views = views[1:] // what is not stored has no columns: 406
	}
	f, err := negotiate(r, views...)
	if err != nil {
		return err
	}
	options, err := createOptions(r)
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
	registry.DedupOwners(r.Context(), obj, registry.DuplicateOwners)
	switch {
	case s.Sub != nil:
		if err := s.admitSubresource(r.Context(), namespace, name, obj, options); err != nil {
			return err
		}
		answer, err := s.Sub.Create(r.Context(), namespace, name, obj, options)
		if err != nil {
			return err
		}
		return s.writeAnswer(w, r, f, answer)
	case s.Resource.Answer != nil:
		if s.Resource.Default != nil {
			s.Resource.Default(obj)
		}
		if err := s.admitSubresource(r.Context(), namespace, name, obj, options); err != nil {
			return err
		}
		answer, err := s.Resource.Answer(r.Context(), namespace, obj, options)
		if err != nil {
			return err
		}
		return s.writeAnswer(w, r, f, answer)
	}
	created, err := s.Store.Create(r.Context(), namespace, s.toStored(obj), registry.Write{
		Manager: manager(options.FieldManager, r), DryRun: len(options.DryRun) > 0, Options: options, Kind: s.Resource.Kind,
	})
	if err != nil {
		return err
	}
	return s.writeStored(w, r, f, http.StatusCreated, created)
}

// writeAnswer answers 201 with what a function returned: a Status, or an object of the endpoint's kind.
func (s *Scope) writeAnswer(w http.ResponseWriter, r *http.Request, f form, answer runtime.Object) error {
	kind := s.kind()
	if status, ok := answer.(*metav1.Status); ok {
		kind = metaKind("Status")
		kind.Group = ""
		code := int(status.Code)
		if code == 0 {
			code = http.StatusCreated
		}
		return writeAny(w, r, f, code, ofKind(status, kind))
	}
	return writeAny(w, r, f, http.StatusCreated, ofKind(answer, kind))
}

// fieldValidation is what happens to unknown fields when the client does not say.
func fieldValidation(asked string) string {
	if asked == "" {
		return metav1.FieldValidationWarn
	}
	return asked
}

// checkName refuses a body whose name is not that of the URL.
func checkName(obj runtime.Object, name string) error {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return errors.NewInternalError(err)
	}
	switch accessor.GetName() {
	case name:
	case "":
		return errors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", name))
	default:
		return errors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", accessor.GetName(), name))
	}
	return nil
}
