package endpoints

import (
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// ConnectResource hands the connection to the subresource (log, exec, attach, portforward, proxy), once admission has agreed.
func ConnectResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	info := request.InfoFrom(r.Context())
	namespace, name := s.target(r)
	ctx := r.Context()
	var options runtime.Object
	if s.Sub.ConnectOptions != nil {
		options = s.Sub.ConnectOptions()
		if err := decodeConnectOptions(r.URL.Query(), options); err != nil {
			return err
		}
		ctx = registry.WithConnectOptions(ctx, options)
	}
	// A log is read like an object, by a GET: admission has no say in reads.
	if s.Subresource != "log" {
		if err := s.admitConnect(ctx, namespace, name, options); err != nil {
			return err
		}
	}
	return s.Sub.Connect(namespace, name, subpath(info), w, r.WithContext(ctx))
}

// subpath is what follows the subresource in the URL, with its slash: "" or "/x/y".
func subpath(info *request.Info) string {
	if len(info.Parts) <= 3 {
		return ""
	}
	path := "/" + strings.Join(info.Parts[3:], "/")
	if strings.HasSuffix(info.Path, "/") {
		path += "/"
	}
	return path
}
