// Package connect is the subresources that are connections: pods/{log,exec,attach,portforward,proxy},
// nodes/proxy and services/proxy. The apiserver finds where to go and passes the bytes on.
//
//	kubectl ──► apiserver ──► kubelet (node address : port of its daemon endpoints) ──► CRI ──► container
//
//	log                    plain HTTP, streamed (log.go)
//	exec, attach           SPDY as it is; WebSocket v5 is translated to SPDY (streamtranslator.go)
//	portforward            SPDY as it is; SPDY tunnelled in WebSocket is unpacked (tunnel.go)
//	proxy                  HTTP of any method, and upgrades, to a pod, a node, an endpoint of a service (proxy.go)
//
// Kubelets speak SPDY and the older WebSocket protocols only; what kubectl prefers since 1.31 exists between
// it and the apiserver.
//
// In Kubernetes: pkg/registry/core/{pod,node,service} (strategy.go, rest/subresources.go), pkg/kubelet/client,
// k8s.io/apiserver/pkg/util/proxy.
package connect

import (
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"hyperkube/apiserver/authz"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
	"hyperkube/component"
)

// allMethods are what a proxied program may be asked with.
var allMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// Pod is the connections to pods: lines of the pods' subresources.
func Pod(env *registry.Env) map[string]registry.Subresource {
	c := newConnector(env)
	return map[string]registry.Subresource{
		"log": {
			Kind: corev1.SchemeGroupVersion.WithKind("Pod"), ConnectMethods: []string{http.MethodGet},
			ConnectOptions: func() runtime.Object { return &corev1.PodLogOptions{} }, Connect: c.log,
		},
		"exec": {
			Kind:           corev1.SchemeGroupVersion.WithKind("PodExecOptions"),
			ConnectOptions: func() runtime.Object { return &corev1.PodExecOptions{} }, Connect: c.exec,
		},
		"attach": {
			Kind:           corev1.SchemeGroupVersion.WithKind("PodAttachOptions"),
			ConnectOptions: func() runtime.Object { return &corev1.PodAttachOptions{} }, Connect: c.attach,
		},
		"portforward": {
			Kind:           corev1.SchemeGroupVersion.WithKind("PodPortForwardOptions"),
			ConnectOptions: func() runtime.Object { return &corev1.PodPortForwardOptions{} }, Connect: c.portForward,
		},
		"proxy": {
			Kind: corev1.SchemeGroupVersion.WithKind("PodProxyOptions"), ConnectMethods: allMethods, ConnectSubpath: true,
			ConnectOptions: func() runtime.Object { return &corev1.PodProxyOptions{} }, Connect: c.proxyPod,
		},
	}
}

// Node is the connections to nodes.
func Node(env *registry.Env) map[string]registry.Subresource {
	return map[string]registry.Subresource{"proxy": {
		Kind: corev1.SchemeGroupVersion.WithKind("NodeProxyOptions"), ConnectMethods: allMethods, ConnectSubpath: true,
		ConnectOptions: func() runtime.Object { return &corev1.NodeProxyOptions{} }, Connect: newConnector(env).proxyNode,
	}}
}

// Service is the connections to services.
func Service(env *registry.Env) map[string]registry.Subresource {
	return map[string]registry.Subresource{"proxy": {
		Kind: corev1.SchemeGroupVersion.WithKind("ServiceProxyOptions"), ConnectMethods: allMethods, ConnectSubpath: true,
		ConnectOptions: func() runtime.Object { return &corev1.ServiceProxyOptions{} }, Connect: newConnector(env).proxyService,
	}}
}

// connector finds pods and their kubelets.
type connector struct {
	env      *registry.Env
	pods     lister.Lister[*corev1.Pod]
	nodes    lister.Lister[*corev1.Node]
	services lister.Lister[*corev1.Service]
	kubelet  *kubeletClient
}

func newConnector(env *registry.Env) *connector {
	return &connector{
		env:      env,
		pods:     lister.Confirmed[*corev1.Pod](env, schema.GroupResource{Resource: "pods"}),
		nodes:    lister.Confirmed[*corev1.Node](env, schema.GroupResource{Resource: "nodes"}),
		services: lister.Confirmed[*corev1.Service](env, schema.GroupResource{Resource: "services"}),
		kubelet:  &kubeletClient{env: env},
	}
}

func (c *connector) exec(namespace, name, _ string, w http.ResponseWriter, r *http.Request) error {
	opts, ok := registry.ConnectOptionsFrom(r.Context()).(*corev1.PodExecOptions)
	if !ok {
		return apierrors.NewBadRequest("invalid options of exec")
	}
	streams := streamOptions{stdin: opts.Stdin, stdout: opts.Stdout, stderr: opts.Stderr, tty: opts.TTY}
	return c.stream(target{namespace, name, opts.Container, "/exec"}, streams, opts.Command, w, r)
}

