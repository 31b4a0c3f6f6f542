package connect

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"hyperkube/apiserver/registry"
)

// maxErrorBody is how much of a kubelet's complaint is passed on.
const maxErrorBody = 50000

// log streams a container's log.
func (c *connector) log(namespace, name, _ string, w http.ResponseWriter, r *http.Request) error {
	opts, ok := registry.ConnectOptionsFrom(r.Context()).(*corev1.PodLogOptions)
	if !ok {
		return apierrors.NewBadRequest("invalid options of log")
	}
	if errs := validatePodLogOptions(opts); len(errs) > 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), name, errs)
	}
	pod, err := c.pods.Get(namespace, name)
	if err != nil {
		return err
	}
	container, err := validateContainer(opts.Container, pod)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		w.WriteHeader(http.StatusOK) // not placed yet: an empty log, not an error
		return nil
	}
	location, err := c.locationOf(pod)
	if err != nil {
		return err
	}
	location.Path = fmt.Sprintf("/containerLogs/%s/%s/%s", pod.Namespace, pod.Name, container)
	location.RawQuery = logQuery(opts).Encode()
	body, contentType, err := c.openLog(r.Context(), location, opts.InsecureSkipTLSVerifyBackend)
	if err != nil {
		return err
	}
	defer body.Close()
	if wsstream.IsWebSocketRequest(r) {
		// The buffer (larger than wsstream's) parts the last bytes from the end: wsstream drops bytes that come together with io.EOF,
		// as all of a short log does.
		return wsstream.NewReader(bufio.NewReader(body), true, wsstream.NewDefaultReaderProtocols()).Copy(unwrap(w), r)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	copyFlushed(w, body)
	return nil
}

// openLog asks the kubelet. Its refusals become statuses of ours.
func (c *connector) openLog(ctx context.Context, location *url.URL, insecure bool) (io.ReadCloser, string, error) {
	transport, err := c.kubelet.transport(insecure)
	if err != nil {
		return nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, "", apierrors.NewInternalError(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, "", apierrors.NewInternalError(fmt.Errorf("Get %q: %w", location, err))
	}
	if resp.StatusCode >= http.StatusOK && resp.StatusCode <= http.StatusPartialContent {
		contentType := resp.Header.Get("Content-Type")
		if contentType == "" {
			contentType = "text/plain"
		}
		return resp.Body, contentType, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	switch resp.StatusCode {
	case http.StatusInternalServerError:
		return nil, "", apierrors.NewInternalError(fmt.Errorf("%s", text))
	case http.StatusBadRequest:
		return nil, "", apierrors.NewBadRequest(string(text))
	}
	return nil, "", apierrors.NewGenericServerResponse(resp.StatusCode, "", schema.GroupResource{Resource: "pods/log"}, "", string(text), 0, false)
}

func logQuery(opts *corev1.PodLogOptions) url.Values {
	q := url.Values{}
	for name, on := range map[string]bool{"follow": opts.Follow, "previous": opts.Previous, "timestamps": opts.Timestamps} {
		if on {
			q.Set(name, "true")
		}
	}
	for name, number := range map[string]*int64{"sinceSeconds": opts.SinceSeconds, "tailLines": opts.TailLines, "limitBytes": opts.LimitBytes} {
		if number != nil {
			q.Set(name, strconv.FormatInt(*number, 10))
		}
	}
	if opts.SinceTime != nil {
		q.Set("sinceTime", opts.SinceTime.Format(time.RFC3339))
	}
	if opts.Stream != nil {
		q.Set("stream", *opts.Stream)
	}
	return q
}

// validatePodLogOptions checks the numbers before a kubelet is troubled.
func validatePodLogOptions(opts *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if n := opts.TailLines; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *n, "must be greater than or equal to 0"))
	}
	if n := opts.LimitBytes; n != nil && *n < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *n, "must be greater than 0"))
	}
	switch {
	case opts.SinceSeconds != nil && opts.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case opts.SinceSeconds != nil && *opts.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *opts.SinceSeconds, "must be greater than 0"))
	}
	if opts.Stream != nil {
		switch *opts.Stream {
		case corev1.LogStreamAll:
		case corev1.LogStreamStdout, corev1.LogStreamStderr:
			if opts.TailLines != nil {
				errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
			}
		default:
			errs = append(errs, field.NotSupported(field.NewPath("stream"), *opts.Stream, []string{corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr}))
		}
	}
	return errs
}

// copyFlushed passes each piece on as it comes: who follows a log wants the line now. An error means that one
// end has gone; the status is long sent.
func copyFlushed(w http.ResponseWriter, body io.Reader) {
	control := http.NewResponseController(w)
	_ = control.Flush()
	buffer := make([]byte, 32*1024)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, writeErr := w.Write(buffer[:n]); writeErr != nil {
				return
			}
			_ = control.Flush()
		}
		if err != nil {
			return
		}
	}
}
