package images

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"sigs.k8s.io/yaml"
)

// Registries says where images really come from: mirrors, and what is special
// about a registry's host. The file has the shape of k3s' registries.yaml:
//
//	mirrors:
//	  docker.io:                       # or "*": all that are not named
//	    endpoint: ["https://mirror.example:5000"]
//	    rewrite: {"^library/(.*)": "hub/$1"}
//	configs:
//	  mirror.example:5000:
//	    auth: {username: u, password: p}
//	    tls: {ca_file: /etc/ca.pem, insecure_skip_verify: false}
//
// The endpoints are tried in order, and then the registry itself. An image keeps
// the name that was asked for, wherever it came from.
type Registries struct {
	Mirrors map[string]Mirror       `json:"mirrors"`
	Configs map[string]RegistryHost `json:"configs"`
}

// Mirror is where images of one registry may be had.
type Mirror struct {
	Endpoints []string          `json:"endpoint"`
	Rewrites  map[string]string `json:"rewrite"` // regular expression → replacement, of the repository's name
}

// RegistryHost is what is special about one host, be it a mirror or not.
type RegistryHost struct {
	Auth *RegistryAuth `json:"auth"`
	TLS  *RegistryTLS  `json:"tls"`
}

// RegistryAuth is used where the pod brings no credentials of its own.
type RegistryAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identity_token"`
}

// RegistryTLS is how a host is known, and how we are known to it.
type RegistryTLS struct {
	CAFile             string `json:"ca_file"`
	CertFile           string `json:"cert_file"`
	KeyFile            string `json:"key_file"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify"`
}

// LoadRegistries reads a file, and adds mirrors written as "HOST=URL", or only
// "URL" for docker.io. A file that is not there says nothing.
func LoadRegistries(path string, mirrors []string) (*Registries, error) {
	r := &Registries{}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := yaml.UnmarshalStrict(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, text := range mirrors {
		host, endpoint, named := strings.Cut(text, "=")
		if !named {
			host, endpoint = "docker.io", text
		}
		if r.Mirrors == nil {
			r.Mirrors = map[string]Mirror{}
		}
		mirror := r.Mirrors[host]
		mirror.Endpoints = append(slices.Clone(mirror.Endpoints), endpoint)
		r.Mirrors[host] = mirror
	}
	return r, r.validate()
}

func (r *Registries) validate() error {
	for host, mirror := range r.Mirrors {
		for _, endpoint := range mirror.Endpoints {
			if _, err := parseEndpoint(endpoint); err != nil {
				return fmt.Errorf("mirror of %s: %w", host, err)
			}
		}
		for pattern := range mirror.Rewrites {
			if _, err := regexp.Compile(pattern); err != nil {
				return fmt.Errorf("mirror of %s: rewrite: %w", host, err)
			}
		}
	}
	for host, config := range r.Configs {
		if _, err := config.tls(); err != nil {
			return fmt.Errorf("registry %s: %w", host, err)
		}
	}
	return nil
}

// parseEndpoint reads the address of a mirror. A path other than that of the
// registry API would not be asked for, so it is refused.
func parseEndpoint(text string) (*url.URL, error) {
	at, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if (at.Scheme != "http" && at.Scheme != "https") || at.Host == "" || strings.Trim(at.Path, "/") != "" && strings.Trim(at.Path, "/") != "v2" {
		return nil, fmt.Errorf("endpoint %q must be http(s)://HOST[:PORT]", text)
	}
	return at, nil
}

// place is one place to get an image from.
type place struct {
	ref       name.Reference
	auth      authn.AuthConfig
	transport http.RoundTripper
	mirror    string // the endpoint; empty for the registry itself
}

// places lists where to look for an image, in order: mirrors, then its registry,
// which alone is told the pod's credentials.
func (r *Registries) places(ref name.Reference, auth authn.AuthConfig) ([]place, error) {
	host := ref.Context().RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	mirror, named := r.Mirrors[host]
	if !named {
		mirror = r.Mirrors["*"]
	}
	var all []place
	for _, endpoint := range mirror.Endpoints {
		at, err := parseEndpoint(endpoint)
		if err != nil {
			return nil, err
		}
		p, err := r.placeAt(at, mirror.rewrite(ref.Context().RepositoryStr()), ref)
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w", endpoint, err)
		}
		all = append(all, p)
	}
	transport, err := r.transport(host)
	if err != nil {
		return nil, err
	}
	if auth == (authn.AuthConfig{}) {
		auth = r.auth(host)
	}
	return append(all, place{ref: ref, auth: auth, transport: transport}), nil
}

func (r *Registries) placeAt(at *url.URL, repository string, ref name.Reference) (place, error) {
	var options []name.Option
	if at.Scheme == "http" {
		options = append(options, name.Insecure)
	}
	separator := ":"
	if _, ok := ref.(name.Digest); ok {
		separator = "@"
	}
	there, err := name.ParseReference(at.Host+"/"+repository+separator+ref.Identifier(), options...)
	if err != nil {
		return place{}, err
	}
	transport, err := r.transport(at.Host)
	return place{ref: there, auth: r.auth(at.Host), transport: transport, mirror: at.Scheme + "://" + at.Host}, err
}

// rewrite applies the first rule that fits; the longest first, so that the order is one.
func (m *Mirror) rewrite(repository string) string {
	var patterns []string
	for pattern := range m.Rewrites {
		patterns = append(patterns, pattern)
	}
	slices.SortFunc(patterns, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, pattern := range patterns {
		if rule, err := regexp.Compile(pattern); err == nil && rule.MatchString(repository) {
			return rule.ReplaceAllString(repository, m.Rewrites[pattern])
		}
	}
	return repository
}

func (r *Registries) auth(host string) authn.AuthConfig {
	if a := r.Configs[host].Auth; a != nil {
		return authn.AuthConfig{Username: a.Username, Password: a.Password, Auth: a.Auth, IdentityToken: a.IdentityToken}
	}
	return authn.AuthConfig{}
}

func (r *Registries) transport(host string) (http.RoundTripper, error) {
	transport := registryTransport()
	config, err := r.Configs[host].tls()
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", host, err)
	}
	if config != nil {
		transport.TLSClientConfig = config
	}
	return transport, nil
}

// tls reads the files that are named; nil is the system's own way.
func (h RegistryHost) tls() (*tls.Config, error) {
	if h.TLS == nil {
		return nil, nil
	}
	config := &tls.Config{InsecureSkipVerify: h.TLS.InsecureSkipVerify}
	if h.TLS.CAFile != "" {
		data, err := os.ReadFile(h.TLS.CAFile)
		if err != nil {
			return nil, err
		}
		// Beside the system's: a mirror may send us on to the outside.
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no certificate", h.TLS.CAFile)
		}
	}
	if h.TLS.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(h.TLS.CertFile, h.TLS.KeyFile)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
