package endpoints

import (
	"fmt"
	"mime"
	"net/http"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	mediaJSON     = runtime.ContentTypeJSON
	mediaYAML     = runtime.ContentTypeYAML
	mediaProtobuf = runtime.ContentTypeProtobuf
	mediaCBOR     = runtime.ContentTypeCBOR
	// mediaCBORSequence is what a watch in CBOR is: one item behind the other.
	mediaCBORSequence = runtime.ContentTypeCBORSequence
)

// form is how an answer is to look.
type form struct {
	media string // mediaJSON, mediaYAML, mediaProtobuf or mediaCBOR
	// as is "", "Table", "PartialObjectMetadata" or "PartialObjectMetadataList".
	as string
	// version is that of meta.k8s.io in which as is wanted: v1, or v1beta1.
	version string
	pretty  bool
	// includeObject is what each row of a Table carries.
	includeObject metav1.IncludeObjectPolicy
}

// metaKind is a kind of meta.k8s.io in the version that the client asked for.
func (f form) metaKind(kind string) schema.GroupVersionKind {
	gvk := metaKind(kind)
	if f.version != "" {
		gvk.Version = f.version
	}
	return gvk
}

// contentType is what the answer's header says.
func (f form) contentType() string {
	if f.as != "" && f.media == mediaJSON {
		return mediaJSON
	}
	return f.media
}

// negotiate reads Accept: the client's order of preference counts, then what we can do. views are the
// transformations that the endpoint offers.
func negotiate(r *http.Request, views ...string) (form, error) {
	query := r.URL.Query()
	f := form{media: mediaJSON, pretty: wantsPretty(r)}
	header := strings.Join(r.Header.Values("Accept"), ",")
	if header == "" {
		return f, nil
	}
	for _, clause := range parseAccept(header) {
		media := mediaOf(clause.media, isWatch(r))
		if media == "" || !offered(clause.params, media, views) {
			continue
		}
		f.media, f.as = media, clause.params["as"]
		if f.as != "" {
			f.version = clause.params["v"]
		}
		if f.includeObject = metav1.IncludeObjectPolicy(query.Get("includeObject")); f.includeObject == "" {
			f.includeObject = metav1.IncludeMetadata
		}
		return f, nil
	}
	return f, notAcceptable()
}

// offered says whether the transformation that a clause asks for can be made.
func offered(params map[string]string, media string, views []string) bool {
	as := params["as"]
	if as == "" {
		return params["g"] == "" && params["v"] == "" // a version of what?
	}
	if params["g"] != metav1.GroupName || (params["v"] != "v1" && params["v"] != "v1beta1") {
		return false
	}
	if as == "Table" && media == mediaProtobuf {
		return false // cells are JSON values, which protobuf has no place for
	}
	for _, view := range views {
		if view == as {
			return true
		}
	}
	return false
}

type acceptClause struct {
	media  string
	params map[string]string
	q      float64
}

func parseAccept(header string) []acceptClause {
	var clauses []acceptClause
	for _, part := range strings.Split(header, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		clause := acceptClause{media: media, params: params, q: 1}
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			clause.q = q
		}
		clauses = append(clauses, clause)
	}
	sort.SliceStable(clauses, func(i, j int) bool { return clauses[i].q > clauses[j].q })
	return clauses
}

func mediaOf(asked string, watch bool) string {
	switch asked {
	case "*/*", "application/*", mediaJSON:
		return mediaJSON
	case mediaYAML:
		return mediaYAML
	case mediaProtobuf, mediaCBOR:
		return asked
	case mediaCBORSequence:
		if watch {
			return mediaCBOR
		}
	}
	return ""
}

// wantsPretty: asked for, or a person is probably looking.
func wantsPretty(r *http.Request) bool {
	if values, ok := r.URL.Query()["pretty"]; ok {
		return len(values) == 0 || (values[0] != "0" && !strings.EqualFold(values[0], "false"))
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// wrongView answers who asks one object for the form of a list, or a list for that of one.
func wrongView(as, what string, kind schema.GroupVersionKind) error {
	return &errors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: fmt.Sprintf("you requested %s, but the requested object is %s (*%s.%s)", as, what, internalName(kind.Group), kind.Kind),
	}}
}

// checkIncludeObject refuses what a row of a Table cannot carry.
func checkIncludeObject(policy metav1.IncludeObjectPolicy) error {
	switch policy {
	case "", metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		return nil
	}
	return errors.NewBadRequest(fmt.Sprintf("Unable to convert to Table as requested: includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", policy))
}

const acceptedMedia = mediaJSON + ", " + mediaYAML + ", " + mediaProtobuf + ", " + mediaCBOR

func notAcceptable() error { return onlyAccepted(acceptedMedia) }

func onlyAccepted(media string) error {
	return &errors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + media,
	}}
}

func unsupportedMedia(accepted string) error {
	return &errors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + accepted,
	}}
}
