package endpoints

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
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
	wanted := &unstructured.Unstructured{Object: map[string]any{}}
	if err := p.decodeApplied(&wanted.Object); err != nil {
		return nil, err
	}
	creates := current == nil
	if creates {
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
	if uid := uidOf(merged); creates && uid != "" {
		return nil, errors.NewConflict(s.Resource.GroupResource(), p.name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
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

// applyFunction is apply for a subresource with a shape of its own.
func (p *patcher) applyFunction(current runtime.Object) (runtime.Object, error) {
	fields, err := p.scope.Sub.Fields()
	if err != nil {
		return nil, err
	}
	wanted := &unstructured.Unstructured{Object: map[string]any{}}
	if err := p.decodeApplied(&wanted.Object); err != nil {
		return nil, err
	}
	merged, err := fields.Apply(current, wanted, p.options.FieldManager, p.options.Force != nil && *p.options.Force)
	if err != nil {
		return nil, unappliable(err)
	}
	if err := p.checkApplied(); err != nil {
		return nil, err
	}
	if err := checkName(merged, p.name); err != nil {
		return nil, err
	}
	return merged, p.scope.checkVersion(current, merged, p.name)
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
		return errors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	return nil
}

func uidOf(obj runtime.Object) types.UID {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return accessor.GetUID()
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
		return errors.NewBadRequest(fmt.Sprintf("error strict decoding patch: %v", err))
	}
	warnOf(p.ctx, err)
	return nil
}

// warnOf warns of a mistake in a body; YAML's parser tells several in one error, a line each.
func warnOf(ctx context.Context, err error) {
	text := err.Error()
	for _, head := range []string{"error converting YAML to JSON: yaml: unmarshal errors:\n", "yaml: unmarshal errors:\n"} {
		if lines, cut := strings.CutPrefix(text, head); cut {
			for line := range strings.Lines(lines) {
				request.AddWarning(ctx, strings.TrimSpace(line))
			}
			return
		}
	}
	request.AddWarning(ctx, text)
}
