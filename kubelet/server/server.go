// Package server is the kubelet's own HTTPS server: what `kubectl logs`, `exec`,
// `attach`, `port-forward` and `top` reach through the apiserver.
//
//	apiserver ─TLS─► authenticate (client certificate, token) ─► authorize ─► route
//	    /containerLogs ─► the CRI log file
//	    /exec /attach /portForward ─► ask the runtime for a URL, then pass the bytes
//	    /pods /runningpods /stats/summary /metrics /configz /healthz ─► answers
//
// Invariant: nothing but /healthz is answered to who is not known and allowed:
// this port can run commands in any container of the node.
//
// In Kubernetes: pkg/kubelet/server. Left out: cAdvisor itself (the runtime measures), checkpoints,
// and translating a v5 WebSocket into SPDY here: the apiserver does that, and
// passes SPDY on.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/emicklei/go-restful/v3"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"hyperkube/component"
	"hyperkube/kubelet/logs"
)

// HostInterface is what the server asks of the kubelet (S0-22). Its implementer
// is Kubelet, in `kubelet/kubelet_server.go`.
type HostInterface interface {
	// GetPods are the pods that should run here; GetRunningPods those that do.
	GetPods() []*v1.Pod
	GetRunningPods(ctx context.Context) ([]*v1.Pod, error)
	GetPodByName(namespace, name string) (*v1.Pod, bool)
	// GetKubeletContainerLogs writes a container's log.
	GetKubeletContainerLogs(ctx context.Context, pod *v1.Pod, container string, options *v1.PodLogOptions, to logs.Streams) error
	// RunInContainer runs a command and returns what it wrote.
	RunInContainer(ctx context.Context, pod *v1.Pod, container string, command []string) ([]byte, error)
	// GetExec, GetAttach and GetPortForward return a URL of the runtime's streaming server.
	GetExec(ctx context.Context, pod *v1.Pod, container string, request *runtimeapi.ExecRequest) (string, error)
	GetAttach(ctx context.Context, pod *v1.Pod, container string, request *runtimeapi.AttachRequest) (string, error)
	GetPortForward(ctx context.Context, pod *v1.Pod, ports []int32) (string, error)
	Summary(ctx context.Context) (*statsapi.Summary, error)
	// Configz is the kubelet's configuration, for reading.
	Configz() any
	Metrics() http.Handler
	// ResourceMetrics, CadvisorMetrics and ProbeMetrics are what scrapers ask for.
	ResourceMetrics() http.Handler
	CadvisorMetrics() http.Handler
	ProbeMetrics() http.Handler
	// SyncLoopHealthy tells whether the loop turns.
	SyncLoopHealthy() error
}

// Access is how callers are known and what they may do, where that is not as usual: known by a certificate or a token that
// the apiserver vouches for, and allowed what it allows them.
type Access struct {
	// Anonymous lets those in who show nothing, as system:anonymous: what they may do is for the authorizer to say.
	Anonymous bool
	// NoTokens: tokens are not reviewed, certificates alone count.
	NoTokens bool
	// AlwaysAllow lets everybody who is known do everything.
	AlwaysAllow bool
	// The times for which an answer of the apiserver is believed: who it is (default one minute), that it may (one minute),
	// that it may not (ten seconds).
	TokenTTL, AllowedTTL, DeniedTTL time.Duration
}

// Config of the server.
type Config struct {
	Address string // empty: all
	Port    int    // 0: any
	// CertFile and KeyFile are read at each handshake's turn, so that renewed ones are used.
	CertFile, KeyFile string
	// GetCertificate, if given, takes their place.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// MinVersion and CipherSuites of TLS; default 1.2, and Go's choice.
	MinVersion     uint16
	CipherSuites   []uint16
	ClientCAFile   string
	AllowAnonymous bool
	Access         Access
	// Client reviews tokens and access; nil: certificates only, and system:masters only.
	Client kubernetes.Interface
	Host   HostInterface
	// LogsDir is served at /logs/.
	LogsDir  string
	NodeName string
}

// Server is the kubelet's server.
type Server struct {
	Config
	auth     *auth
	listener net.Listener
	http     *http.Server
}

// New listens; Serve answers.
func New(ctx context.Context, cfg Config) (*Server, error) {
	address := net.JoinHostPort(cfg.Address, strconv.Itoa(cfg.Port))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serving: %w (--port)", component.ListenError(address, err))
	}
	s := &Server{Config: cfg, listener: listener}
	tlsConfig, err := s.tlsConfig()
	if err != nil {
		listener.Close()
		return nil, err
	}
	s.auth = newAuth(cfg)
	logger := klog.FromContext(ctx)
	s.http = &http.Server{
		Handler: s.auth.protect(s.routes()), TLSConfig: tlsConfig, ReadHeaderTimeout: 30 * time.Second,
		BaseContext: func(net.Listener) context.Context { return klog.NewContext(ctx, logger) },
		ErrorLog:    quiet(logger),
		// HTTP/2 cannot be upgraded, and all that matters here is upgraded.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	return s, nil
}

// Port is where the server listens.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.ServeTLS(s.listener, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
		klog.FromContext(ctx).Error(err, "The kubelet's server ended")
	}
}

func (s *Server) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: cmp.Or(s.MinVersion, tls.VersionTLS12), CipherSuites: s.CipherSuites, ClientAuth: tls.RequestClientCert}
	if s.GetCertificate != nil {
		config.GetCertificate = s.GetCertificate
		return config, nil
	}
	if s.CertFile == "" {
		certificate, err := selfSigned(s.NodeName)
		if err != nil {
			return nil, fmt.Errorf("making a serving certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
		return config, nil
	}
	if _, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile); err != nil {
		return nil, fmt.Errorf("the kubelet's serving certificate: %w", err)
	}
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		return &certificate, err
	}
	return config, nil
}