func (c *connector) attach(namespace, name, _ string, w http.ResponseWriter, r *http.Request) error {
	opts, ok := registry.ConnectOptionsFrom(r.Context()).(*corev1.PodAttachOptions)
	if !ok {
		return apierrors.NewBadRequest("invalid options of attach")
	}
	streams := streamOptions{stdin: opts.Stdin, stdout: opts.Stdout, stderr: opts.Stderr, tty: opts.TTY}
	return c.stream(target{namespace, name, opts.Container, "/attach"}, streams, nil, w, r)
}

// target is a container, and what its kubelet is to be asked for.
type target struct {
	namespace, pod, container string
	path                      string
}

// streamOptions are the streams of exec and attach.
type streamOptions struct{ stdin, stdout, stderr, tty bool }

// query is how kubelets want to be told: not by the names the API has.
func (o streamOptions) query(command []string) url.Values {
	q := url.Values{}
	for name, on := range map[string]bool{
		corev1.ExecStdinParam: o.stdin, corev1.ExecStdoutParam: o.stdout, corev1.ExecStderrParam: o.stderr, corev1.ExecTTYParam: o.tty,
	} {
		if on {
			q.Set(name, "1")
		}
	}
	for _, word := range command {
		q.Add(corev1.ExecCommandParam, word)
	}
	return q
}

func (c *connector) stream(t target, streams streamOptions, command []string, w http.ResponseWriter, r *http.Request) error {
	if err := c.authorizeUpgrade(r); err != nil {
		return err
	}
	pod, err := c.pods.Get(t.namespace, t.pod)
	if err != nil {
		return err
	}
	container, err := validateContainer(t.container, pod)
	if err != nil {
		return err
	}
	location, err := c.locationOf(pod)
	if err != nil {
		return err
	}
	location.Path = fmt.Sprintf("%s/%s/%s/%s", t.path, pod.Namespace, pod.Name, container)
	location.RawQuery = streams.query(command).Encode()
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		return c.translateStreams(location, streams, w, r)
	}
	return c.passUpgrade(location, w, r)
}

func (c *connector) portForward(namespace, name, _ string, w http.ResponseWriter, r *http.Request) error {
	if err := c.authorizeUpgrade(r); err != nil {
		return err
	}
	pod, err := c.pods.Get(namespace, name)
	if err != nil {
		return err
	}
	location, err := c.locationOf(pod)
	if err != nil {
		return err
	}
	location.Path = fmt.Sprintf("/portForward/%s/%s", pod.Namespace, pod.Name)
	q := url.Values{}
	if opts, ok := registry.ConnectOptionsFrom(r.Context()).(*corev1.PodPortForwardOptions); ok {
		for _, port := range opts.Ports {
			q.Add(corev1.PortHeader, fmt.Sprint(port))
		}
	}
	location.RawQuery = q.Encode()
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		return c.tunnel(location, w, r)
	}
	return c.passUpgrade(location, w, r)
}

// authorizeUpgrade: a WebSocket starts with a GET, which RBAC takes for reading. Whoever
// starts a program in a pod must be allowed to "create", whatever the protocol.
func (c *connector) authorizeUpgrade(r *http.Request) error {
	ctx := r.Context()
	info := request.InfoFrom(ctx)
	if r.Method != http.MethodGet || info == nil {
		return nil
	}
	a := info.Attributes(request.UserFrom(ctx))
	a.Verb = "create"
	decision, reason, _ := c.env.Authorizer.Authorize(ctx, a)
	if decision != request.Allow {
		return authz.Forbidden(a, reason)
	}
	return nil
}

// passUpgrade connects both ends as they are.
func (c *connector) passUpgrade(location *url.URL, w http.ResponseWriter, r *http.Request) error {
	transport, err := c.kubelet.transport(false)
	if err != nil {
		return err
	}
	var failure errorCatcher
	handler := utilproxy.NewUpgradeAwareHandler(location, transport, false, true, &failure)
	handler.ServeHTTP(unwrap(w), r.WithContext(component.Demoted(r.Context())))
	return failure.err
}

// errorCatcher brings an error of the proxy handler back to the endpoint, which knows how to answer it.
type errorCatcher struct{ err error }

func (e *errorCatcher) Error(_ http.ResponseWriter, _ *http.Request, err error) {
	if _, ok := err.(apierrors.APIStatus); !ok {
		err = apierrors.NewInternalError(err)
	}
	e.err = err
}

// unwrap finds the writer that can hand over its connection.
func unwrap(w http.ResponseWriter) http.ResponseWriter {
	for inner := w; ; {
		if _, ok := inner.(http.Hijacker); ok {
			return inner
		}
		u, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		inner = u.Unwrap()
	}
}
