package storage

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testingclock "k8s.io/utils/clock/testing"
)

// The table of https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list.
func TestPlanList(t *testing.T) {
	token := encodeContinue("a/", "a/x\x00", 7)
	inconsistent := encodeContinue("a/", "a/x\x00", -1)
	const notOlder, exactly = metav1.ResourceVersionMatchNotOlderThan, metav1.ResourceVersionMatchExact
	for _, test := range []struct {
		name string
		opts ListOptions
		want listPlan
		bad  bool
	}{
		{name: "nothing", want: listPlan{match: mostRecent}},
		{name: "limit", opts: ListOptions{Limit: 5}, want: listPlan{match: mostRecent, limit: 5}},
		{name: "0", opts: ListOptions{ResourceVersion: "0"}, want: listPlan{match: anyRevision}},
		{name: "0, limit", opts: ListOptions{ResourceVersion: "0", Limit: 5}, want: listPlan{match: anyRevision}},
		{name: "7", opts: ListOptions{ResourceVersion: "7"}, want: listPlan{match: notOlderThan, revision: 7}},
		{name: "7, limit", opts: ListOptions{ResourceVersion: "7", Limit: 5}, want: listPlan{match: exact, revision: 7, limit: 5}},
		{name: "exact", opts: ListOptions{ResourceVersion: "7", ResourceVersionMatch: exactly}, want: listPlan{match: exact, revision: 7}},
		{name: "exact 0", opts: ListOptions{ResourceVersion: "0", ResourceVersionMatch: exactly}, bad: true},
		{name: "exact unset", opts: ListOptions{ResourceVersionMatch: exactly}, bad: true},
		{name: "not older", opts: ListOptions{ResourceVersion: "7", ResourceVersionMatch: notOlder, Limit: 5}, want: listPlan{match: notOlderThan, revision: 7, limit: 5}},
		{name: "not older 0", opts: ListOptions{ResourceVersion: "0", ResourceVersionMatch: notOlder}, want: listPlan{match: anyRevision}},
		{name: "not older unset", opts: ListOptions{ResourceVersionMatch: notOlder}, bad: true},
		{name: "unknown match", opts: ListOptions{ResourceVersion: "7", ResourceVersionMatch: "Newer"}, bad: true},
		{name: "not a number", opts: ListOptions{ResourceVersion: "x"}, bad: true},
		{name: "continue", opts: ListOptions{Continue: token, Limit: 5}, want: listPlan{match: exact, revision: 7, start: "a/x\x00", limit: 5}},
		{name: "continue, 0", opts: ListOptions{Continue: token, ResourceVersion: "0"}, want: listPlan{match: exact, revision: 7, start: "a/x\x00"}},
		{name: "continue, 7", opts: ListOptions{Continue: token, ResourceVersion: "7"}, bad: true},
		{name: "continue, match", opts: ListOptions{Continue: token, ResourceVersionMatch: notOlder}, bad: true},
		{name: "inconsistent continue", opts: ListOptions{Continue: inconsistent}, want: listPlan{match: mostRecent, start: "a/x\x00"}},
		{name: "broken continue", opts: ListOptions{Continue: "x"}, bad: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := planList("a/", test.opts)
			if test.bad {
				if !errors.Is(err, ErrInvalidOptions) {
					t.Errorf("got %+v, %v; want ErrInvalidOptions", got, err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func (f *fixture) list(prefix string, opts ListOptions) *List {
	f.Helper()
	list, err := f.pods.List(f.ctx, prefix, opts)
	if err != nil {
		f.Fatal(err)
	}
	return list
}

func TestListChooses(t *testing.T) {
	f := newFixture(t)
	f.create("a/x", "one")
	f.create("a/y", "two")
	last := f.create("b/x", "one")
	moved := f.update("a/y", func(p *podType) { p.Spec.NodeName = "n1" })
	for name, test := range map[string]struct {
		prefix string
		p      Predicate
		want   []string
	}{
		"all":             {"", Predicate{}, []string{"a/x", "a/y", "b/x"}},
		"a namespace":     {"a/", Predicate{}, []string{"a/x", "a/y"}},
		"a label":         {"", selectApp("one"), []string{"a/x", "b/x"}},
		"both":            {"b/", selectApp("one"), []string{"b/x"}},
		"a name":          {"", selectField("metadata.name", "x"), []string{"a/x", "b/x"}},
		"the index":       {"", selectField("spec.nodeName", "n1"), []string{"a/y"}},
		"index elsewhere": {"b/", selectField("spec.nodeName", "n1"), []string{}},
		"index, empty":    {"", selectField("spec.nodeName", ""), []string{"a/x", "b/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			list := f.list(test.prefix, ListOptions{Predicate: test.p})
			if got := keysOf(list); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if list.ResourceVersion < moved.ResourceVersion {
				t.Errorf("revision %d is older than the last write's %d", list.ResourceVersion, moved.ResourceVersion)
			}
		})
	}
	exactly := f.list("", ListOptions{ResourceVersion: rv(last), ResourceVersionMatch: metav1.ResourceVersionMatchExact, Predicate: selectField("spec.nodeName", "n1")})
	if len(exactly.Items) != 0 || exactly.ResourceVersion != last.ResourceVersion {
		t.Errorf("at revision %d: %v at %d, want nothing", last.ResourceVersion, keysOf(exactly), exactly.ResourceVersion)
	}
}

// A list in pages is one state, whatever happens between two pages; the pages
// after the first come from a snapshot, or once that is forgotten, from etcd.
func TestPagesAreOfOneRevision(t *testing.T) {
	for name, forget := range map[string]bool{"snapshot": false, "etcd": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for i := range 7 {
				f.create(fmt.Sprintf("a/%d", i), "one")
			}
			first := f.list("a/", ListOptions{Limit: 3})
			if first.RemainingItemCount == nil || *first.RemainingItemCount != 4 {
				t.Errorf("remaining %v, want 4", first.RemainingItemCount)
			}
			f.delete("a/4")
			f.relabel("a/5", "two")
			f.create("a/9", "one")
			if forget {
				f.pods.cache.snapshots = nil
			}
			var got []string
			for page, pages := first, 1; ; pages++ {
				got = append(got, keysOf(page)...)
				if page.ResourceVersion != first.ResourceVersion {
					t.Errorf("page %d is of revision %d, the first of %d", pages, page.ResourceVersion, first.ResourceVersion)
				}
				if page.Continue == "" {
					break
				}
				page = f.list("a/", ListOptions{Limit: 3, Continue: page.Continue})
				for _, o := range page.Items {
					if o.Labels()["app"] != "one" {
						t.Errorf("%s has the label of later", o.Key)
					}
				}
			}
			if want := []string{"a/0", "a/1", "a/2", "a/3", "a/4", "a/5", "a/6"}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestSelectedPagesEndWithTheLastMatch(t *testing.T) {
	f := newFixture(t)
	for i := range 6 {
		f.create(fmt.Sprintf("a/%d", i), []string{"even", "odd"}[i%2])
	}
	page := f.list("", ListOptions{Limit: 2, Predicate: selectApp("even")})
	if page.Continue == "" || page.RemainingItemCount != nil {
		t.Errorf("continue %q, remaining %v; want a token and no count", page.Continue, page.RemainingItemCount)
	}
	page = f.list("", ListOptions{Limit: 2, Predicate: selectApp("even"), Continue: page.Continue})
	if got := keysOf(page); !slices.Equal(got, []string{"a/4"}) || page.Continue != "" {
		t.Errorf("got %v and continue %q, want the last one and none", got, page.Continue)
	}
}

// 410 Expired, with a token for those who prefer an inconsistent rest to none.
func TestCompactedPagesAreExpired(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.create(fmt.Sprintf("a/%d", i), "one")
	}
	first := f.list("", ListOptions{Limit: 2})
	last := f.relabel("a/4", "two")
	f.pods.cache.snapshots = nil
	f.compact(last.ResourceVersion)

	_, err := f.pods.List(f.ctx, "", ListOptions{Limit: 2, Continue: first.Continue})
	var compacted *CompactedContinueError
	if !errors.As(err, &compacted) || !errors.Is(err, ErrTooOld) {
		t.Fatalf("got %v, want a CompactedContinueError", err)
	}
	rest := f.list("", ListOptions{Continue: compacted.Continue})
	if got := keysOf(rest); !slices.Equal(got, []string{"a/2", "a/3", "a/4"}) || rest.ResourceVersion < last.ResourceVersion {
		t.Errorf("the inconsistent rest: %v at %d", got, rest.ResourceVersion)
	}
	_, err = f.pods.List(f.ctx, "", ListOptions{ResourceVersion: fmt.Sprint(first.ResourceVersion), ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if !errors.Is(err, ErrTooOld) {
		t.Errorf("an exact list: %v, want ErrTooOld", err)
	}
}

// A page that the cache could still give expires with etcd's history, whichever server dropped that: clients that go through a
// list slowly learn it in time, and nothing old is kept alive by asking for it.
func TestPagesOfTheCacheExpireToo(t *testing.T) {
	f := newFixture(t)
	for i := range 3 {
		f.create(fmt.Sprintf("a/%d", i), "one")
	}
	first := f.list("", ListOptions{Limit: 2}) // nothing of the kind changes from here on
	mine, other := compactor{etcd: f.hub.etcd, oldest: f.hub.config.Oldest}, compactor{etcd: f.hub.etcd, oldest: f.hub.config.Oldest}
	for _, turn := range []*compactor{&other, &other, &other, &mine} {
		if _, err := turn.turn(f.ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := f.hub.remote.Put(f.ctx, "/elsewhere", "x"); err != nil {
			t.Fatal(err)
		}
	}
	if other.known <= first.ResourceVersion || mine.known != other.known {
		t.Fatalf("compacted up to %d, of which the other knows %d; the page is of %d", other.known, mine.known, first.ResourceVersion)
	}
	if _, err := f.pods.List(f.ctx, "", ListOptions{Limit: 2, Continue: first.Continue}); err != nil {
		t.Fatalf("before this server knew: %v", err)
	}
	f.hub.compacted.Store(mine.known)
	var compacted *CompactedContinueError
	if _, err := f.pods.List(f.ctx, "", ListOptions{Limit: 2, Continue: first.Continue}); !errors.As(err, &compacted) {
		t.Errorf("got %v, want a CompactedContinueError", err)
	}
}

func (f *fixture) compact(revision int64) {
	f.Helper()
	if _, err := f.hub.remote.Compact(f.ctx, revision); err != nil {
		f.Fatal(err)
	}
}

func TestFutureRevisionsTimeOut(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	f := newFixture(t, func(c *Config) { c.Clock = clock })
	future := fmt.Sprint(f.create("a/x", "one").ResourceVersion + 100)
	for name, read := range map[string]func() error{
		"get":  func() error { _, err := f.pods.Get(f.ctx, "a/x", future); return err },
		"list": func() error { _, err := f.pods.List(f.ctx, "", ListOptions{ResourceVersion: future}); return err },
		"exact": func() error {
			_, err := f.pods.List(f.ctx, "", ListOptions{ResourceVersion: future, Limit: 1})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := clock.Waiters()
			failed := make(chan error)
			go func() { failed <- read() }()
			for clock.Waiters() == before {
				time.Sleep(time.Millisecond)
			}
			clock.Step(waitLimit)
			if err := <-failed; !errors.Is(err, ErrFutureRevision) {
				t.Errorf("got %v, want ErrFutureRevision", err)
			}
		})
	}
}

// A write to another resource, or outside of the prefix, moves every cache.
func TestReadsAreConsistentAcrossResources(t *testing.T) {
	f := newFixture(t)
	f.create("a/x", "one")
	maps := f.resource(configMapResource)
	other, err := maps.Create(f.ctx, "a/m", newConfigMap("a", "m"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if list := f.list("", ListOptions{}); list.ResourceVersion < other.ResourceVersion {
		t.Errorf("revision %d, want %d at least", list.ResourceVersion, other.ResourceVersion)
	}
	put, err := f.hub.remote.Put(f.ctx, "elsewhere", "")
	if err != nil {
		t.Fatal(err)
	}
	if list := f.list("", ListOptions{}); list.ResourceVersion < put.Header.Revision {
		t.Errorf("revision %d, want %d at least", list.ResourceVersion, put.Header.Revision)
	}
}

// Two apiservers on one etcd: what one has written the other reads at once.
func TestReadsAreConsistentAcrossServers(t *testing.T) {
	f := newFixture(t)
	other, err := f.newHub().Resource(podResource)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		key := fmt.Sprintf("a/%d", i)
		created := f.create(key, "one")
		if got, err := other.Get(f.ctx, key, ""); err != nil || got.ResourceVersion != created.ResourceVersion {
			t.Fatalf("reading %s: %v, %v", key, got, err)
		}
	}
}
