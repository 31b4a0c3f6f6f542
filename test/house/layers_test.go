package house

import (
	"slices"
	"strings"
	"testing"
)

// The house, from the ground up (docs/architecture.md draws it):
//
//	cmd/hyperkube                                             knows them all
//	scheduler controllers kubelet cri proxy dns addons apiserver etcd
//	                                                          never import each other
//	component pki client reconcile api flow                   the ground floor
var (
	ground     = []string{"component", "pki", "client", "reconcile", "api", "flow"}
	components = []string{"scheduler", "controllers", "kubelet", "cri", "proxy", "dns", "addons", "apiserver", "etcd"}
)

// apiFriends are the modules from which api/ may import: it must stay true
// whoever asks, the apiserver or a kubelet that has none.
var apiFriends = []string{"k8s.io/", "sigs.k8s.io/", "hyperkube/api"}

// onlyImporter names packages that exactly one room may import (S0-02, R30).
var onlyImporter = map[string][]string{
	"go.etcd.io/etcd/client/v3":              {"apiserver/storage", "cmd/hyperkube", "etcd"},
	"go.etcd.io/etcd/server/v3":              {"etcd"},
	"github.com/google/go-containerregistry": {"cri"},
	"k8s.io/kubectl":                         {"cmd/hyperkube"},
	"github.com/miekg/dns":                   {"dns"},
}

// forbidden are upstream's bodies: what we are here to write.
var forbidden = []string{
	"k8s.io/kubernetes", "k8s.io/apiserver/pkg/server", "k8s.io/apiserver/pkg/endpoints", "k8s.io/apiserver/pkg/registry",
	"k8s.io/apiserver/pkg/storage", "k8s.io/apiserver/pkg/admission", "k8s.io/controller-manager", "k8s.io/cloud-provider",
}

// Small programs without Kubernetes packages, without net/http and TLS where that costs memory.
var small = map[string][]string{
	"cmd/podparent": {"k8s.io/", "sigs.k8s.io/", "google.golang.org/", "net/http", "crypto/tls"},
	"cri/podparent": {"k8s.io/", "sigs.k8s.io/", "google.golang.org/", "net/http", "crypto/tls"},
	"cmd/box":       {"k8s.io/", "sigs.k8s.io/", "google.golang.org/"},
}

// TestLayers holds DESIGN's three rules of who may import whom.
func TestLayers(t *testing.T) {
	for _, s := range load(t) {
		if s.test {
			continue // a test may build what it needs around its room
		}
		for _, imported := range s.imports() {
			if reason := broken(s.dir(), imported); reason != "" {
				t.Errorf("%s imports %s: %s", s.path, imported, reason)
			}
		}
	}
}

// broken says which rule an import from a folder breaks; "" = none.
func broken(dir, imported string) string {
	from, _, _ := strings.Cut(dir, "/")
	for _, path := range forbidden {
		if within(imported, path) {
			return "upstream's body is what we write ourselves"
		}
	}
	for path, importers := range onlyImporter {
		if within(imported, path) && !slices.ContainsFunc(importers, func(i string) bool { return within(dir, i) }) {
			return "only " + strings.Join(importers, ", ") + " may"
		}
	}
	if imported == "k8s.io/client-go/informers" && !within(dir, "docs/labs") {
		return "it names every kind: 4 MiB of the binary and 17 of memory; take the factory of hyperkube/client/informers"
	}
	for program, never := range small {
		if within(dir, program) && slices.ContainsFunc(never, func(p string) bool { return strings.HasPrefix(imported, p) }) {
			return program + " must stay small"
		}
	}
	if from == "api" && strings.Contains(imported, ".") && !slices.ContainsFunc(apiFriends, func(p string) bool { return strings.HasPrefix(imported, p) }) {
		return "api/ imports k8s.io modules and itself only"
	}
	ours, isOurs := strings.CutPrefix(imported, "hyperkube/")
	if !isOurs {
		return ""
	}
	to, _, _ := strings.Cut(ours, "/")
	switch {
	case slices.Contains(ground, from) && slices.Contains(components, to):
		return "the ground floor knows no component"
	case slices.Contains(components, from) && slices.Contains(components, to) && from != to:
		return "components meet at run time only"
	case to == "cmd" && from != "cmd":
		return "nothing imports a command"
	case to == "test" && from != "test":
		return "only tests import test"
	}
	return ""
}

func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// TestLayersCatch proves that the rules above can fail.
func TestLayersCatch(t *testing.T) {
	for _, test := range []struct{ dir, imported string }{
		{"kubelet/status", "hyperkube/apiserver"},
		{"client", "hyperkube/scheduler/queue"},
		{"scheduler", "go.etcd.io/etcd/client/v3"},
		{"controllers", "k8s.io/kubernetes/pkg/controller"},
		{"cri/podparent", "k8s.io/api/core/v1"},
		{"api/core/pod", "github.com/spf13/pflag"},
		{"kubelet", "k8s.io/client-go/informers"},
	} {
		if broken(test.dir, test.imported) == "" {
			t.Errorf("%s may import %s", test.dir, test.imported)
		}
	}
	for _, test := range []struct{ dir, imported string }{
		{"kubelet", "hyperkube/api/core/pod"}, {"cmd/hyperkube", "hyperkube/kubelet"}, {"apiserver/storage", "go.etcd.io/etcd/client/v3"},
	} {
		if reason := broken(test.dir, test.imported); reason != "" {
			t.Errorf("%s may not import %s: %s", test.dir, test.imported, reason)
		}
	}
}
