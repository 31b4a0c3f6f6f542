package endpoints

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GetResource answers GET of one object; ?watch=1 on it is a watch of this one.
func GetResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	if isWatch(r) && s.Subresource == "" {
		return ListResource(s, w, r)
	}
	f, err := negotiate(r, "Table", "PartialObjectMetadata")
	if err != nil {
		return err
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
