package audit

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyperkube/apiserver/request"
)

// run sends one request through an auditor, and returns the events that were written.
func run(t *testing.T, policy, method, url, body string, handler http.HandlerFunc) []Event {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "policy"), []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n"+policy), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(filepath.Join(dir, "policy"), filepath.Join(dir, "log"), func(info *request.Info, _ *http.Request) bool { return info.Verb == "watch" })
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r = r.WithContext(request.WithUser(request.WithAuditID(request.WithInfo(r.Context(), request.NewInfo(r)), "id-1"), &request.User{Name: "jane", Groups: []string{"dev"}}))
	func() {
		defer func() { _ = recover() }()
		a.Handler(handler).ServeHTTP(httptest.NewRecorder(), r)
	}()
	a.Close()
	file, err := os.Open(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var events []Event
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if e.Kind != "Event" || e.APIVersion != "audit.k8s.io/v1" || e.AuditID != "id-1" || e.User.Username != "jane" {
			t.Errorf("%s", lines.Text())
		}
		events = append(events, e)
	}
	return events
}

// answer reads the body, as handlers do, and answers with another.
func answer(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		request.AddAuditAnnotation(r.Context(), "k", "v")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

const (
	secretPath = "/api/v1/namespaces/a/secrets"
	secretBody = `{"kind":"Secret","metadata":{"name":"s","managedFields":[{}]},"data":{"p":"aHVudGVyMg=="}}`
)

// Each level writes what it says and no more, whatever the bodies hold.
func TestLevels(t *testing.T) {
	for _, test := range []struct {
		level             string
		stages            int
		request, response bool
	}{{"None", 0, false, false}, {"Metadata", 2, false, false}, {"Request", 2, true, false}, {"RequestResponse", 2, true, true}} {
		t.Run(test.level, func(t *testing.T) {
			events := run(t, "rules: [{level: "+test.level+"}]", "POST", secretPath, secretBody, answer(201, secretBody))
			if len(events) != test.stages {
				t.Fatalf("%+v", events)
			}
			if test.stages == 0 {
				return
			}
			last := events[1]
			if events[0].Stage != StageRequestReceived || last.Stage != StageResponseComplete || last.ResponseStatus.Code != 201 || last.Annotations["k"] != "v" || last.ObjectRef.Resource != "secrets" {
				t.Errorf("%+v", events)
			}
			if (last.RequestObject != nil) != test.request || (last.ResponseObject != nil) != test.response {
				t.Errorf("request %s, response %s", last.RequestObject, last.ResponseObject)
			}
			if test.response && last.ObjectRef.Name != "s" {
				t.Errorf("%+v", last.ObjectRef)
			}
		})
	}
}

func TestOmissions(t *testing.T) {
	events := run(t, "omitStages: [RequestReceived]\nomitManagedFields: true\nrules: [{level: RequestResponse}]", "POST", secretPath, secretBody, answer(201, secretBody))
	if len(events) != 1 || events[0].Stage != StageResponseComplete || strings.Contains(string(events[0].ResponseObject)+string(events[0].RequestObject), "managedFields") {
		t.Errorf("%+v", events)
	}
	if !strings.Contains(string(events[0].RequestObject), "aHVudGVyMg==") {
		t.Errorf("%s", events[0].RequestObject)
	}
}

func TestOutcomes(t *testing.T) {
	refused := `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"Forbidden","code":403}`
	events := run(t, "rules: [{level: Metadata}]", "GET", secretPath, "", answer(403, refused))
	if s := events[1].ResponseStatus; s.Code != 403 || s.Reason != "Forbidden" || s.Message != "no" {
		t.Errorf("%+v", s)
	}
	events = run(t, "rules: [{level: Metadata}]", "GET", secretPath+"?watch=1", "", answer(200, "{}"))
	if len(events) != 3 || events[1].Stage != StageResponseStarted {
		t.Errorf("%+v", events)
	}
	events = run(t, "rules: [{level: Metadata}]", "GET", secretPath, "", func(http.ResponseWriter, *http.Request) { panic("x") })
	if len(events) != 2 || events[1].Stage != StagePanic || events[1].ResponseStatus.Code != 500 {
		t.Errorf("%+v", events)
	}
}

// Who a request is done as is noted, with the verb of a constrained impersonation.
func TestImpersonated(t *testing.T) {
	for _, constraint := range []string{"", "impersonate:user-info"} {
		events := run(t, "rules: [{level: Metadata}]", "GET", secretPath, "", func(w http.ResponseWriter, r *http.Request) {
			Impersonated(w, &request.User{Name: "joe"}, constraint)
			answer(200, "{}")(w, r)
		})
		last := events[len(events)-1]
		got := ""
		if last.AuthenticationMetadata != nil {
			got = last.AuthenticationMetadata.ImpersonationConstraint
		}
		if last.ImpersonatedUser == nil || last.ImpersonatedUser.Username != "joe" || got != constraint || (last.AuthenticationMetadata != nil) != (constraint != "") {
			t.Errorf("constraint %q: %+v", constraint, last)
		}
	}
}

// The first rule that matches decides.
func TestPolicy(t *testing.T) {
	get := func(url string) *request.Info { return request.NewInfo(httptest.NewRequest("GET", url, nil)) }
	jane := &request.User{Name: "jane", Groups: []string{"dev"}}
	for _, test := range []struct {
		rule  PolicyRule
		info  *request.Info
		match bool
	}{
		{PolicyRule{}, get("/api/v1/pods"), true},
		{PolicyRule{Users: []string{"joe"}}, get("/api/v1/pods"), false},
		{PolicyRule{UserGroups: []string{"dev"}}, get("/api/v1/pods"), true},
		{PolicyRule{Verbs: []string{"list"}}, get("/api/v1/pods"), true},
		{PolicyRule{Verbs: []string{"get"}}, get("/api/v1/pods"), false},
		{PolicyRule{Resources: []GroupResources{{}}}, get("/api/v1/pods"), true},
		{PolicyRule{Resources: []GroupResources{{}}}, get("/apis/apps/v1/deployments"), false},
		{PolicyRule{Resources: []GroupResources{{Resources: []string{"pods"}}}}, get("/api/v1/namespaces/a/pods/b/log"), false},
		{PolicyRule{Resources: []GroupResources{{Resources: []string{"pods/*"}}}}, get("/api/v1/namespaces/a/pods/b/log"), true},
		{PolicyRule{Resources: []GroupResources{{Resources: []string{"*/log"}}}}, get("/api/v1/namespaces/a/pods/b/log"), true},
		{PolicyRule{Resources: []GroupResources{{Resources: []string{"pods"}, ResourceNames: []string{"c"}}}}, get("/api/v1/namespaces/a/pods/b"), false},
		{PolicyRule{Namespaces: []string{"a"}}, get("/api/v1/namespaces/a/pods"), true},
		{PolicyRule{Namespaces: []string{""}}, get("/api/v1/nodes"), true},
		{PolicyRule{Namespaces: []string{"a"}}, get("/healthz"), false},
		{PolicyRule{NonResourceURLs: []string{"/healthz*"}}, get("/healthz/etcd"), true},
		{PolicyRule{NonResourceURLs: []string{"*"}}, get("/api/v1/pods"), false},
	} {
		test.rule.Level = LevelMetadata
		p := Policy{Rules: []PolicyRule{test.rule, {Level: LevelRequest}}}
		if got := p.evaluate(jane, test.info).level == LevelMetadata; got != test.match {
			t.Errorf("%+v of %s: %v", test.rule, test.info.Path, got)
		}
	}
}

func TestWrongPolicies(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Policy\napiVersion: v1\nrules: [{level: None}]":                                                      "want apiVersion audit.k8s.io/v1",
		"kind: Policy\napiVersion: audit.k8s.io/v1":                                                                 "no rules",
		"kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: All}]":                                          `unsupported value "All"`,
		"kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: None, resource: x}]":                            "unknown field",
		"kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: None, nonResourceURLs: [/x], namespaces: [a]}]": "at once",
		"kind: Policy\napiVersion: audit.k8s.io/v1\nomitStages: [Late]\nrules: [{level: None}]":                     `unsupported value "Late"`,
	} {
		path := filepath.Join(t.TempDir(), "p")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPolicy(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
