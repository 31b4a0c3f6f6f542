package answers

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"hyperkube/test/integration"
)

var (
	record   = flag.Bool("record", false, "ask the server of -upstream, and write down what it answers")
	upstream = flag.String("upstream", "", "kubeconfig of a kube-apiserver's administrator, for -record")
)

// asked is one question and its answer: a line of a recorded file.
type asked struct {
	Write  string `json:"write"`
	Mutant string `json:"mutant"`
	Answer string `json:"answer"`
}

func (a asked) question() string { return a.Write + " " + a.Mutant }

func TestAnswersAreUpstreams(t *testing.T) {
	if testing.Short() {
		t.Skip("tens of thousands of requests")
	}
	cluster := integration.Start(t)
	examiner := newExaminer(t, cluster.Config)
	if *record {
		config, err := clientcmd.BuildConfigFromFlags("", *upstream)
		if err != nil {
			t.Fatal(err)
		}
		examiner.server = dial(t, config)
	}
	files, err := filepath.Glob("testdata/seeds/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no seeds:", err)
	}
	// No controller gives it one here.
	examiner.make(t, object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "default"}})
	excused := excuses{}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "testdata/seeds/"), ".yaml")
		t.Run(name, func(t *testing.T) {
			answers := examiner.examine(t, file)
			recorded := filepath.Join("testdata/recorded", name+".gz")
			if *record {
				write(t, recorded, answers)
				return
			}
			compare(t, name, read(t, recorded), answers, excused)
		})
	}
	if !*record && !t.Failed() {
		excused.holdNoneIsSpare(t)
	}
}

// shown is how many differing answers of a seed are printed.
const shown = 20

func compare(t *testing.T, seed string, theirs, ours []asked, excused excuses) {
	t.Helper()
	said := make(map[string]string, len(theirs))
	for _, a := range theirs {
		said[a.question()] = a.Answer
	}
	differ := 0
	for _, a := range ours {
		want, known := said[a.question()]
		delete(said, a.question())
		if known && same(want, a.Answer) || excused.takes(seed+" "+a.question()) {
			continue
		}
		if differ++; differ > shown {
			continue
		}
		if !known {
			t.Errorf("%s\nwas never asked of kube-apiserver: the schema or the seed has changed; record again (doc.go)", a.question())
			continue
		}
		t.Errorf("%s\nkube-apiserver: %s\nours:           %s", a.question(), want, a.Answer)
	}
	for question := range said {
		if differ++; differ <= shown {
			t.Errorf("%s\nwas asked of kube-apiserver and is not asked any more: the schema or the seed has changed; record again (doc.go)", question)
		}
	}
	if differ > shown {
		t.Errorf("… %d of %d answers differ", differ, len(ours))
	}
}

// same compares two answers. Errors about the entries of one map come in Go's random order, there and here: then each has to be there.
func same(theirs, ours string) bool {
	return theirs == ours || slices.Equal(parts(theirs), parts(ours))
}

func parts(answer string) []string {
	all := strings.FieldsFunc(answer, func(r rune) bool { return r == '\n' || r == ',' || r == '[' || r == ']' })
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	slices.Sort(all)
	return all
}

// examiner asks a server about the mutants of seeds.
type examiner struct {
	server  server
	schemas schemas
	paths   paths
}

func newExaminer(t *testing.T, config *rest.Config) *examiner {
	server := dial(t, config)
	return &examiner{server: server, schemas: loadSchemas(t, server), paths: newPaths(t, config)}
}

// examine makes what the seed needs, asks each of its questions, and takes away what it made.
func (e *examiner) examine(t *testing.T, file string) []asked {
	s := readSeed(t, file)
	for _, o := range s.before {
		e.make(t, o)
	}
	collection, named := e.paths.of(t, s.object)
	if strings.HasSuffix(collection, "reviews") { // asked and not stored
		return e.ask(t, s.object, "once")
	}
	var all []asked
	made := false
	for _, w := range s.writes {
		if w != "create" && !made {
			made = true
			e.make(t, s.object)
		}
		if w == "status" && e.server.send(http.MethodGet, named+"/status", nil).code == http.StatusNotFound {
			continue // the kind has none
		}
		all = append(all, e.ask(t, s.object, w)...)
	}
	return all
}

