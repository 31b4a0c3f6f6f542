package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
)

// What a watcher sees depends on whether the object matched before and matches now.
func TestSeenBy(t *testing.T) {
	one, two := NewObject("a/x", newPod("a", "x", map[string]string{"app": "one"})), NewObject("a/x", newPod("a", "x", map[string]string{"app": "two"}))
	for name, test := range map[string]struct {
		previous, object *Object
		deleted          bool
		want             watch.EventType
		app              string
	}{
		"created, matches":       {nil, one, false, watch.Added, "one"},
		"created, does not":      {nil, two, false, "", ""},
		"changed, both match":    {one, one, false, watch.Modified, "one"},
		"changed, starts to":     {two, one, false, watch.Added, "one"},
		"changed, ceases to":     {one, two, false, watch.Deleted, "one"},
		"changed, neither":       {two, two, false, "", ""},
		"deleted, had matched":   {one, one, true, watch.Deleted, "one"},
		"deleted, had not":       {two, two, true, "", ""},
		"deleted after no match": {two, two, true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := &event{revision: 9, previous: test.previous, object: test.object, deleted: test.deleted}
			got, ok := e.seenBy(selectApp("one"))
			if got.Type != test.want || ok != (test.want != "") {
				t.Fatalf("got %s, want %s", got.Type, test.want)
			}
			if !ok {
				return
			}
			if got.Object.Labels()["app"] != test.app || got.ResourceVersion != 9 {
				t.Errorf("got app=%s at %d, want app=%s at 9", got.Object.Labels()["app"], got.ResourceVersion, test.app)
			}
			if got.Type == watch.Deleted && got.Object.Object.(*podType).ResourceVersion != "9" {
				t.Errorf("the deleted object says %s, want the revision of the change", got.Object.Object.(*podType).ResourceVersion)
			}
		})
	}
}

func TestWatchStarts(t *testing.T) {
	// Revision 1 is that of an empty etcd.
	const first, second = "2", "3"
	yes, no := ptr.To(true), ptr.To(false)
	notOlder := metav1.ResourceVersionMatchNotOlderThan
	for name, test := range map[string]struct {
		opts WatchOptions
		want []string
	}{
		"unset":                  {WatchOptions{}, []string{"ADDED a/x app=one", "ADDED a/y app=one"}},
		"0":                      {WatchOptions{ResourceVersion: "0"}, []string{"ADDED a/x app=one", "ADDED a/y app=one"}},
		"after the first":        {WatchOptions{ResourceVersion: first}, []string{"ADDED a/y app=one"}},
		"after the second":       {WatchOptions{ResourceVersion: second}, nil},
		"initial events":         {WatchOptions{SendInitialEvents: yes, ResourceVersionMatch: notOlder, AllowWatchBookmarks: true}, []string{"ADDED a/x app=one", "ADDED a/y app=one", "BOOKMARK end"}},
		"initial events since 0": {WatchOptions{ResourceVersion: "0", SendInitialEvents: yes, ResourceVersionMatch: notOlder, AllowWatchBookmarks: true}, []string{"ADDED a/x app=one", "ADDED a/y app=one", "BOOKMARK end"}},
		"initial events since N": {WatchOptions{ResourceVersion: first, SendInitialEvents: yes, ResourceVersionMatch: notOlder, AllowWatchBookmarks: true}, []string{"ADDED a/x app=one", "ADDED a/y app=one", "BOOKMARK end"}},
		"without bookmarks":      {WatchOptions{SendInitialEvents: yes, ResourceVersionMatch: notOlder}, []string{"ADDED a/x app=one", "ADDED a/y app=one"}},
		"no initial events":      {WatchOptions{SendInitialEvents: no}, nil},
		"none since 0":           {WatchOptions{ResourceVersion: "0", SendInitialEvents: no}, nil},
		"none since N":           {WatchOptions{ResourceVersion: first, SendInitialEvents: no}, []string{"ADDED a/y app=one"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.create("a/x", "one")
			f.create("a/y", "one")
			f.list("", ListOptions{}) // after which "0" has both
			w := f.watch("", test.opts)
			f.expect(w, test.want...)
			third := f.create("a/z", "one")
			f.expect(w, "ADDED a/z app=one")
			f.delete("a/z")
			gone := f.next(w)
			if gone.Type != watch.Deleted || gone.ResourceVersion <= third.ResourceVersion || gone.Object.ResourceVersion != gone.ResourceVersion {
				t.Errorf("got %s at %d, the object was created at %d", describe(gone), gone.ResourceVersion, third.ResourceVersion)
			}
		})
	}
}

