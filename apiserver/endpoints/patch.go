package endpoints

import (
	"context"
	"encoding/json"
	stderrors "errors"
	"fmt"
	"mime"
	"net/http"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

const acceptedPatches = string(types.JSONPatchType) + ", " + string(types.MergePatchType) + ", " +
	string(types.StrategicMergePatchType) + ", " + string(types.ApplyYAMLPatchType) + ", " + string(types.ApplyCBORPatchType)

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
	f, err := negotiate(r, "Table", "PartialObjectMetadata", "PartialObjectMetadataList")
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
		Subresource: s.Subresource, View: s.View, Kind: s.Resource.Kind, Options: options, DryRun: len(options.DryRun) > 0,
		Manager: manager(options.FieldManager, r),
	}
	if s.Sub != nil && s.Sub.Update != nil {
		update := &metav1.UpdateOptions{DryRun: options.DryRun, FieldManager: options.FieldManager, FieldValidation: options.FieldValidation}
		if p.isApply() && s.Sub.Apply != nil {
			return s.updateFunction(w, r, f, functionWrite{update, s.Sub.Apply, p.applyFunction})
		}
		return s.updateFunction(w, r, f, functionWrite{update, s.Sub.Update, p.patchFunction})
	}
	change := p.patchStored
	if p.isApply() {
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
	// shaped says that checkShape has run; strict are the mistakes in the patch itself, whatever object it meets.
	shaped bool
	strict []error
}

// check refuses what is no patch before it is known whether the object exists.
func (p *patcher) check() error {
	switch p.kind {
	case types.StrategicMergePatchType:
		if _, untyped := p.scope.newObject().(runtime.Unstructured); untyped {
			return unsupportedMedia(string(types.JSONPatchType) + ", " + string(types.MergePatchType) + ", " + string(types.ApplyYAMLPatchType))
		}
	case types.JSONPatchType, types.MergePatchType:
	case types.ApplyYAMLPatchType:
		if _, err := yaml.ToJSON(p.body); err != nil {
			return errors.NewBadRequest(fmt.Sprintf("error encoding patch: %v", err))
		}
		return nil
	case types.ApplyCBORPatchType:
		return nil
	default:
		return unsupportedMedia(acceptedPatches)
	}
	if !json.Valid(p.body) {
		return errors.NewBadRequest("invalid JSON patch")
	}
	return nil
}

func (p *patcher) isApply() bool {
	return p.kind == types.ApplyYAMLPatchType || p.kind == types.ApplyCBORPatchType
}

// jsonPatchOperation is what a JSON patch may say (RFC 6902).
type jsonPatchOperation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

// checkShape reads the patch once, to find what is given twice or unknown in the patch itself: after merging it can no
// longer be seen.
func (p *patcher) checkShape() (err error) {
	if p.shaped || p.isApply() || fieldValidation(p.options.FieldValidation) == metav1.FieldValidationIgnore {
		return nil
	}
	p.shaped = true
	switch p.kind {
	case types.JSONPatchType:
		var strict []error
		if strict, err = kjson.UnmarshalStrict(p.body, &[]jsonPatchOperation{}); err == nil {
			for _, e := range strict {
				p.strict = append(p.strict, fmt.Errorf("json patch %w", e))
			}
		}
	default:
		p.strict, err = kjson.UnmarshalStrict(p.body, &map[string]any{})
	}
	switch {
	case err == nil:
		return nil
	case p.kind == types.StrategicMergePatchType:
		return errors.NewBadRequest(err.Error())
	}
	return errors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
}

// unknown answers fields that the patch should not have; shown is what the client is shown of it.
func (p *patcher) unknown(strict []error, shown string) error {
	strict = slices.Concat(p.strict, strict)
	switch validation := fieldValidation(p.options.FieldValidation); {
	case len(strict) == 0 || validation == metav1.FieldValidationIgnore:
		return nil
	case validation == metav1.FieldValidationStrict:
		return invalidPatch(shown, runtime.NewStrictDecodingError(strict))
	}
	for _, err := range strict {
		request.AddWarning(p.ctx, err.Error())
	}
	return nil
}

