package endpoints

import (
	"net/http/httptest"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The first thing in Accept that can be done is done; kubectl's list of Table forms is one such header.
func TestNegotiate(t *testing.T) {
	for accept, want := range map[string]string{
		"":                 "application/json",
		"*/*":              "application/json",
		"application/json": "application/json",
		"application/yaml": "application/yaml",
		"application/vnd.kubernetes.protobuf,application/json":                                                            "application/vnd.kubernetes.protobuf",
		"application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json": "application/json Table",
		"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io":    "application/json Table",
		"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json":                                   "application/json", // not offered here
		"application/json;as=Unknown;v=v1;g=meta.k8s.io,application/json":                                                 "application/json",
		"application/json;q=0.5,application/yaml":                                                                         "application/yaml",
		"text/html": "406",
		"application/json;as=Table;v=v2;g=meta.k8s.io": "406",
	} {
		r := httptest.NewRequest("GET", "/api/v1/pods", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		f, err := negotiate(r, "Table", "PartialObjectMetadataList")
		got := f.media
		if f.as != "" {
			got += " " + f.as
		}
		if err != nil {
			got = "406"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
}

// Options that contradict each other are refused (KEP-2523, KEP-3157).
func TestValidateListOptions(t *testing.T) {
	yes, exact, newer := true, metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan
	for name, test := range map[string]struct {
		options metav1.ListOptions
		valid   bool
	}{
		"none":                             {metav1.ListOptions{}, true},
		"exact":                            {metav1.ListOptions{ResourceVersion: "5", ResourceVersionMatch: exact}, true},
		"match without a version":          {metav1.ListOptions{ResourceVersionMatch: exact}, false},
		"exactly 0":                        {metav1.ListOptions{ResourceVersion: "0", ResourceVersionMatch: exact}, false},
		"match with continue":              {metav1.ListOptions{ResourceVersion: "5", ResourceVersionMatch: exact, Continue: "x"}, false},
		"unknown match":                    {metav1.ListOptions{ResourceVersion: "5", ResourceVersionMatch: "x"}, false},
		"watch with a match":               {metav1.ListOptions{Watch: true, ResourceVersion: "5", ResourceVersionMatch: newer}, false},
		"streaming list":                   {metav1.ListOptions{Watch: true, SendInitialEvents: &yes, ResourceVersionMatch: newer}, true},
		"streaming list without its match": {metav1.ListOptions{Watch: true, SendInitialEvents: &yes}, false},
		"initial events of a list":         {metav1.ListOptions{SendInitialEvents: &yes}, false},
	} {
		if errs := validateListOptions(&test.options); (len(errs) == 0) != test.valid {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

// The owner of fields is the client's name when it names no field manager.
func TestManager(t *testing.T) {
	r := httptest.NewRequest("POST", "/", nil)
	for agent, want := range map[string]string{"kubectl/v1.32 (linux)": "kubectl", "": "unknown", "x\x01y": "xy"} {
		r.Header.Set("User-Agent", agent)
		if got := manager("", r); got != want {
			t.Errorf("%q: %q, want %q", agent, got, want)
		}
	}
	if got := manager("named", r); got != "named" {
		t.Errorf("%q", got)
	}
}