func TestWatchersSeeTheirShare(t *testing.T) {
	f := newFixture(t)
	all := f.watch("", WatchOptions{})
	namespace := f.watch("b/", WatchOptions{})
	label := f.watch("", WatchOptions{Predicate: selectApp("one")})
	node := f.watch("", WatchOptions{Predicate: selectField("spec.nodeName", "n1")})
	name := f.watch("a/", WatchOptions{Predicate: selectField("metadata.name", "y")})

	f.create("a/x", "one")
	f.create("b/x", "two")
	f.create("a/y", "two")
	f.update("a/x", func(p *podType) { p.Spec.NodeName = "n1" })
	f.relabel("a/x", "two")
	f.update("a/x", func(p *podType) { p.Spec.NodeName = "n2" })
	f.delete("a/y")

	f.expect(all, "ADDED a/x app=one", "ADDED b/x app=two", "ADDED a/y app=two", "MODIFIED a/x app=one",
		"MODIFIED a/x app=two", "MODIFIED a/x app=two", "DELETED a/y app=two")
	f.expect(namespace, "ADDED b/x app=two")
	f.expect(label, "ADDED a/x app=one", "MODIFIED a/x app=one", "DELETED a/x app=one")
	f.expect(node, "ADDED a/x app=one", "MODIFIED a/x app=two", "DELETED a/x app=two")
	f.expect(name, "ADDED a/y app=two", "DELETED a/y app=two")
}

// All watchers get the same *Object, so that what is encoded for one serves all.
func TestWatchersShareObjects(t *testing.T) {
	f := newFixture(t)
	one, two := f.watch("", WatchOptions{}), f.watch("a/", WatchOptions{Predicate: selectApp("one")})
	created := f.create("a/x", "one")
	if a, b := f.next(one), f.next(two); a.Object != b.Object || a.Object != created {
		t.Error("an object was decoded more than once")
	}
}

func TestWatchFromForgottenRevisionsIsExpired(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	f := newFixture(t, func(c *Config) { c.Clock = clock })
	before := f.create("a/x", "0")
	var middle *Object
	for i := range 2 * minHistory {
		o := f.relabel("a/x", fmt.Sprint(i+1))
		if i == minHistory+20 {
			middle = o
		}
	}
	f.list("", ListOptions{}) // the cache has them all
	f.expect(f.watch("", WatchOptions{ResourceVersion: rv(before)}), "MODIFIED a/x app=1")

	clock.Step(historyTime + time.Second)
	f.relabel("a/x", "last")
	f.list("", ListOptions{})
	f.expect(f.watch("", WatchOptions{ResourceVersion: rv(before)}), "ERROR 410 Expired")
	f.expect(f.watch("", WatchOptions{ResourceVersion: rv(middle)}), fmt.Sprintf("MODIFIED a/x app=%d", minHistory+22))
}

func TestFutureWatchSkips(t *testing.T) {
	f := newFixture(t)
	now := f.create("a/x", "one")
	w := f.watch("", WatchOptions{ResourceVersion: fmt.Sprint(now.ResourceVersion + 1)})
	f.create("a/y", "one")
	f.create("a/z", "one")
	f.expect(w, "ADDED a/z app=one")
}

func TestBookmarks(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	f := newFixture(t, func(c *Config) { c.Clock = clock })
	f.create("a/x", "one")
	waiters := clock.Waiters()
	with := f.watch("", WatchOptions{AllowWatchBookmarks: true, Predicate: selectApp("one")})
	without := f.watch("", WatchOptions{})
	f.expect(with, "ADDED a/x app=one")
	f.expect(without, "ADDED a/x app=one")
	unseen := f.create("a/y", "two")
	f.list("", ListOptions{})
	for clock.Waiters() < waiters+2 {
		time.Sleep(time.Millisecond) // until both have set their timers
	}
	clock.Step(bookmarkInterval)
	if got := f.next(with); describe(got) != "BOOKMARK" || got.ResourceVersion < unseen.ResourceVersion {
		t.Errorf("got %s at %d, want a bookmark at %d or later", describe(got), got.ResourceVersion, unseen.ResourceVersion)
	}
	f.relabel("a/x", "two")
	f.expect(without, "ADDED a/y app=two", "MODIFIED a/x app=two")
}

