package component

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// recorded is an Options that notes in which order its methods are called.
type recorded struct {
	calls []string
	flag  string
	fail  string
}

func (r *recorded) call(name string) error {
	r.calls = append(r.calls, name)
	if r.fail == name {
		return errors.New(name + " failed")
	}
	return nil
}

func (r *recorded) AddFlags(flags *pflag.FlagSet) {
	r.call("flags")
	flags.StringVar(&r.flag, "flag", "", "")
}
func (r *recorded) Complete(context.Context) error        { return r.call("complete") }
func (r *recorded) Validate() error                       { return r.call("validate") }
func (r *recorded) Run(ctx context.Context, e *Env) error { return r.call("run") }

// Options, complete, validate, run: in this order, and no further than the first failure (R94, S2-09).
func TestExecuteOrder(t *testing.T) {
	for fail, want := range map[string]string{
		"": "flags complete validate run", "complete": "flags complete", "validate": "flags complete validate",
	} {
		r := &recorded{fail: fail}
		err := Execute(t.Context(), NewEnv("test", []string{"--flag=x"}), r)
		if got := strings.Join(r.calls, " "); got != want || (err != nil) != (fail != "") {
			t.Errorf("failing in %q: calls %q, error %v", fail, got, err)
		}
		if r.flag != "x" {
			t.Errorf("flag: %q", r.flag)
		}
	}
}

// A mistake in the command line is told with where to find help.
func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"--no-such"}, {"stray"}} {
		err := Parse("test", &recorded{}, args, &bytes.Buffer{})
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), "hyperkube test --help") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func testOutput() (*output, *bytes.Buffer) {
	var b bytes.Buffer
	return &output{out: &b, files: map[string]*os.File{}, levels: map[string]int{}, now: func() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 6e6, time.UTC) }}, &b
}

// Every line begins with the component's name and is key=value (R20).
func TestLogLines(t *testing.T) {
	out, b := testOutput()
	s := (&sink{component: "scheduler", out: out}).WithValues("pod", "default/web")
	s.Info(0, "Bound pod", "node", "box", "odd")
	s.Error(errors.New("no way"), "Failed")
	want := `scheduler I 03:04:05.006 Bound pod  pod="default/web"  node="box"  odd="(missing)"
scheduler E 03:04:05.006 Failed  pod="default/web"  err="no way"
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b, want)
	}
	out.json = true
	b.Reset()
	s.Info(0, "Bound pod", "err", errors.New("x"))
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["component"] != "scheduler" || line["err"] != "x" || !strings.HasPrefix(b.String(), `{"component"`) {
		t.Errorf("%s: %v, %v", b, line, err)
	}
}

// A level is for all, or for one component.
func TestLogLevels(t *testing.T) {
	defer SetLogLevels("")
	if err := SetLogLevels("2,scheduler=5,etcd=warn"); err != nil {
		t.Fatal(err)
	}
	for component, want := range map[string]int{"scheduler": 5, "kubelet": 2, "etcd": -1} {
		if got := logs.level(component); got != want {
			t.Errorf("%s: level %d, want %d", component, got, want)
		}
	}
	if err := SetLogLevels("scheduler=loud"); err == nil {
		t.Error("a level that is none was accepted")
	}
}

// /healthz names what fails, and can leave a check out.
func TestHealth(t *testing.T) {
	h := &Health{}
	h.Add("etcd", func(context.Context) error { return errors.New("no leader") })
	h.Add("ping", func(context.Context) error { return nil })
	get := func(target string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		return w.Code, w.Body.String()
	}
	if code, body := get("/readyz"); code != 500 || !strings.Contains(body, "[-]etcd failed: no leader\n[+]ping ok\nreadyz check failed") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := get("/readyz?exclude=etcd"); code != 200 || body != "ok" {
		t.Errorf("%d %s", code, body)
	}
	if code, body := get("/livez?exclude=etcd&verbose"); code != 200 || body != "[+]ping ok\n[+]etcd excluded: ok\nlivez check passed\n" {
		t.Errorf("%d %s", code, body)
	}
}

// A component that serves is found under its data directory, tells how it is,
// and is gone from there when it stops (R07).
func TestRegistration(t *testing.T) {
	dir := t.TempDir()
	env := NewEnv("scheduler", []string{"--data-dir=x"})
	if err := env.Health.Err(t.Context()); err == nil {
		t.Error("healthy before it has started")
	}
	stop, err := env.Serve(dir, "https://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	found, err := Registrations(dir)
	if err != nil || len(found) != 1 || found[0].Component != "scheduler" || found[0].PID != os.Getpid() {
		t.Fatalf("%+v, %v", found, err)
	}
	if err := found[0].Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	env.Health.Add("lease", func(context.Context) error { return errors.New("lost") })
	if err := found[0].Probe(t.Context()); err == nil || err.Error() != "lease failed: lost" {
		t.Errorf("probe of a sick one: %v", err)
	}
	stop()
	if found, err := Registrations(dir); err != nil || len(found) != 0 {
		t.Errorf("after the stop: %+v, %v", found, err)
	}
}

// No wait is silent for long, and it ends with the last cause (R04).
func TestWait(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := Wait(ctx, func(error) {}, func(context.Context) error { return errors.New("not yet") })
	if err == nil || err.Error() != "not yet" {
		t.Errorf("got %v", err)
	}
	tries := 0
	err = Wait(t.Context(), func(error) {}, func(context.Context) error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

func TestLogLevelOverHTTP(t *testing.T) {
	defer SetLogLevels("")
	w := httptest.NewRecorder()
	NewEnv("x", nil).Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/loglevel", strings.NewReader("dns=3")))
	if w.Code != http.StatusOK || logs.level("dns") != 3 {
		t.Errorf("%d, level %d", w.Code, logs.level("dns"))
	}
	w = httptest.NewRecorder()
	NewEnv("x", nil).Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !regexp.MustCompile(`(?m)^go_goroutines \d+`).MatchString(w.Body.String()) {
		t.Error("no metrics")
	}
}
