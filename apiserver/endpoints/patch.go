package endpoints

import (
	"context"
	"encoding/json"
	stderrors "errors"
	"fmt"
	"mime"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

const acceptedPatches = string(types.JSONPatchType) + ", " + string(types.MergePatchType) + ", " +
	string(types.StrategicMergePatchType) + ", " + string(types.ApplyYAMLPatchType)

// PatchResource answers PATCH: the patch is applied to the present object, again
// and again if others write meanwhile, and what comes out goes the way of a PUT.
// Apply may also create.
func PatchResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	patchType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return unsupportedMedia(acceptedPatches)
	}
	options, err := patchOptions(r, types.PatchType(patchType))
	if err != nil {
		return err
	}
	f, err := negotiate(r, "Table", "PartialObjectMetadata")
	if err != nil {
		return err
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	p := &patcher{scope: s, ctx: r.Context(), kind: types.PatchType(patchType), body: body, options: options}
	_, p.name = s.target(r)
	if err := p.check(); err != nil {
		return err
	}
	write := registry.Write{
		Subresource: s.Subresource, View: s.View, Options: options, DryRun: len(options.DryRun) > 0,
		Manager: manager(options.FieldManager, r),
	}
	if s.Sub != nil && s.Sub.Update != nil {
		update := &metav1.UpdateOptions{DryRun: options.DryRun, FieldManager: options.FieldManager, FieldValidation: options.FieldValidation}
		return s.updateFunction(w, r, f, update, func(current runtime.Object) (runtime.Object, error) {
			return p.patchFunction(current)
		})
	}
	change := p.patchStored
	if p.kind == types.ApplyYAMLPatchType {
		change = p.apply
		write.Applied, write.MayCreate = true, s.Subresource == ""
	}
	namespace, _ := s.target(r)
	written, created, err := s.Store.Update(r.Context(), namespace, p.name, change, write)
	if err != nil {
		return err
	}
	return s.writeStored(w, r, f, updatedCode(created), written)
}

// patcher applies one patch to as many versions of an object as it takes.
type patcher struct {
	scope   *Scope
	ctx     context.Context
	kind    types.PatchType
	name    string
	body    []byte
	options *metav1.PatchOptions
}

// check refuses patches that no object could make right.
func (p *patcher) check() error {
	switch p.kind {
	case types.JSONPatchType, types.MergePatchType:
	case types.StrategicMergePatchType:
		if _, untyped := p.scope.newObject().(runtime.Unstructured); untyped {
			return unsupportedMedia(string(types.JSONPatchType) + ", " + string(types.MergePatchType) + ", " + string(types.ApplyYAMLPatchType))
		}
	case types.ApplyYAMLPatchType:
		if p.scope.Resource.View != nil {
			return unsupportedMedia(string(types.JSONPatchType) + ", " + string(types.MergePatchType) + ", " + string(types.StrategicMergePatchType))
		}
	default:
		return unsupportedMedia(acceptedPatches)
	}
	if p.kind == types.JSONPatchType {
		return nil
	}
	return p.checkDuplicates()
}

// checkDuplicates finds a key that is given twice in the patch itself: after merging it can no longer be seen.
func (p *patcher) checkDuplicates() error {
	validation := fieldValidation(p.options.FieldValidation)
	if validation == metav1.FieldValidationIgnore {
		return nil
	}
	data := p.body
	if p.kind == types.ApplyYAMLPatchType {
		if err := yaml.UnmarshalStrict(data, &map[string]any{}); err != nil {
			if lenient := yaml.Unmarshal(data, &map[string]any{}); lenient == nil {
				return p.unknown(validation, []error{err})
			}
			return errors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
		}
		return nil
	}
	strict, err := kjson.UnmarshalStrict(data, &map[string]any{}, kjson.DisallowDuplicateFields)
	if err != nil {
		return errors.NewBadRequest(err.Error())
	}
	return p.unknown(validation, strict)
}

// unknown answers fields that the patch should not have.
func (p *patcher) unknown(validation string, strict []error) error {
	if len(strict) == 0 {
		return nil
	}
	if validation == metav1.FieldValidationStrict {
		return errors.NewInvalid(p.scope.kind().GroupKind(), "", field.ErrorList{
			field.Invalid(field.NewPath("patch"), string(p.body), runtime.NewStrictDecodingError(strict).Error()),
		})
	}
	for _, err := range strict {
		request.AddWarning(p.ctx, err.Error())
	}
	return nil
}

