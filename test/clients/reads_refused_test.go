package clients

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/test/integration"
)

// Options of reads that make no sense, or do not go together, are refused in upstream's words, all that is wrong at once.
func TestReadsRefused(t *testing.T) {
	cluster := integration.Start(t)
	makeConfigMaps(t, cluster, "a", 3)
	token := func(text string) string { return url.QueryEscape(base64.RawURLEncoding.EncodeToString([]byte(text))) }
	const invalid = `ListOptions.meta.k8s.io "" is invalid: `
	for query, want := range map[string]string{
		"resourceVersion=x":                                                                `400 invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax`,
		"watch=1&resourceVersion=x":                                                        `422 configmaps "" is invalid: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax`,
		"resourceVersionMatch=Exact":                                                       `422 ` + invalid + `resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided`,
		"resourceVersionMatch=No":                                                          `422 ` + invalid + `[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, resourceVersionMatch: Unsupported value: "No": supported values: "Exact", "NotOlderThan", ""]`,
		"resourceVersionMatch=Exact&resourceVersion=0":                                     `422 ` + invalid + `resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"`,
		"sendInitialEvents=true":                                                           `422 ` + invalid + `sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list`,
		"watch=1&sendInitialEvents=true":                                                   `422 ` + invalid + `resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`,
		"watch=1&resourceVersionMatch=NotOlderThan":                                        `422 ` + invalid + `resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided`,
		"watch=1&resourceVersionMatch=Exact":                                               `422 ` + invalid + `[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]`,
		"continue=x":                                                                       `400 invalid continue token: continue key is not valid: illegal base64 data at input byte 0`,
		"continue=" + token(`{"v":"v9","rv":1,"start":"a"}`):                               `400 invalid continue token: continue key is not valid: server does not recognize this encoded version v9`,
		"continue=" + token(`{"v":"meta.k8s.io/v1","start":"a"}`):                          `400 invalid continue token: continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)`,
		"continue=" + token(`{"v":"meta.k8s.io/v1","rv":2}`):                               `400 invalid continue token: continue key is not valid: encoded start key empty (version meta.k8s.io/v1)`,
		"continue=" + token(`{"v":"meta.k8s.io/v1","rv":2,"start":"../kube-system/a"}`):    `400 invalid continue token: continue key is not valid: ../kube-system/a`,
		"resourceVersion=5&continue=" + token(`{"v":"meta.k8s.io/v1","rv":2,"start":"a"}`): `400 specifying resource version is not allowed when using continue`,
		"resourceVersionMatch=Exact&resourceVersion=5&continue=x":                          `422 ` + invalid + `resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided`,
		"limit=x":              `400 strconv.ParseInt: parsing "x": invalid syntax`,
		"labelSelector=a in b": `400 unable to parse requirement: found 'b' expected: '('`,
	} {
		query = strings.ReplaceAll(query, " ", "%20")
		err := cluster.Client.CoreV1().RESTClient().Get().RequestURI("/api/v1/namespaces/default/configmaps?" + query).MaxRetries(0).Do(t.Context()).Error()
		status, _ := err.(apierrors.APIStatus)
		if status == nil {
			t.Errorf("%s: %v, want %s", query, err, want)
			continue
		}
		code, text, _ := strings.Cut(want, " ")
		if got := status.Status(); strconv.Itoa(int(got.Code)) != code || got.Message != text {
			t.Errorf("%s:\n%d %s\nwant %s", query, got.Code, got.Message, want)
		}
	}
}

// What has been compacted away is 410: a page with a token for the rest of now, an exact list and a watch without.
func TestExpired(t *testing.T) {
	cluster := integration.Start(t)
	old := makeConfigMaps(t, cluster, "a", 4)
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	first, err := maps.List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	makeConfigMaps(t, cluster, "b", 1)
	cluster.Stop()
	compact(t, cluster)
	cluster.Run("127.0.0.1:0")
	maps = cluster.Client.CoreV1().ConfigMaps("default")
	_, err = maps.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: first.Continue})
	want := "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response " +
		"to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list."
	if !apierrors.IsResourceExpired(err) || message(err) != want {
		t.Errorf("a page: %v", err)
	}
	_, err = maps.List(t.Context(), metav1.ListOptions{ResourceVersion: old, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if !apierrors.IsResourceExpired(err) || message(err) != "The resourceVersion for the provided list is too old." {
		t.Errorf("an exact list: %v", err)
	}
	watcher, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: old})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	event := <-watcher.ResultChan()
	status, _ := event.Object.(*metav1.Status)
	if event.Type != "ERROR" || status == nil || status.Code != 410 || status.Reason != metav1.StatusReasonExpired || !strings.HasPrefix(status.Message, "too old resource version: "+old+" (") {
		t.Errorf("a watch: %+v", event)
	}
}
