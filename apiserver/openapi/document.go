package openapi

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/emicklei/go-restful/v3"

	"hyperkube/apiserver/endpoints"
)

// document is one OpenAPI document as clients fetch it: JSON, or protobuf made of the JSON.
type document struct {
	hash     string
	protobuf string // the media type
	json     func() ([]byte, error)
	proto    func(json []byte) ([]byte, error)

	mu               sync.Mutex
	jsonData, pbData []byte
}

// ServeHTTP answers with the document. A client that names the hash may keep it for ever; one
// that names an old hash is sent to the present one.
func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	w.Header().Set("ETag", `"`+d.hash+`"`)
	if asked := r.URL.Query().Get("hash"); asked != "" && asked != d.hash {
		http.Redirect(w, r, r.URL.Path+"?hash="+d.hash, http.StatusMovedPermanently)
		return
	} else if asked != "" {
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	if strings.Trim(r.Header.Get("If-None-Match"), `"`) == d.hash {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	data, media, err := d.bytes(d.wantsProtobuf(r))
	if err != nil {
		endpoints.WriteError(w, r, err)
		return
	}
	endpoints.WriteBody(w, r, media, data)
}

// wantsProtobuf reads Accept. The media type has an "@" in its old name, which no parser likes; clients use both.
func (d *document) wantsProtobuf(r *http.Request) bool {
	for _, clause := range strings.Split(r.Header.Get("Accept"), ",") {
		clause = strings.TrimSpace(clause)
		if strings.HasPrefix(clause, d.protobuf) || strings.HasPrefix(clause, strings.Replace(d.protobuf, "@v1.0", ".v1.0", 1)) {
			return true
		}
		if media, _, err := mime.ParseMediaType(clause); err == nil && (media == "application/json" || media == "*/*") {
			return false
		}
	}
	return false
}

func (d *document) bytes(protobuf bool) ([]byte, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.jsonData == nil {
		if d.jsonData, err = d.json(); err != nil {
			return nil, "", err
		}
	}
	if !protobuf {
		return d.jsonData, "application/json", nil
	}
	if d.pbData == nil {
		if d.pbData, err = d.proto(d.jsonData); err != nil {
			return nil, "", err
		}
	}
	return d.pbData, strings.Replace(d.protobuf, "@v1.0", ".v1.0", 1), nil
}

// hashOf names the document of services: another binary or other routes make another.
func hashOf(version string, services ...*restful.WebService) string {
	sum := sha256.New()
	fmt.Fprintln(sum, version, sha256.Sum256(packed))
	for _, service := range services {
		for _, route := range service.Routes() {
			fmt.Fprintln(sum, route.Method, route.Path, route.Operation)
		}
	}
	return fmt.Sprintf("%X", sum.Sum(nil))
}

func marshal[T any](document T, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(document)
}