func TestBookmarkBeforeTheEnd(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(f.ctx, lastBookmark+300*time.Millisecond)
	defer cancel()
	w, err := f.pods.Watch(ctx, "", WatchOptions{AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	f.expect(w, "BOOKMARK")
	cancel()
	for range w.Events() {
		t.Error("an event after the end")
	}
}

// A client that does not read must not hold up the others (nor fill the memory).
func TestSlowWatcherIsCut(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxPending = 50 })
	slow, quick := f.watch("", WatchOptions{}), f.watch("", WatchOptions{})
	f.create("a/x", "0")
	f.expect(quick, "ADDED a/x app=0")
	const writes = 200
	for i := range writes {
		f.relabel("a/x", fmt.Sprint(i))
		if i > 0 { // the first changes nothing
			f.expect(quick, fmt.Sprintf("MODIFIED a/x app=%d", i))
		}
	}
	got := 0
	for range slow.Events() {
		got++
	}
	if got >= writes {
		t.Errorf("the slow watcher got %d events of %d and was not cut", got, writes)
	}
	f.relabel("a/x", "last")
	f.expect(quick, "MODIFIED a/x app=last")
}

// The contract on which every informer rests: a list and a watch from its
// resourceVersion miss nothing and repeat nothing, also for a selection of the
// objects, and while everything changes.
func TestListAndWatchMakeOneStory(t *testing.T) {
	f := newFixture(t)
	apps := []string{"one", "two"}
	var writers, informers sync.WaitGroup
	for id := range 4 {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(id)))
			for range 150 {
				key := fmt.Sprintf("a/%d-%d", id, random.IntN(5)) // no other writer has it
				app := apps[random.IntN(len(apps))]
				switch _, err := f.pods.Get(f.ctx, key, ""); {
				case err != nil:
					f.create(key, app)
				case random.IntN(3) == 0:
					f.delete(key)
				default:
					f.relabel(key, app)
				}
			}
		})
	}
	done := make(chan struct{})
	for id := range 8 {
		informers.Go(func() {
			for round := 0; ; round++ {
				last := false
				select {
				case <-done:
					last = true // this round's list has the final state
				default:
				}
				p := []Predicate{{}, selectApp("one")}[(id+round)%2]
				if err := f.informer(p, []string{"", "0"}[id%2], last); err != nil {
					t.Errorf("informer %d, round %d: %v", id, round, err)
					return
				}
				if last {
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	informers.Wait()
}

// informer lists, follows for some events, and checks that they continue the list.
func (f *fixture) informer(p Predicate, resourceVersion string, last bool) error {
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	list, err := f.pods.List(ctx, "", ListOptions{ResourceVersion: resourceVersion, Predicate: p})
	if err != nil {
		return err
	}
	objects := map[string]*Object{}
	for _, o := range list.Items {
		objects[o.Key] = o
	}
	if last {
		return nil
	}
	w, err := f.pods.Watch(ctx, "", WatchOptions{ResourceVersion: fmt.Sprint(list.ResourceVersion), Predicate: p})
	if err != nil {
		return err
	}
	revision := list.ResourceVersion
	for range 20 {
		select {
		case e := <-w.Events():
			_, known := objects[e.Object.Key]
			switch {
			case e.ResourceVersion <= revision:
				return fmt.Errorf("%s at %d after %d", describe(e), e.ResourceVersion, revision)
			case known != (e.Type != watch.Added):
				return fmt.Errorf("%s at %d, known: %v", describe(e), e.ResourceVersion, known)
			case e.Type == watch.Deleted:
				delete(objects, e.Object.Key)
			default:
				objects[e.Object.Key] = e.Object
			}
			revision = e.ResourceVersion
		case <-time.After(50 * time.Millisecond): // the writers have finished
		}
	}
	cancel()
	// What was followed is what was there then.
	then, err := f.pods.List(f.ctx, "", ListOptions{ResourceVersion: fmt.Sprint(revision), ResourceVersionMatch: metav1.ResourceVersionMatchExact, Predicate: p})
	if err != nil {
		return err
	}
	if len(then.Items) != len(objects) {
		return fmt.Errorf("followed to %d objects at %d, where there were %d", len(objects), revision, len(then.Items))
	}
	for _, o := range then.Items {
		if objects[o.Key] == nil || objects[o.Key].ResourceVersion != o.ResourceVersion {
			return fmt.Errorf("%s at %d differs", o.Key, revision)
		}
	}
	return nil
}
