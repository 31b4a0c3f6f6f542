package endpoints

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"

	"hyperkube/apiserver/request"
)

// maxBody is the most a request's body may hold: what etcd takes, and room for a patch's overhead.
const maxBody = 3 << 20

// believedLength is the length up to which room is made for a body before it is there.
const believedLength = 64 << 10

// readBody reads a request's body, and refuses one that is too large before it fills the memory.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	if r.ContentLength > maxBody {
		// Who is still sending would not see the answer of a server that hangs up.
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxBody+1))
		return nil, bodyTooLarge()
	}
	if 0 < r.ContentLength && r.ContentLength <= believedLength {
		// The length is known, so that one allocation will do; the server ends the body there.
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, unreadable(err)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, unreadable(err)
	}
	if len(body) > maxBody {
		return nil, bodyTooLarge()
	}
	return body, nil
}

func bodyTooLarge() error {
	return errors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
}

func unreadable(err error) error {
	return errors.NewBadRequest(fmt.Sprintf("reading the request's body: %v", err))
}

// bodyMedia is the media type of a request's body; none means JSON.
func bodyMedia(r *http.Request) (string, error) {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return mediaJSON, nil
	}
	media, _, err := mime.ParseMediaType(header)
	if err == nil {
		for _, known := range []string{mediaJSON, mediaYAML, mediaProtobuf, mediaCBOR} {
			if media == known {
				return media, nil
			}
		}
	}
	return "", unsupportedMedia(acceptedMedia)
}

// decodeBody reads the body as an object of the endpoint's kind, and treats fields it does not know as validation says:
// Ignore, Warn (a Warning header each) or Strict (400).
func (s *Scope) decodeBody(r *http.Request, validation string) (runtime.Object, error) {
	kind, into := s.kind(), s.newObject()
	media, err := bodyMedia(r)
	if err != nil {
		return nil, err
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	request.FlowFrom(r.Context()).Came(media, body, s)
	if media == mediaJSON && decodePlain(body, kind, into) {
		return into, nil
	}
	into = s.newObject() // plain decoding may have left something in the other
	info, ok := serializerFor(media)
	if !ok {
		return nil, unsupportedMedia(acceptedMedia)
	}
	serializer := info.Serializer
	if validation != metav1.FieldValidationIgnore && info.StrictSerializer != nil {
		serializer = info.StrictSerializer
	}
	if s.Sub != nil && !s.Sub.Accepts.Empty() {
		body = s.renamed(body, media)
	}
	obj, actual, err := serializer.Decode(body, &kind, into)
	if obj != nil && actual != nil {
		if err := checkKind(kind, actual, body); err != nil {
			return nil, err
		}
	}
	if strict, isStrict := runtime.AsStrictDecodingError(err); isStrict && obj != nil {
		if validation == metav1.FieldValidationStrict {
			return nil, undecodable(kind, actual, body, err)
		}
		for _, e := range strict.Errors() {
			warnOf(r.Context(), e)
		}
		err = nil
	}
	if err != nil {
		return nil, undecodable(kind, actual, body, err)
	}
	return obj, nil
}

// renamed is a body of the former version that the endpoint still takes, as one of its own version; any other as it is. In
// protobuf nobody is known to send the former one.
func (s *Scope) renamed(body []byte, media string) []byte {
	former := map[string]any{}
	if media != mediaJSON && media != mediaYAML || yaml.Unmarshal(body, &former) != nil || former["apiVersion"] != s.Sub.Accepts.String() {
		return body
	}
	former["apiVersion"] = s.kind().GroupVersion().String()
	renamed, err := json.Marshal(former)
	if err != nil {
		return body
	}
	return renamed
}

// decodePlain reads JSON in one pass, if all is well with it: it is of this kind or names none, and has no field that the
// type lacks, nor one twice. The serializer, which says what is wrong with all others, reads it twice: first only to find the kind.
func decodePlain(body []byte, kind schema.GroupVersionKind, into runtime.Object) bool {
	if _, untyped := into.(runtime.Unstructured); untyped {
		return false
	}
	strict, err := kjson.UnmarshalStrict(body, into)
	actual := into.GetObjectKind().GroupVersionKind()
	return err == nil && len(strict) == 0 && (actual == kind || actual.Empty())
}

// formerScales are where a Scale once stood: what it is called there is known still, though it is not taken.
var formerScales = map[schema.GroupVersion]bool{
	{Group: "extensions", Version: "v1beta1"}: true, {Group: "apps", Version: "v1beta1"}: true, {Group: "apps", Version: "v1beta2"}: true,
}

// checkKind refuses a body of another kind, or of another version of it.
func checkKind(kind schema.GroupVersionKind, actual *schema.GroupVersionKind, body []byte) error {
	switch {
	case *actual == kind:
		return nil
	case actual.GroupKind() == kind.GroupKind(), actual.Kind == "Scale" && kind.Kind == "Scale" && formerScales[actual.GroupVersion()]:
		return errors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			actual.GroupVersion(), kind.GroupVersion()))
	}
	return undecodable(kind, actual, body, unknownConversion(kind, actual))
}

func unknownConversion(kind schema.GroupVersionKind, actual *schema.GroupVersionKind) error {
	return fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", actual.Version, actual.Kind, internalName(kind.Group), kind.Kind)
}

// internalName is how upstream's answers name the versionless form of a group's kinds.
func internalName(group string) string {
	name, _, _ := strings.Cut(group, ".")
	if name == "" || name == "events" {
		return "core"
	}
	return name
}

// undecodable says what was found and what was expected.
func undecodable(kind schema.GroupVersionKind, actual *schema.GroupVersionKind, body []byte, err error) error {
	if actual != nil && actual.Kind != "" {
		return errors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", actual.Kind, actual.Version, kind.Kind, err))
	}
	return errors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", kind.Kind, err, summary(body)))
}

// summary shows the beginning of a body that could not be read.
func summary(body []byte) string {
	const shown = 30
	switch {
	case len(body) == 0:
		return "<empty>"
	case body[0] == '{' && len(body) > shown:
		return string(body[:shown]) + " ..."
	case body[0] == '{':
		return string(body)
	case len(body) > shown:
		return fmt.Sprintf("%x ...", body[:shown])
	}
	return fmt.Sprintf("%x", body)
}

// decodeJSON reads JSON that this package made itself; strict are the fields that the type does not have.
func decodeJSON(data []byte, kind schema.GroupVersionKind, into runtime.Object) (obj runtime.Object, strict []error, err error) {
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaJSON)
	obj, actual, err := info.StrictSerializer.Decode(data, &kind, into)
	if found, isStrict := runtime.AsStrictDecodingError(err); isStrict && obj != nil {
		strict, err = found.Errors(), nil
	}
	if err == nil && *actual != kind {
		err = unknownConversion(kind, actual)
	}
	return obj, strict, err
}
