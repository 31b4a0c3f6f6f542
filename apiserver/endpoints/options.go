package endpoints

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"hyperkube/apiserver/storage"
)

// decodeQuery reads query parameters into options.
func decodeQuery(query url.Values, into runtime.Object) error {
	if err := scheme.ParameterCodec.DecodeParameters(query, schema.GroupVersion{Version: "v1"}, into); err != nil {
		return errors.NewBadRequest(err.Error())
	}
	return nil
}

// invalidOptions is the answer to options that are well formed but contradictory.
func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return errors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

func createOptions(r *http.Request) (*metav1.CreateOptions, error) {
	options := &metav1.CreateOptions{}
	if err := decodeQuery(r.URL.Query(), options); err != nil {
		return nil, err
	}
	options.SetGroupVersionKind(metaKind("CreateOptions"))
	return options, invalidOptions("CreateOptions", metavalidation.ValidateCreateOptions(options))
}

func updateOptions(r *http.Request) (*metav1.UpdateOptions, error) {
	options := &metav1.UpdateOptions{}
	if err := decodeQuery(r.URL.Query(), options); err != nil {
		return nil, err
	}
	options.SetGroupVersionKind(metaKind("UpdateOptions"))
	return options, invalidOptions("UpdateOptions", metavalidation.ValidateUpdateOptions(options))
}

func patchOptions(r *http.Request, patchType types.PatchType) (*metav1.PatchOptions, error) {
	options := &metav1.PatchOptions{}
	if err := decodeQuery(r.URL.Query(), options); err != nil {
		return nil, err
	}
	options.SetGroupVersionKind(metaKind("PatchOptions"))
	return options, invalidOptions("PatchOptions", metavalidation.ValidatePatchOptions(options, patchType))
}

// deleteOptions come in the body or, where there is none, in the query.
func deleteOptions(r *http.Request) (*metav1.DeleteOptions, error) {
	options := &metav1.DeleteOptions{}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		media, err := bodyMedia(r)
		if err != nil {
			return nil, err
		}
		if err := decodeOptionsBody(body, media, options); err != nil {
			return nil, err
		}
	} else if err := decodeQuery(r.URL.Query(), options); err != nil {
		return nil, err
	}
	options.SetGroupVersionKind(metaKind("DeleteOptions"))
	return options, invalidOptions("DeleteOptions", metavalidation.ValidateDeleteOptions(options))
}

// decodeOptionsBody reads DeleteOptions whatever group version they claim: clients send meta.k8s.io/v1, v1, or the version of
// what they delete.
func decodeOptionsBody(body []byte, media string, options *metav1.DeleteOptions) error {
	if media == mediaCBOR {
		if err := cbor.Unmarshal(body, options); err != nil {
			return errors.NewBadRequest(err.Error())
		}
		return nil
	}
	wanted, codecs := metaKind("DeleteOptions"), metainternal.Codecs
	info, ok := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), media)
	if !ok {
		return unsupportedMedia(acceptedMedia)
	}
	_, actual, err := codecs.DecoderToVersion(info.Serializer, wanted.GroupVersion()).Decode(body, &wanted, options)
	if runtime.IsNotRegisteredError(err) && actual != nil && actual.Kind == wanted.Kind {
		err = decodeUnregistered(body, media, options)
	}
	if err != nil {
		return errors.NewBadRequest(err.Error())
	}
	return nil
}

// decodeUnregistered reads DeleteOptions of a version that has none of its own.
func decodeUnregistered(body []byte, media string, options *metav1.DeleteOptions) error {
	if media != mediaProtobuf {
		return yaml.Unmarshal(body, options) // JSON is YAML
	}
	envelope := runtime.Unknown{}
	if err := envelope.Unmarshal(bytes.TrimPrefix(body, protobufMagic)); err != nil {
		return err
	}
	return options.Unmarshal(envelope.Raw)
}

func metaKind(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: metav1.GroupName, Version: "v1", Kind: kind}
}

// listOptions reads the options of list, watch and deletecollection.
func listOptions(r *http.Request) (*metav1.ListOptions, error) {
	options := &metav1.ListOptions{}
	if err := decodeQuery(r.URL.Query(), options); err != nil {
		return nil, err
	}
	return options, invalidOptions("ListOptions", validateListOptions(options))
}