// invalidPatch is upstream's answer, which names no kind: kubectl says "The request is invalid".
func invalidPatch(shown string, err error) error {
	return errors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), shown, err.Error())})
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

// patchFunction is the Change of a subresource with a shape of its own.
func (p *patcher) patchFunction(current runtime.Object) (runtime.Object, error) {
	patched, err := p.patchObject(current, p.scope.kind(), p.scope.newObject())
	if err != nil {
		return nil, err
	}
	if err := checkName(patched, p.name); err != nil {
		return nil, err
	}
	return patched, p.scope.checkVersion(current, patched, p.name)
}

// patchObject applies the patch to served, and makes a new object of what comes out.
func (p *patcher) patchObject(served runtime.Object, kind schema.GroupVersionKind, into runtime.Object) (runtime.Object, error) {
	if err := p.checkShape(); err != nil {
		return nil, err
	}
	served.GetObjectKind().SetGroupVersionKind(kind)
	if p.kind == types.StrategicMergePatchType {
		return into, p.strategicPatch(served, kind, into)
	}
	original, err := json.Marshal(served)
	if err != nil {
		return nil, err
	}
	patched, err := p.patchJSON(original)
	if err != nil {
		return nil, err
	}
	obj, strict, err := decodeJSON(patched, kind, into)
	if err != nil {
		return nil, invalidPatch(string(patched), err)
	}
	return obj, p.unknown(strict, string(patched))
}

func (p *patcher) patchJSON(original []byte) ([]byte, error) {
	body := p.body
	switch {
	case p.kind == types.JSONPatchType:
		return p.jsonPatch(original)
	case p.isApply():
		var wanted map[string]any
		if err := p.decodeApplied(&wanted); err != nil {
			return nil, err
		}
		var err error
		if body, err = json.Marshal(wanted); err != nil {
			return nil, err
		}
	}
	patched, err := jsonpatch.MergePatch(original, body)
	if err != nil {
		return nil, errors.NewBadRequest(err.Error())
	}
	return patched, nil
}

// strategicPatch applies a strategic merge patch: lists merge by the keys that the type's tags name.
func (p *patcher) strategicPatch(served runtime.Object, kind schema.GroupVersionKind, into runtime.Object) error {
	original, err := runtime.DefaultUnstructuredConverter.ToUnstructured(served)
	if err != nil {
		return err
	}
	patch := map[string]any{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(p.body, &patch); err != nil {
		return errors.NewBadRequest(err.Error())
	}
	shown := fmt.Sprintf("%+v", patch)
	patched, err := strategicpatch.StrategicMergeMapPatch(original, patch, into)
	if err != nil {
		return strategicError(err)
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(patched, into, true)
	strict, isStrict := runtime.AsStrictDecodingError(err)
	if err != nil && !isStrict {
		return invalidPatch(shown, err)
	}
	into.GetObjectKind().SetGroupVersionKind(kind)
	if isStrict {
		return p.unknown(strict.Errors(), shown)
	}
	return p.unknown(nil, shown)
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
	patched, err := applyOperations(patch, original)
	if err != nil {
		return nil, unprocessable(err)
	}
	return patched, nil
}

// applyOperations is Apply of the library, which fails where an operation that stands for the whole object has no value.
func applyOperations(patch jsonpatch.Patch, original []byte) (patched []byte, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("the patch cannot be applied: %v", problem)
		}
	}()
	return patch.Apply(original)
}

func unprocessable(err error) error {
	return errors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

// strategicError tells a patch that makes no sense from one that does not fit.
func strategicError(err error) error {
	switch {
	case err == nil:
		return nil
	case stderrors.Is(err, mergepatch.ErrNoListOfLists), stderrors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys):
		return unprocessable(err)
	}
	return errors.NewBadRequest(err.Error())
}
