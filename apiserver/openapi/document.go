package openapi

import (
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emicklei/go-restful/v3"

	"hyperkube/apiserver/endpoints"
)

// document is one OpenAPI document as clients fetch it: JSON, or protobuf made of the JSON.
type document struct {
	hash     string
	protobuf string // the media type; "": there is JSON only
	hashed   bool   // may be asked for by its hash
	json     func() ([]byte, error)
	proto    func(json []byte) ([]byte, error)

	mu               sync.Mutex
	jsonData, pbData []byte
}

// ServeHTTP answers with the document. A client that names the hash may keep it for ever; one
// that names an old hash is sent to the present one.
func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	protobuf, acceptable := d.wantsProtobuf(r)
	if !acceptable {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	if asked := r.URL.Query().Get("hash"); d.hashed && asked != "" {
		if asked != d.hash {
			http.Redirect(w, r, r.URL.Path+"?hash="+d.hash, http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	if endpoints.NotModified(w, r, strconv.Quote(d.hash)) {
		return
	}
	data, media, err := d.bytes(protobuf)
	if err != nil {
		endpoints.WriteError(w, r, err)
		return
	}
	endpoints.WriteBody(w, r, media, data)
}

// wantsProtobuf reads Accept, best first; acceptable is false when it names no form of the document. The media type
// has an "@" in its old name, which no parser likes; clients use both.
func (d *document) wantsProtobuf(r *http.Request) (protobuf, acceptable bool) {
	header := strings.Join(r.Header.Values("Accept"), ",")
	if header == "" {
		return false, true
	}
	best := 0.0
	for _, clause := range strings.Split(header, ",") {
		media, parameters, _ := strings.Cut(clause, ";")
		quality := qualityOf(parameters)
		if quality <= best {
			continue // of equals, the first counts
		}
		switch media = strings.TrimSpace(media); {
		case media == "application/json", media == "application/*", media == "*/*":
			protobuf, acceptable, best = false, true, quality
		case d.protobuf != "" && (media == d.protobuf || media == newName(d.protobuf)):
			protobuf, acceptable, best = true, true, quality
		}
	}
	return protobuf, acceptable
}

// qualityOf is the weight of a clause of Accept: "q=0.5".
func qualityOf(parameters string) float64 {
	for _, parameter := range strings.Split(parameters, ";") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			if q, err := strconv.ParseFloat(value, 64); err == nil {
				return q
			}
		}
	}
	return 1
}

// newName is how a protobuf form is named in answers: without the "@".
func newName(media string) string { return strings.Replace(media, "@v1.0", ".v1.0", 1) }

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
	return d.pbData, newName(d.protobuf), nil
}

// hashOf names the document of services: another binary or other routes make another.
func hashOf(version string, services ...*restful.WebService) string {
	sum := sha512.New()
	fmt.Fprintln(sum, version, sha512.Sum512(packed))
	for _, service := range services {
		for _, route := range service.Routes() {
			fmt.Fprintln(sum, route.Method, route.Path, route.Operation, route.Doc, route.Consumes, route.Produces)
			for _, parameter := range route.ParameterDocs {
				fmt.Fprintf(sum, "%+v\n", parameter.Data())
			}
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