// make creates o, and removes it when the test of this seed ends.
func (e *examiner) make(t *testing.T, o object) {
	t.Helper()
	collection, named := e.paths.of(t, o)
	if a := e.server.send(http.MethodPost, collection, o); a.code == http.StatusConflict {
		return // every new cluster has it
	} else if a.code != http.StatusCreated {
		t.Fatalf("%s cannot be made: %s", named, a)
	}
	t.Cleanup(func() {
		e.server.send(http.MethodDelete, named+"?gracePeriodSeconds=0", nil)
		e.server.send(http.MethodPatch, named, object{"metadata": object{"finalizers": nil}})
	})
}

// askers are how many requests run at a time.
const askers = 4

// ask sends all mutants of o by way of w.
func (e *examiner) ask(t *testing.T, o object, w string) []asked {
	method, path, base := e.way(t, o, w)
	version := base.meta("resourceVersion")
	base.drop("metadata", volatile...)
	first := e.server.send(method, path, base)
	if first.code >= http.StatusBadRequest && strings.Contains(first.String(), "resourceVersion") { // some kinds are not updated without
		base["metadata"].(map[string]any)["resourceVersion"] = version
		first = e.server.send(method, path, base)
	}
	mutants := distinct(e.schemas.mutants(e.schemas.of(o), base, inStatus(w)), base)
	answers := make([]asked, len(mutants)+1)
	answers[0] = asked{Write: w, Mutant: "(none)", Answer: first.String()}
	var group sync.WaitGroup
	next := make(chan int)
	for range askers {
		group.Go(func() {
			for i := range next {
				answer := e.server.send(method, path, mutants[i].of(base))
				answers[i+1] = asked{Write: w, Mutant: mutants[i].String(), Answer: answer.beside(first)}
			}
		})
	}
	for i := range mutants {
		next <- i
	}
	close(next)
	group.Wait()
	return answers
}

const trial = "?dryRun=All&fieldValidation=Strict"

// way says how w is asked, and what is mutated: the seed itself, or what the server made of it.
func (e *examiner) way(t *testing.T, o object, w string) (method, path string, base object) {
	collection, named := e.paths.of(t, o)
	switch {
	case w == "create":
		return http.MethodPost, collection + trial, o.clone()
	case w == "once":
		return http.MethodPost, collection + "?fieldValidation=Strict", o.clone()
	case w == "update":
		path = named
	case w == "status":
		path = named + "/status"
	case strings.HasPrefix(w, "/"):
		path = named + w
	default:
		t.Fatalf("no such write: %q", w)
	}
	stored := e.server.send(http.MethodGet, path, nil)
	if stored.code != http.StatusOK {
		t.Fatalf("%s: %s", path, stored)
	}
	base = stored.body.(map[string]any)
	if o["status"] != nil && inStatus(w)("status") { // no create takes it
		base["status"] = o.clone()["status"]
	}
	return http.MethodPut, path + trial, base
}

// inStatus chooses the fields that w is about.
func inStatus(w string) func(field string) bool {
	return func(field string) bool {
		switch w {
		case "status", "/approval":
			return field == "status"
		}
		return field != "status"
	}
}

func write(t *testing.T, file string, answers []asked) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	encoder := json.NewEncoder(z)
	encoder.SetEscapeHTML(false)
	for _, a := range answers {
		if err := encoder.Encode(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []asked {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal("no answers were recorded for this seed (doc.go says how): ", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	var answers []asked
	for d := json.NewDecoder(z); d.More(); {
		var a asked
		if err := d.Decode(&a); err != nil {
			t.Fatal(fmt.Errorf("%s: %w", file, err))
		}
		answers = append(answers, a)
	}
	return answers
}
