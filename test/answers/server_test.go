package answers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// server is an apiserver, ours or another.
type server struct {
	url    string
	client *http.Client
}

func dial(t *testing.T, config *rest.Config) server {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return server{url: config.Host, client: client}
}

// answer is what a server said: its code, its warnings, and an object or a Status.
type answer struct {
	code     int
	warnings []string
	body     any
}

func (s server) send(method, path string, body any) answer {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			panic(err) // it came from JSON or YAML
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequest(method, s.url+path, content)
	if err != nil {
		panic(err)
	}
	request.Header.Set("User-Agent", "answers") // it names the manager of fields
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	response, err := s.client.Do(request)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer response.Body.Close()
	a := answer{code: response.StatusCode, warnings: response.Header.Values("Warning")}
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{body: err.Error()}
	}
	if json.Unmarshal(data, &a.body) != nil {
		a.body = string(data)
	}
	return a
}

func (a answer) lines() []string {
	body, err := json.MarshalIndent(steady(a.body, ""), "", " ")
	if err != nil {
		panic(err) // it came from JSON
	}
	lines := append([]string{fmt.Sprint(a.code)}, slices.Sorted(slices.Values(a.warnings))...)
	for line := range strings.Lines(masked(string(body))) {
		lines = append(lines, strings.TrimRight(line, ",\n"))
	}
	return lines
}

func (a answer) String() string { return strings.Join(a.lines(), "\n") }

// beside gives a refusal as it is, and an object by the lines that base has not (+), or has in its place (-).
func (a answer) beside(base answer) string {
	if a.code >= http.StatusMultipleChoices || base.code >= http.StatusMultipleChoices {
		return a.String()
	}
	count := map[string]int{}
	for _, line := range base.lines() {
		count[line]--
	}
	for _, line := range a.lines() {
		count[line]++
	}
	var out []string
	for _, line := range slices.Sorted(maps.Keys(count)) {
		sign := "+"
		if count[line] < 0 {
			sign = "-"
		}
		for range max(count[line], -count[line]) {
			out = append(out, sign+strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "\n")
}

// volatile are the fields of metadata that no two servers answer alike.
var volatile = []string{"uid", "creationTimestamp", "resourceVersion", "managedFields"}

// steady leaves out of v what no two servers answer alike.
func steady(v any, path string) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, field := range v {
			if strings.HasSuffix(path, "metadata") && slices.Contains(volatile, k) {
				continue
			}
			out[k] = steady(field, path+"."+k)
		}
		for _, port := range []string{"nodePort", "healthCheckNodePort"} {
			if out[port] != nil {
				out[port] = "PORT"
			}
		}
		for _, address := range []string{"clusterIP", "clusterIPs"} {
			if strings.Contains(fmt.Sprint(out[address]), "10.") {
				out[address] = "ADDRESS"
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = steady(item, path)
		}
		return out
	}
	return v
}

var masks = []struct {
	pattern *regexp.Regexp
	as      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`X509SHA256=[0-9a-f]{64}`), "X509SHA256=ID"},
	{regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`), "kube-api-access-TOKEN"},
}

func masked(text string) string {
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.as)
	}
	return strings.ReplaceAll(text, long, "a…")
}
