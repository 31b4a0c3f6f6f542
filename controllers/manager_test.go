package controllers

import (
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
)

// "*", names and "-name", ours and upstream's (S1-12).
func TestSelectControllers(t *testing.T) {
	all := len(table)
	for _, test := range []struct {
		selection string
		on        int
		wantErr   string
	}{
		{"", all, ""}, {"*", all, ""}, {"*,-podgc", all - 1, ""}, {"-podgc,*", all - 1, ""},
		{"deployment,replicaset-controller", 2, ""}, {"*,-node-lifecycle-controller", all - 1, ""},
		{"-podgc", 0, ""}, {"deploymint", 0, `"deploymint" is not a controller; there are: deployment, replicaset`},
	} {
		var words []string
		if test.selection != "" {
			words = strings.Split(test.selection, ",")
		}
		selected, err := selectControllers(words)
		if test.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%q: error %v, want %q", test.selection, err, test.wantErr)
			}
			continue
		}
		on := 0
		for _, enabled := range selected {
			if enabled {
				on++
			}
		}
		if err != nil || on != test.on {
			t.Errorf("%q: %d on, error %v; want %d", test.selection, on, err, test.on)
		}
	}
}

// The table names each controller once, and says what it needs.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range table {
		if seen[e.name] || seen[e.upstream] || e.what == "" || e.build == nil || e.needs.Resource == "" {
			t.Errorf("line of %q is a second one, or lacks something", e.name)
		}
		seen[e.name], seen[e.upstream] = true, true
	}
}

func TestConfigIsValidated(t *testing.T) {
	good := func() Config { return Config{Client: fake.NewClientset(), RESTConfig: &rest.Config{}} }
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"whole":              {func(*Config) {}, ""},
		"without client":     {func(c *Config) { c.Client = nil }, "Client and RESTConfig"},
		"without identity":   {func(c *Config) { c.LeaderElect = true }, "identity"},
		"with a short lease": {func(c *Config) { c.LeaderElect, c.Identity, c.LeaseDuration = true, "me", time.Second }, "must decrease"},
		"with a misspelling": {func(c *Config) { c.Controllers = []string{"x"} }, "is not a controller"},
	} {
		config := good()
		test.change(&config)
		m, err := New(config)
		if test.want == "" {
			if err != nil || len(m.Status()) != len(table) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}
