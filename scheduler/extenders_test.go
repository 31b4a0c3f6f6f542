package scheduler

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hyperkube/scheduler/extender"
)

// webhook is an extender written by somebody else: it refuses nodes with a label, likes one, and counts its calls.
type webhook struct {
	t     *testing.T
	likes string
	calls chan string
	// fails makes every answer an error of HTTP.
	fails bool
}

func (w *webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	verb := strings.TrimPrefix(r.URL.Path, "/scheduler/")
	w.calls <- verb
	if w.fails {
		http.Error(rw, "out of order", http.StatusInternalServerError)
		return
	}
	if verb == "bind" {
		var args extenderv1.ExtenderBindingArgs
		json.NewDecoder(r.Body).Decode(&args)
		json.NewEncoder(rw).Encode(extenderv1.ExtenderBindingResult{Error: "no " + args.Node + " for " + args.PodName})
		return
	}
	var args extenderv1.ExtenderArgs
	if err := json.NewDecoder(r.Body).Decode(&args); err != nil || args.Pod == nil {
		w.t.Errorf("%s: asked with %+v, %v", verb, args, err)
	}
	if verb == "prioritize" {
		json.NewEncoder(rw).Encode(extenderv1.HostPriorityList{{Host: w.likes, Score: 10}})
		return
	}
	result := extenderv1.ExtenderFilterResult{Nodes: &v1.NodeList{}, FailedNodes: extenderv1.FailedNodesMap{}}
	for _, node := range args.Nodes.Items {
		if node.Labels["refuse"] == "" {
			result.Nodes.Items = append(result.Nodes.Items, node)
		} else {
			result.FailedNodes[node.Name] = "the licence has run out"
		}
	}
	json.NewEncoder(rw).Encode(result)
}

func extended(t *testing.T, w *webhook, config configv1.Extender) func(*Config) {
	t.Helper()
	w.t, w.calls = t, make(chan string, 100)
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	config.URLPrefix, config.Weight = server.URL+"/scheduler/", 100
	e, err := extender.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.Extenders = append(c.Extenders, e) }
}

// An extender refuses nodes with its own words, and outweighs the plugins' scores.
func TestExtenderFiltersAndPrioritizes(t *testing.T) {
	best := makeNode("best", "64")
	best.Labels = map[string]string{"refuse": "yes"}
	w := &webhook{likes: "small"}
	c := newCluster(t, extended(t, w, configv1.Extender{FilterVerb: "filter", PrioritizeVerb: "prioritize"}), best, makeNode("large", "32"), makeNode("small", "1"))
	c.create(makePod("web", "500m"))
	if got := c.next(c.bound); got != "web -> small" {
		t.Errorf("bound %s", got)
	}
	c.stop()
	response := httptest.NewRecorder()
	c.sched.ExplainHandler().ServeHTTP(response, httptest.NewRequest("GET", "/?namespace=default&name=web", nil))
	for _, want := range []string{`"plugin":"Extender"`, "the licence has run out", `"name":"Extender http://`} {
		if !strings.Contains(response.Body.String(), want) {
			t.Errorf("the explanation lacks %s:\n%s", want, response.Body)
		}
	}
}

// A pod that an extender refused everywhere is tried again after any event.
func TestExtenderRefusesAll(t *testing.T) {
	node := makeNode("n1", "4")
	node.Labels = map[string]string{"refuse": "yes"}
	w := &webhook{}
	c := newCluster(t, extended(t, w, configv1.Extender{FilterVerb: "filter"}), node)
	c.create(makePod("web", "500m"))
	if got, want := c.next(c.events), "FailedScheduling: 0/1 nodes are available: 1 the licence has run out. "; !strings.HasPrefix(got, want) {
		t.Errorf("event %q, want %q", got, want)
	}
	allowed := node.DeepCopy()
	allowed.Labels = nil
	if _, err := c.client.CoreV1().Nodes().Update(t.Context(), allowed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.next(c.bound); got != "web -> n1" {
		t.Errorf("bound %s", got)
	}
}

// One that fails stops the pod, an ignorable one does not.
func TestExtenderFails(t *testing.T) {
	for _, ignorable := range []bool{false, true} {
		w := &webhook{fails: true}
		c := newCluster(t, extended(t, w, configv1.Extender{FilterVerb: "filter", Ignorable: ignorable}), makeNode("n1", "4"))
		c.create(makePod("web", "500m"))
		if ignorable {
			if got := c.next(c.bound); got != "web -> n1" {
				t.Errorf("bound %s", got)
			}
			continue
		}
		if got := c.next(c.events); !strings.Contains(got, "FailedScheduling: failed filter with extender at URL http://") || !strings.HasSuffix(got, "/scheduler/filter, code 500") {
			t.Errorf("event %q", got)
		}
	}
}

// With managed resources it is asked only about pods that want one; a binder's refusal is the pod's.
func TestExtenderManagesResources(t *testing.T) {
	w := &webhook{likes: "n1"}
	node := makeNode("n1", "4")
	node.Status.Allocatable["example.com/fpga"] = node.Status.Allocatable[v1.ResourceCPU]
	c := newCluster(t, extended(t, w, configv1.Extender{FilterVerb: "filter", BindVerb: "bind",
		ManagedResources: []configv1.ExtenderManagedResource{{Name: "example.com/fpga"}}}), node)
	c.create(makePod("plain", "500m"))
	if got := c.next(c.bound); got != "plain -> n1" {
		t.Errorf("bound %s", got)
	}
	wants := makePod("wants", "500m")
	one := node.Status.Allocatable[v1.ResourceCPU]
	wants.Spec.Containers[0].Resources.Requests["example.com/fpga"] = one
	wants.Spec.Containers[0].Resources.Limits = v1.ResourceList{"example.com/fpga": one}
	c.create(wants)
	var got string
	for got = c.next(c.events); strings.HasPrefix(got, "Scheduled"); got = c.next(c.events) {
	}
	if !strings.Contains(got, "no n1 for wants") {
		t.Errorf("event %q", got)
	}
	if calls := []string{c.next(w.calls), c.next(w.calls)}; !slices.Equal(calls, []string{"filter", "bind"}) {
		t.Errorf("calls %v, want those for one pod", calls)
	}
}
