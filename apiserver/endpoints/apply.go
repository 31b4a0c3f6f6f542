package endpoints

import (
	"encoding/json"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// apply is the Change of server-side apply: the body is what one manager wants,
// and only what it wants. Fields it wanted before and wants no more are removed; fields
// that others own are a conflict, unless forced.
func (p *patcher) apply(current runtime.Object) (runtime.Object, error) {
	s := p.scope
	fields := s.Store.FieldManager(s.Subresource)
	if fields == nil {
		return nil, unsupportedMedia("application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json")
	}
	wanted, err := p.appliedConfiguration()
	if err != nil {
		return nil, err
	}
	if current == nil {
		current = s.Store.New()
	}
	current.GetObjectKind().SetGroupVersionKind(s.Resource.Kind)
	force := p.options.Force != nil && *p.options.Force
	merged, err := fields.Apply(current, wanted, p.options.FieldManager, force)
	if err != nil {
		if _, ok := err.(errors.APIStatus); ok {
			return nil, err
		}
		return nil, errors.NewGenericServerResponse(http.StatusInternalServerError, "", schema.GroupResource{}, "", err.Error(), 0, true)
	}
	if err := checkName(merged, p.name); err != nil {
		return nil, err
	}
	return s.toStored(merged), nil
}

// appliedConfiguration reads the body: YAML (JSON is YAML) of the endpoint's kind.
func (p *patcher) appliedConfiguration() (*unstructured.Unstructured, error) {
	kind := p.scope.Resource.Kind
	wanted := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(p.body, &wanted.Object); err != nil {
		return nil, errors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if wanted.Object == nil {
		return nil, errors.NewBadRequest("error decoding YAML: the body is empty")
	}
	if got := wanted.GroupVersionKind(); got != kind {
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
	return wanted, p.checkApplied(wanted)
}

// checkApplied reads the configuration as its Go type once, to find fields that it does not have.
func (p *patcher) checkApplied(wanted *unstructured.Unstructured) error {
	data, err := json.Marshal(wanted.Object)
	if err != nil {
		return err
	}
	validation := fieldValidation(p.options.FieldValidation)
	_, strict, err := decodeJSON(data, p.scope.Resource.Kind, p.scope.Resource.New())
	if err != nil {
		return errors.NewBadRequest(err.Error())
	}
	if validation == "Ignore" || len(strict) == 0 {
		return nil
	}
	if validation == "Strict" {
		return errors.NewBadRequest(runtime.NewStrictDecodingError(strict).Error())
	}
	return p.unknown(validation, strict)
}

func orNone(s string) string {
	if s == "" {
		return "no apiVersion"
	}
	return s
}