func loadCAs(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// routes is the table of all paths.
func (s *Server) routes() http.Handler {
	container := restful.NewContainer()
	container.DoNotRecover(true)
	container.Router(restful.CurlyRouter{})
	ws := new(restful.WebService)
	ws.Path("/")
	get := func(path string, handle restful.RouteFunction) { ws.Route(ws.GET(path).To(handle)) }
	both := func(path string, handle restful.RouteFunction) {
		ws.Route(ws.GET(path).To(handle))
		ws.Route(ws.POST(path).To(handle))
	}
	for _, path := range []string{"/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop", "/livez", "/readyz"} {
		get(path, s.healthz)
	}
	get("/pods", s.getPods)
	get("/runningpods", s.getRunningPods)
	get("/containerLogs/{podNamespace}/{podID}/{containerName}", s.getContainerLogs)
	both("/exec/{podNamespace}/{podID}/{containerName}", s.exec)
	both("/exec/{podNamespace}/{podID}/{uid}/{containerName}", s.exec)
	both("/attach/{podNamespace}/{podID}/{containerName}", s.attach)
	both("/attach/{podNamespace}/{podID}/{uid}/{containerName}", s.attach)
	both("/portForward/{podNamespace}/{podID}", s.portForward)
	both("/portForward/{podNamespace}/{podID}/{uid}", s.portForward)
	ws.Route(ws.POST("/run/{podNamespace}/{podID}/{containerName}").To(s.run))
	ws.Route(ws.POST("/run/{podNamespace}/{podID}/{uid}/{containerName}").To(s.run))
	get("/stats/summary", s.summary)
	get("/configz", s.configz)
	for path, handler := range map[string]func() http.Handler{"/metrics": s.Host.Metrics, "/metrics/resource": s.Host.ResourceMetrics, "/metrics/cadvisor": s.Host.CadvisorMetrics, "/metrics/probes": s.Host.ProbeMetrics} {
		get(path, func(r *restful.Request, w *restful.Response) { handler().ServeHTTP(w, r.Request) })
	}
	ws.Route(ws.POST("/checkpoint/{podNamespace}/{podID}/{containerName}").To(s.checkpoint))
	logs := http.StripPrefix("/logs/", http.FileServer(http.Dir(s.LogsDir)))
	get("/logs/", func(r *restful.Request, w *restful.Response) { logs.ServeHTTP(w, r.Request) })
	get("/logs/{path:*}", func(r *restful.Request, w *restful.Response) { logs.ServeHTTP(w, r.Request) })
	container.Add(ws)
	return trimSlash(container)
}

// trimSlash lets /pods/ mean /pods: both are in use.
func trimSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) > 1 && !strings.HasPrefix(r.URL.Path, "/logs/") {
			r.URL.Path = strings.TrimSuffix(r.URL.Path, "/")
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) healthz(r *restful.Request, w *restful.Response) {
	if err := s.Host.SyncLoopHealthy(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, "ok")
}

func (s *Server) getPods(r *restful.Request, w *restful.Response) {
	writePods(w, s.Host.GetPods())
}

func (s *Server) getRunningPods(r *restful.Request, w *restful.Response) {
	pods, err := s.Host.GetRunningPods(r.Request.Context())
	if err != nil {
		fail(w, err)
		return
	}
	writePods(w, pods)
}

func writePods(w http.ResponseWriter, pods []*v1.Pod) {
	list := v1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []v1.Pod{}}
	for _, pod := range pods {
		list.Items = append(list.Items, *pod)
	}
	writeJSON(w, list)
}

func writeJSON(w http.ResponseWriter, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

func (s *Server) summary(r *restful.Request, w *restful.Response) {
	summary, err := s.Host.Summary(r.Request.Context())
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, summary)
}

func (s *Server) configz(r *restful.Request, w *restful.Response) {
	writeJSON(w, map[string]any{"kubeletconfig": s.Host.Configz()})
}

func (s *Server) run(r *restful.Request, w *restful.Response) {
	pod, err := s.pod(r)
	if err != nil {
		fail(w, err)
		return
	}
	command := strings.Fields(r.QueryParameter("cmd"))
	output, err := s.Host.RunInContainer(r.Request.Context(), pod, r.PathParameter("containerName"), command)
	if err != nil {
		fail(w, err)
		return
	}
	_, _ = w.Write(output)
}

// checkpoint is what upstream answers with its gate ContainerCheckpoint off.
func (s *Server) checkpoint(_ *restful.Request, w *restful.Response) {
	http.Error(w, "404: Page Not Found: containers cannot be checkpointed: the runtime cannot freeze processes to disk", http.StatusNotFound)
}

// pod finds the pod that a path names.
func (s *Server) pod(r *restful.Request) (*v1.Pod, error) {
	namespace, name, uid := r.PathParameter("podNamespace"), r.PathParameter("podID"), r.PathParameter("uid")
	pod, ok := s.Host.GetPodByName(namespace, name)
	if !ok || uid != "" && pod.UID != types.UID(uid) && pod.Annotations[v1.MirrorPodAnnotationKey] == "" {
		return nil, apierrors.NewNotFound(v1.Resource("pods"), name)
	}
	return pod, nil
}

// fail answers with the error's own code.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code != 0 {
		code = int(status.Status().Code)
	}
	http.Error(w, err.Error(), code)
}