// patchStored is the Change of a patch of a stored object.
func (p *patcher) patchStored(current runtime.Object) (runtime.Object, error) {
	s := p.scope
	served := s.toServed(current)
	patched, err := p.patchObject(served, s.Resource.Kind, s.Resource.New())
	if err != nil {
		return nil, err
	}
	if err := checkName(patched, p.name); err != nil {
		return nil, err
	}
	return s.toStored(patched), nil
}

// patchFunction is the Change of a subresource with a shape of its own. Apply is a merge there: such a body is no
// configuration of an owner, it is a few values.
func (p *patcher) patchFunction(current runtime.Object) (runtime.Object, error) {
	patched, err := p.patchObject(current, p.scope.kind(), p.scope.newObject())
	if err != nil {
		return nil, err
	}
	return patched, p.scope.checkVersion(current, patched, p.name)
}

// patchObject applies the patch to the JSON of served, and decodes what comes out into a new object.
func (p *patcher) patchObject(served runtime.Object, kind schema.GroupVersionKind, into runtime.Object) (runtime.Object, error) {
	served.GetObjectKind().SetGroupVersionKind(kind)
	original, err := json.Marshal(served)
	if err != nil {
		return nil, err
	}
	patched, err := p.patchJSON(original, into)
	if err != nil {
		return nil, err
	}
	obj, err := p.decodePatched(patched, kind, into)
	if err != nil {
		return nil, err
	}
	return obj, nil
}

func (p *patcher) patchJSON(original []byte, sample runtime.Object) ([]byte, error) {
	switch p.kind {
	case types.JSONPatchType:
		return p.jsonPatch(original)
	case types.StrategicMergePatchType:
		patched, err := strategicpatch.StrategicMergePatch(original, p.body, sample)
		return patched, strategicError(err)
	case types.ApplyYAMLPatchType:
		body, err := yaml.YAMLToJSON(p.body)
		if err != nil {
			return nil, errors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
		}
		return jsonpatch.MergePatch(original, body)
	}
	patched, err := jsonpatch.MergePatch(original, p.body)
	if err != nil {
		return nil, errors.NewBadRequest(err.Error())
	}
	return patched, nil
}

// maxJSONPatchOperations bounds the work of one patch.
const maxJSONPatchOperations = 10000

func (p *patcher) jsonPatch(original []byte) ([]byte, error) {
	patch, err := jsonpatch.DecodePatch(p.body)
	if err != nil {
		return nil, errors.NewBadRequest(err.Error())
	}
	if len(patch) > maxJSONPatchOperations {
		return nil, errors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"The allowed maximum operations in a JSON patch is %d, got %d", maxJSONPatchOperations, len(patch)))
	}
	patched, err := patch.Apply(original)
	if err != nil {
		return nil, unprocessable(err)
	}
	return patched, nil
}

func unprocessable(err error) error {
	return errors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

// strategicError tells a patch that makes no sense from one that does not fit.
func strategicError(err error) error {
	switch {
	case err == nil:
		return nil
	case stderrors.Is(err, mergepatch.ErrBadJSONDoc), stderrors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		stderrors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), stderrors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		stderrors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return errors.NewBadRequest(err.Error())
	case stderrors.Is(err, mergepatch.ErrNoListOfLists):
		return unprocessable(err)
	}
	return errors.NewBadRequest(err.Error())
}

// decodePatched reads the patched JSON; fields it does not know can only have come from the patch.
func (p *patcher) decodePatched(patched []byte, kind schema.GroupVersionKind, into runtime.Object) (runtime.Object, error) {
	validation := fieldValidation(p.options.FieldValidation)
	obj, strict, err := decodeJSON(patched, kind, into)
	if err != nil {
		return nil, errors.NewInvalid(kind.GroupKind(), "", field.ErrorList{
			field.Invalid(field.NewPath("patch"), string(p.body), err.Error()),
		})
	}
	if validation == metav1.FieldValidationIgnore {
		return obj, nil
	}
	return obj, p.unknown(validation, strict)
}
