package endpoints

import (
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"hyperkube/apiserver/request"
)

// apply is the Change of server-side apply: the body is what one manager wants,
// and only what it wants. Fields it wanted before and wants no more are removed; fields
// that others own are a conflict, unless forced.
func (p *patcher) apply(current runtime.Object) (runtime.Object, error) {
	s := p.scope
	fields := s.Store.FieldManager(s.Subresource, s.Resource.Kind)
	if fields == nil {
		return nil, unsupportedMedia("application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json")
	}
	wanted, err := p.appliedConfiguration()
	if err != nil {
		return nil, err
	}
	if current == nil {
		media := mediaYAML
		if p.kind == types.ApplyCBORPatchType {
			media = mediaCBOR
		}
		request.FlowFrom(p.ctx).Came(media, p.body, s)
		current = s.Store.New()
	}
	current.GetObjectKind().SetGroupVersionKind(s.Store.Kind)
	force := p.options.Force != nil && *p.options.Force
	merged, err := fields.Apply(current, wanted, p.options.FieldManager, force)
	if err != nil {
		return nil, unappliable(err)
	}
	if err := p.checkApplied(); err != nil {
		return nil, err
	}
	if err := checkName(merged, p.name); err != nil {
		return nil, err
	}
	// What comes out is of the stored version, whichever was applied.
	if s.Store.Default != nil {
		s.Store.Default(merged)
	}
	return merged, nil
}

// unappliable is the answer to a configuration that does not fit its kind. Upstream answers 500 with this text and no
// reason, which makes the client's mistake the server's.
func unappliable(err error) error {
	if _, ok := err.(errors.APIStatus); ok {
		return err
	}
	return &errors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusBadRequest, Message: err.Error()}}
}

// decodeApplied reads the body: YAML (JSON is YAML), or CBOR.
func (p *patcher) decodeApplied(into *map[string]any) (err error) {
	if p.kind == types.ApplyCBORPatchType {
		err = cbor.Unmarshal(p.body, into)
	} else {
		err = yaml.Unmarshal(p.body, into)
	}
	if err != nil {
		return errors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	return nil
}

// appliedConfiguration reads the body, which must be of the endpoint's kind.
func (p *patcher) appliedConfiguration() (*unstructured.Unstructured, error) {
	kind := p.scope.Resource.Kind
	wanted := &unstructured.Unstructured{Object: map[string]any{}}
	if err := p.decodeApplied(&wanted.Object); err != nil {
		return nil, err
	}
	if wanted.Object == nil {
		return nil, errors.NewBadRequest("error decoding YAML: the body is empty")
	}
	if got := wanted.GroupVersionKind(); got.Kind != kind.Kind || got.Version == "" {
		return nil, errors.NewBadRequest(fmt.Sprintf("the body is of %s, kind %q; this path takes %s, kind %q",
			orNone(wanted.GetAPIVersion()), got.Kind, kind.GroupVersion(), kind.Kind))
	}
	if name := wanted.GetName(); name == "" {
		wanted.SetName(p.name)
	} else if name != p.name {
		return nil, errors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, p.name))
	}
	if wanted.GetManagedFields() != nil {
		return nil, errors.NewBadRequest("metadata.managedFields must be nil")
	}
	return wanted, nil
}

// checkApplied finds keys that are given twice. Fields that the kind does not have never come this far, whatever the
// validation: nobody can own them.
func (p *patcher) checkApplied() error {
	validation := fieldValidation(p.options.FieldValidation)
	if validation == metav1.FieldValidationIgnore || p.kind == types.ApplyCBORPatchType {
		return nil
	}
	err := yaml.UnmarshalStrict(p.body, &map[string]any{})
	if err == nil {
		return nil
	}
	if validation == metav1.FieldValidationStrict {
		return errors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", err))
	}
	request.AddWarning(p.ctx, err.Error())
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "no apiVersion"
	}
	return s
}
