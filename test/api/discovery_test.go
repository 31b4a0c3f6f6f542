// Package api_test compares what the apiserver serves and makes at its start with tables of facts about
// kube-apiserver: discovery, and the objects of flow control and of priority.
package api_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/test/integration"
)

// differences from upstream's v1.36 discovery, each with its reason. "-": upstream has it, and we do not. "+": we have it, and
// v1.36 did not.
var differences = map[string]string{
	"-apiextensions.k8s.io/v1 customresourcedefinitions":          "extension is a part of its own, still to come",
	"-apiextensions.k8s.io/v1 customresourcedefinitions/status":   "as above",
	"-apiregistration.k8s.io/v1 apiservices":                      "as above",
	"-apiregistration.k8s.io/v1 apiservices/status":               "as above",
	"+certificates.k8s.io/v1 clustertrustbundles":                 "new in 1.37: GA, and so served by default",
	"+certificates.k8s.io/v1 podcertificaterequests":              "as above",
	"+certificates.k8s.io/v1 podcertificaterequests/status":       "as above",
	"+storagemigration.k8s.io/v1 storageversionmigrations":        "as above",
	"+storagemigration.k8s.io/v1 storageversionmigrations/status": "as above",
	"+resource.k8s.io/v1 devicetaintrules":                        "as above",
	"+resource.k8s.io/v1 devicetaintrules/status":                 "as above",
	"+storage.k8s.io/v1 csinodes/status":                          "as above",
}

// Issue 4: every built-in resource and subresource, by upstream's names, verbs, short names and categories.
func TestDiscoveryIsUpstreams(t *testing.T) {
	data, err := os.ReadFile("testdata/api-resources-v1.36.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if !strings.HasPrefix(line, "#") {
			key, rest := cut(line)
			want[key] = rest
		}
	}
	got := served(t)
	for key, line := range want {
		ours, there := got[key]
		_, excused := differences["-"+key]
		switch {
		case there && excused:
			t.Errorf("%s is served: its line in differences is out of date", key)
		case !there && !excused:
			t.Errorf("%s is not served", key)
		case there && ours != line:
			t.Errorf("%s: %q, upstream has %q", key, ours, line)
		}
	}
	for key := range got {
		if _, known := want[key]; !known && differences["+"+key] == "" {
			t.Errorf("%s is served: upstream has no such thing, and differences names no reason", key)
		}
	}
	for key := range differences {
		if _, there := got[key[1:]]; key[0] == '+' && !there {
			t.Errorf("%s is in differences, and not served", key)
		}
	}
}

// cut splits a line into the group version with the resource, and what is said of it.
func cut(line string) (key, rest string) {
	fields := strings.SplitN(line, " ", 3)
	return fields[0] + " " + fields[1], fields[2]
}

// served is our discovery in the form of testdata. The plain documents are read: from the aggregated one client-go makes
// singular names for subresources too.
func served(t *testing.T) map[string]string {
	cluster := integration.Start(t)
	groups, err := cluster.Client.Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, group := range groups.Groups {
		for _, version := range group.Versions {
			path := "/apis/" + version.GroupVersion
			if group.Name == "" {
				path = "/api/" + version.GroupVersion
			}
			data, err := cluster.Client.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			list := metav1.APIResourceList{}
			if err := json.Unmarshal(data, &list); err != nil {
				t.Fatal(err)
			}
			for _, r := range list.APIResources {
				key, rest := cut(describe(list.GroupVersion, &r))
				all[key] = rest
			}
		}
	}
	return all
}

func describe(groupVersion string, r *metav1.APIResource) string {
	kind := r.Kind
	if body := (metav1.GroupVersion{Group: r.Group, Version: r.Version}).String(); r.Version != "" && body != groupVersion {
		kind = body + "/" + kind
	}
	scope := "cluster"
	if r.Namespaced {
		scope = "namespaced"
	}
	verbs := slices.Sorted(slices.Values(r.Verbs))
	all := strings.Join(verbs, ",")
	if all == "create,delete,deletecollection,get,list,patch,update,watch" {
		all = "*"
	}
	return strings.Join([]string{groupVersion, r.Name, kind, scope, all, or(r.SingularName), or(strings.Join(r.ShortNames, ",")), or(strings.Join(r.Categories, ","))}, " ")
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
