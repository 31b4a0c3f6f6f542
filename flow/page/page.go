package page

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
)

//go:embed assets
var assets embed.FS

// Component is one part of the cluster as the page shows it.
type Component struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Message string `json:"message,omitempty"`
	Address string `json:"address,omitempty"`
}

// Rule is one of the rules of a Service.
type Rule struct{ Chain, Text string }

// Config is what a Server needs.
type Config struct {
	// Listener is where it serves: an address of loopback.
	Listener net.Listener
	// Token opens the page; NewToken makes one.
	Token string
	// Client speaks with the apiserver.
	Client kubernetes.Interface
	// Cluster is the cluster's name, shown at the top.
	Cluster string
	// Source returns the Go files of this binary by their path.
	Source func() (map[string][]byte, error)
	// Components returns who runs, and how it is.
	Components func(ctx context.Context) []Component
	// Rules returns the rules of a Service on this node, in the order in which a packet meets
	// them; nil: there is no proxy of ours.
	Rules func(ctx context.Context, namespace, name string) ([]Rule, error)
	// Why explains the state of an object in text; nil: the page does not offer it.
	Why func(ctx context.Context, kind, namespace, name string) (string, error)
}

func (c Config) validate() error {
	address, ok := c.Listener.Addr().(*net.TCPAddr)
	switch {
	case !ok || !address.IP.IsLoopback():
		return fmt.Errorf("the page serves on loopback only, not on %v", c.Listener.Addr())
	case len(c.Token) < tokenLength:
		return errors.New("a token of 128 bits is needed")
	}
	return nil
}

// Server serves the live page of one cluster.
type Server struct {
	config Config
	port   int
	source source
}

// New makes a server; it serves in Run.
func New(c Config) (*Server, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Server{config: c, port: c.Listener.Addr().(*net.TCPAddr).Port, source: source{read: c.Source}}, nil
}

// Address is the page's own, without the token.
func (s *Server) Address() string { return fmt.Sprintf("http://127.0.0.1:%d", s.port) }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.config.Listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	err := server.Close() // streams would otherwise go on as long as somebody looks
	<-ended
	return err
}

// Handler serves the page and what it asks for, behind the guard.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic("page: no assets in the binary: " + err.Error())
	}
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /api/cluster", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"name": s.config.Cluster, "why": s.config.Why != nil})
	})
	mux.HandleFunc("GET /api/components", func(w http.ResponseWriter, r *http.Request) { answer(w, s.config.Components(r.Context())) })
	mux.HandleFunc("GET /api/stream", s.serveStream)
	mux.HandleFunc("GET /api/objects", s.serveObjects)
	mux.HandleFunc("GET /api/source", s.serveSource)
	mux.HandleFunc("GET /api/why", s.serveWhy)
	s.pass(mux, "GET", "entry", "id")
	s.pass(mux, "GET", "trace", "group", "kind", "namespace", "name", "since")
	s.pass(mux, "GET", "gates")
	s.pass(mux, "POST", "gates", gateParameters...)
	s.pass(mux, "POST", "gates/one", gateParameters...)
	s.pass(mux, "POST", "gates/continue", gateParameters...)
	return s.guard(mux)
}

var gateParameters = []string{"component", "resource", "controller"}

// pass offers one path of the apiserver below /debug/flow/, with these parameters.
func (s *Server) pass(mux *http.ServeMux, method, path string, parameters ...string) {
	mux.HandleFunc(method+" /api/"+path, func(w http.ResponseWriter, r *http.Request) {
		query := url.Values{}
		for _, name := range parameters {
			if value := r.URL.Query().Get(name); value != "" {
				query.Set(name, value)
			}
		}
		request := s.config.Client.CoreV1().RESTClient().Verb(method).AbsPath("/debug/flow/" + path)
		for name := range query {
			request.Param(name, query.Get(name))
		}
		data, err := request.Do(r.Context()).Raw()
		if err != nil {
			refuse(w, err, data)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
	})
}

// serveStream hands the apiserver's stream on, as it comes.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	body, err := s.config.Client.CoreV1().RESTClient().Get().AbsPath("/debug/flow/stream").
		Param("since", r.URL.Query().Get("since")).Stream(r.Context())
	if err != nil {
		refuse(w, err, nil)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := body.Read(buffer)
		if _, writeErr := w.Write(buffer[:n]); writeErr != nil || out.Flush() != nil || err != nil {
			return // the page opens it anew, from where it was
		}
	}
}

func (s *Server) serveWhy(w http.ResponseWriter, r *http.Request) {
	if s.config.Why == nil {
		http.Error(w, "not offered", http.StatusNotFound)
		return
	}
	query := r.URL.Query()
	text, err := s.config.Why(r.Context(), query.Get("kind"), query.Get("namespace"), query.Get("name"))
	if err != nil {
		refuse(w, err, nil)
		return
	}
	answer(w, map[string]any{"text": text})
}

func answer(w http.ResponseWriter, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		refuse(w, err, nil)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

// refuse says why something cannot be answered: as the apiserver said it, where it did.
func refuse(w http.ResponseWriter, err error, said []byte) {
	code, text := http.StatusBadGateway, err.Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code != 0 {
		code = int(status.Status().Code)
	}
	if len(said) > 0 {
		text = string(said)
	}
	http.Error(w, text, code)
}
