package server

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/emicklei/go-restful/v3"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/component"
	"hyperkube/kubelet/logs"
)

// exec, attach and portForward are the same in three steps: find the pod, ask the
// runtime for the URL of a stream, pass every byte between caller and that URL.

func (s *Server) exec(r *restful.Request, w *restful.Response) {
	pod, err := s.pod(r)
	if err != nil {
		fail(w, err)
		return
	}
	o := streamOptions(r)
	location, err := s.Host.GetExec(r.Request.Context(), pod, r.PathParameter("containerName"), &runtimeapi.ExecRequest{
		Cmd: r.Request.URL.Query()["command"], Stdin: o.stdin, Stdout: o.stdout, Stderr: o.stderr && !o.tty, Tty: o.tty,
	})
	s.proxyStream(w, r, location, err)
}

func (s *Server) attach(r *restful.Request, w *restful.Response) {
	pod, err := s.pod(r)
	if err != nil {
		fail(w, err)
		return
	}
	o := streamOptions(r)
	location, err := s.Host.GetAttach(r.Request.Context(), pod, r.PathParameter("containerName"), &runtimeapi.AttachRequest{
		Stdin: o.stdin, Stdout: o.stdout, Stderr: o.stderr && !o.tty, Tty: o.tty,
	})
	s.proxyStream(w, r, location, err)
}

func (s *Server) portForward(r *restful.Request, w *restful.Response) {
	pod, err := s.pod(r)
	if err != nil {
		fail(w, err)
		return
	}
	var ports []int32
	for _, name := range []string{"port", "ports"} {
		for _, text := range r.Request.URL.Query()[name] {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil || port == 0 {
				http.Error(w, fmt.Sprintf("unable to parse %q as a port", text), http.StatusBadRequest)
				return
			}
			ports = append(ports, int32(port))
		}
	}
	location, err := s.Host.GetPortForward(r.Request.Context(), pod, ports)
	s.proxyStream(w, r, location, err)
}

type streams struct{ stdin, stdout, stderr, tty bool }

// streamOptions reads the kubelet's own names, and those of the API.
func streamOptions(r *restful.Request) streams {
	query := r.Request.URL.Query()
	is := func(names ...string) bool {
		for _, name := range names {
			if v := query.Get(name); v == "1" || v == "true" {
				return true
			}
		}
		return false
	}
	return streams{stdin: is("input", "stdin"), stdout: is("output", "stdout"), stderr: is("error", "stderr"), tty: is("tty")}
}

// proxyStream upgrades both connections and copies.
func (s *Server) proxyStream(w *restful.Response, r *restful.Request, location string, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	target, err := url.Parse(location)
	if err != nil {
		fail(w, fmt.Errorf("the runtime's streaming URL %q: %w", location, err))
		return
	}
	handler := proxy.NewUpgradeAwareHandler(target, nil, false, true, responder{})
	handler.ServeHTTP(w.ResponseWriter, r.Request.WithContext(component.Demoted(r.Request.Context())))
}

type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) { fail(w, err) }

// getContainerLogs serves `kubectl logs`.
func (s *Server) getContainerLogs(r *restful.Request, w *restful.Response) {
	options, err := logOptions(r.Request.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, err := s.pod(r)
	if err != nil {
		fail(w, err)
		return
	}
	container := r.PathParameter("containerName")
	flusher, ok := w.ResponseWriter.(http.Flusher)
	if !ok {
		http.Error(w, "streaming is not supported", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Transfer-Encoding", "chunked")
	out := &flushWriter{w: w.ResponseWriter, flusher: flusher, follow: options.Follow}
	if options.Follow {
		w.Header().Set("Content-Type", "text/plain")
		flusher.Flush()
		out.wrote = true
	}
	if err := s.Host.GetKubeletContainerLogs(r.Request.Context(), pod, container, options, logs.Streams{Stdout: out, Stderr: out}); err != nil && !out.wrote {
		if _, ok := err.(apierrors.APIStatus); !ok {
			err = apierrors.NewBadRequest(err.Error())
		}
		w.Header().Del("Transfer-Encoding")
		fail(w, err)
	} else if err != nil {
		fmt.Fprintln(out, err) // the answer has begun: the reader is told in its text
	}
}

// flushWriter sends each line on its way when somebody waits for it.
type flushWriter struct {
	w       io.Writer
	flusher http.Flusher
	follow  bool
	wrote   bool
}

func (f *flushWriter) Write(data []byte) (int, error) {
	f.wrote = true
	n, err := f.w.Write(data)
	if f.follow {
		f.flusher.Flush()
	}
	return n, err
}

// logOptions reads v1.PodLogOptions from a query.
func logOptions(query url.Values) (*v1.PodLogOptions, error) {
	o := &v1.PodLogOptions{}
	var err error
	boolean := func(name string) bool {
		if text := query.Get(name); text != "" && err == nil {
			var value bool
			if value, err = strconv.ParseBool(text); err != nil {
				err = fmt.Errorf("invalid %s: %q", name, text)
			}
			return value
		}
		return false
	}
	number := func(name string) *int64 {
		text := query.Get(name)
		if text == "" || err != nil {
			return nil
		}
		value, parseErr := strconv.ParseInt(text, 10, 64)
		if parseErr != nil || value < 0 {
			err = fmt.Errorf("invalid %s: %q", name, text)
			return nil
		}
		return &value
	}
	o.Follow, o.Previous, o.Timestamps = boolean("follow"), boolean("previous"), boolean("timestamps")
	o.TailLines, o.SinceSeconds, o.LimitBytes = number("tailLines"), number("sinceSeconds"), number("limitBytes")
	if text := query.Get("sinceTime"); text != "" {
		since := metav1.Time{}
		if parseErr := since.UnmarshalQueryParameter(text); parseErr != nil {
			return nil, fmt.Errorf("invalid sinceTime: %q", text)
		}
		o.SinceTime = &since
	}
	if text := query.Get("stream"); text != "" {
		o.Stream = &text
	}
	return o, err
}
