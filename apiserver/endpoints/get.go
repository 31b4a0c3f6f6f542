package endpoints

import (
	"net/http"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GetResource answers GET of one object. ?watch=1 means nothing here: one object is watched in its collection, by
// fieldSelector=metadata.name=….
func GetResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	f, err := negotiate(r, "Table", "PartialObjectMetadata", "PartialObjectMetadataList")
	if err != nil {
		return err
	}
	if queryBool(r.URL.Query(), "export") {
		return errors.NewBadRequest("the export parameter, deprecated since v1.14, is no longer supported")
	}
	options := &metav1.GetOptions{}
	if err := decodeQuery(r.URL.Query(), options); err != nil {
		return err
	}
	namespace, name := s.target(r)
	if s.Sub != nil && s.Sub.Get != nil {
		obj, err := s.Sub.Get(r.Context(), namespace, name)
		if err != nil {
			return err
		}
		return s.writeOwn(w, r, f, obj)
	}
	s.noteRead(r)
	obj, err := s.Store.Get(r.Context(), namespace, name, options.ResourceVersion)
	if err != nil {
		return err
	}
	return s.writeStored(w, r, f, http.StatusOK, obj)
}