// validateListOptions holds the rules of the API concepts page about which options go together.
func validateListOptions(o *metav1.ListOptions) field.ErrorList {
	path, match := field.NewPath("resourceVersionMatch"), o.ResourceVersionMatch
	if o.Watch {
		return validateWatchOptions(o, path)
	}
	var errs field.ErrorList
	if match != "" {
		if o.ResourceVersion == "" {
			errs = append(errs, field.Forbidden(path, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
		}
		if o.Continue != "" {
			errs = append(errs, field.Forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
		}
		if match != metav1.ResourceVersionMatchExact && match != metav1.ResourceVersionMatchNotOlderThan {
			errs = append(errs, field.NotSupported(path, match, []string{string(metav1.ResourceVersionMatchExact), string(metav1.ResourceVersionMatchNotOlderThan), ""}))
		}
		if match == metav1.ResourceVersionMatchExact && o.ResourceVersion == "0" {
			errs = append(errs, field.Forbidden(path, `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`))
		}
	}
	if o.SendInitialEvents != nil {
		errs = append(errs, field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
	}
	return errs
}

func validateWatchOptions(o *metav1.ListOptions, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	match := o.ResourceVersionMatch
	if o.SendInitialEvents != nil && match != metav1.ResourceVersionMatchNotOlderThan {
		errs = append(errs, field.Forbidden(path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
	}
	if match == "" {
		return errs
	}
	if o.SendInitialEvents == nil {
		errs = append(errs, field.Forbidden(path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
	}
	if match != metav1.ResourceVersionMatchNotOlderThan {
		errs = append(errs, field.NotSupported(path, match, []string{string(metav1.ResourceVersionMatchNotOlderThan)}))
	}
	if o.Continue != "" {
		errs = append(errs, field.Forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
	}
	return errs
}

// predicate reads the selectors, and refuses fields that the resource does not offer.
func (s *Scope) predicate(o *metav1.ListOptions, name string) (storage.Predicate, error) {
	p := storage.Predicate{Label: labels.Everything(), Field: fields.Everything()}
	var err error
	if o.LabelSelector != "" {
		if p.Label, err = labels.Parse(o.LabelSelector); err != nil {
			return p, errors.NewBadRequest(err.Error())
		}
	}
	if o.FieldSelector != "" {
		if p.Field, err = fields.ParseSelector(o.FieldSelector); err != nil {
			return p, errors.NewBadRequest(err.Error())
		}
		known := s.selectable()
		p.Field, err = p.Field.Transform(func(label, value string) (string, string, error) {
			name, err := known(label)
			return name, value, err
		})
		if err != nil {
			return p, errors.NewBadRequest(err.Error())
		}
	}
	// A watch of one path (GET .../pods/web?watch=1) is a watch of all with that name.
	if name != "" {
		if selected, ok := p.Field.RequiresExactMatch("metadata.name"); ok && selected != name {
			return p, errors.NewBadRequest(fmt.Sprintf("fieldSelector metadata.name=%q doesn't match the name %q", selected, name))
		}
		p.Field = fields.AndSelectors(p.Field, fields.OneTermEqualSelector("metadata.name", name))
	}
	return p, nil
}

// selectable says by which labels objects may be selected, and which field each means. Upstream's kinds differ in how they
// refuse the others: those that have fields of their own name the label; the rest say what there is.
func (s *Scope) selectable() func(label string) (string, error) {
	if s.Resource.Selects != nil {
		return s.Resource.Selects
	}
	if s.Store.Fields == nil {
		return func(label string) (string, error) {
			if label == "metadata.name" || label == "metadata.namespace" {
				return label, nil
			}
			return "", fmt.Errorf("%q is not a known field selector: only %q, %q", label, "metadata.name", "metadata.namespace")
		}
	}
	fields := s.Store.Fields(s.Store.New())
	return func(label string) (string, error) {
		_, known := fields[label]
		if known || label == "metadata.name" || label == "metadata.namespace" && !s.Resource.ClusterScoped {
			return label, nil
		}
		return "", fmt.Errorf("field label not supported: %s", label)
	}
}
