package storage

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testingclock "k8s.io/utils/clock/testing"
)

// eventually waits for what happens by itself, soon.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// A short stop of etcd is not seen by watchers, whether it is in this process or not.
func TestWatchesSurviveARestartOfEtcd(t *testing.T) {
	t.Run("in this process", func(t *testing.T) { surviveRestart(t, newFixture(t)) })
	t.Run("over the network", func(t *testing.T) { surviveRestart(t, newFixture(t, func(c *Config) { c.Local = nil })) })
}

func surviveRestart(t *testing.T, f *fixture) {
	before := f.hub.etcd()
	w := f.watch("", WatchOptions{})
	f.create("a/x", "one")
	f.expect(w, "ADDED a/x app=one")
	f.etcd.Stop()
	if o, err := f.pods.Get(f.ctx, "a/x", "0"); err != nil || o == nil {
		t.Errorf("the cache while etcd is down: %v", err)
	}
	f.etcd.Start()
	eventually(t, "writing again", func() error {
		_, err := f.pods.Create(f.ctx, "a/y", newPod("a", "y", nil), 0)
		if errors.Is(err, ErrExists) {
			return nil
		}
		return err
	})
	f.expect(w, "ADDED a/y app=")
	f.list("", ListOptions{})
	if local := f.hub.config.Local != nil; (f.hub.etcd() != before) != local || (f.hub.session.etcd != f.hub.remote) != local {
		t.Error("after the restart it is asked in another way than before")
	}
}

// When the changes since the watch broke are gone, caches are filled anew and
// watchers, who cannot know what they missed, are told to list again.
func TestCachesAreFilledAgainAfterCompaction(t *testing.T) {
	f := newFixture(t)
	f.create("a/x", "one")
	f.create("a/y", "one")
	w := f.watch("", WatchOptions{})
	f.expect(w, "ADDED a/x app=one", "ADDED a/y app=one")

	// Behind the hub's back, an object changes, another goes, and history ends.
	f.etcd.Stop()
	f.etcd.StartAt(f.etcd.Endpoint + "2")
	client, _, err := newClient(Config{Endpoints: []string{f.etcd.Endpoint + "2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	deleted, err := client.Delete(f.ctx, "/registry/pods/a/x")
	if err != nil {
		t.Fatal(err)
	}
	later, err := client.Put(f.ctx, "elsewhere", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(f.ctx, later.Header.Revision); err != nil {
		t.Fatal(err)
	}
	f.etcd.Stop()
	f.etcd.Start()

	f.expect(w, "ERROR 410 Expired")
	eventually(t, "the list", func() error {
		list, err := f.pods.List(f.ctx, "", ListOptions{})
		if err == nil && (len(list.Items) != 1 || list.ResourceVersion < deleted.Header.Revision) {
			err = fmt.Errorf("got %v at %d", keysOf(list), list.ResourceVersion)
		}
		return err
	})
	w = f.watch("", WatchOptions{})
	f.expect(w, "ADDED a/y app=one")
	f.relabel("a/y", "two")
	f.expect(w, "MODIFIED a/y app=two")
}

// A store that was replaced by an older one is noticed by the next consistent read.
func TestCachesFollowAReplacedStore(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.create(fmt.Sprintf("a/%d", i), "one")
	}
	f.list("", ListOptions{})
	f.etcd.Stop()
	f.etcd.Wipe()
	f.etcd.Start()
	eventually(t, "an empty list", func() error {
		list, err := f.pods.List(f.ctx, "", ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("still there: %v", keysOf(list))
		}
		return err
	})
}

func TestHubWaitsForEtcd(t *testing.T) {
	f := newFixture(t)
	f.create("a/x", "one")
	f.etcd.Stop()
	clock := testingclock.NewFakeClock(time.Now())
	hub := f.newHub(func(c *Config) { c.Clock = clock })
	pods, err := hub.Resource(podResource)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() { _, err := pods.Get(f.ctx, "a/x", "0"); failed <- err }()
	for !clock.HasWaiters() {
		time.Sleep(time.Millisecond)
	}
	clock.Step(waitLimit)
	if err := <-failed; !errors.Is(err, ErrNotReady) {
		t.Errorf("without etcd: %v, want ErrNotReady", err)
	}
	f.etcd.Start()
	if err := hub.Ready(f.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(f.ctx, "a/x", ""); err != nil {
		t.Error(err)
	}
}

// CRDs come and go while the hub runs.
func TestResourcesComeAndGo(t *testing.T) {
	f := newFixture(t)
	kind := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Crontab"}
	config := ResourceConfig{Prefix: "example.com/crontabs", Kind: kind, New: func() k8sruntime.Object { return &unstructured.Unstructured{} }}
	tabs := f.resource(config)
	if _, err := f.hub.Resource(config); err == nil {
		t.Error("the same resource was added twice")
	}
	tab := &unstructured.Unstructured{}
	tab.SetGroupVersionKind(kind)
	tab.SetName("x")
	created, err := tabs.Create(f.ctx, "x", tab, 0)
	if err != nil {
		t.Fatal(err)
	}
	data, err := created.AppendJSON(nil, false)
	if want := fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Crontab","metadata":{"resourceVersion":"%d","name":"x"}}`, created.ResourceVersion); err != nil || string(data) != want {
		t.Errorf("got %s, %v; want %s", data, err, want)
	}
	w, err := tabs.Watch(f.ctx, "", WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.next(w)
	f.hub.Remove(config.Prefix)
	f.expect(w, "ERROR 410 Expired")
	tabs = f.resource(config)
	if o, err := tabs.Get(f.ctx, "x", ""); err != nil || o.ResourceVersion != created.ResourceVersion {
		t.Errorf("after it came back: %v, %v", o, err)
	}
}

// Resources below each other's prefixes are told apart: /registry/services/specs
// and /registry/services/endpoints.
func TestRoutesByTheLongestPrefix(t *testing.T) {
	h := &Hub{config: Config{Prefix: "/registry/"}, resources: map[string]*resource{}}
	for _, prefix := range []string{"services", "services/specs", "pods"} {
		h.resources[prefix] = &resource{config: ResourceConfig{Prefix: prefix}}
	}
	for key, want := range map[string]string{
		"/registry/services/specs/a/x": "services/specs", "/registry/services/a": "services",
		"/registry/pods/services/specs": "pods", "/registry/podsets/x": "", "/registry/pods": "",
	} {
		got := ""
		if r := h.route(key); r != nil {
			got = r.config.Prefix
		}
		if got != want {
			t.Errorf("%s belongs to %q, want %q", key, got, want)
		}
	}
}

// A value that cannot be read hides neither the others nor its own key's changes.
func TestUnreadableValues(t *testing.T) {
	f := newFixture(t)
	put := func(key, value string) {
		if _, err := f.hub.remote.Put(f.ctx, key, value); err != nil {
			t.Fatal(err)
		}
	}
	f.create("a/good", "one")
	put("/registry/pods/a/bad", "{")
	put("/registry/configmaps/a/bad", `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"bad"}}`)
	put("/registry/configmaps/a/good", `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"good"}}`)
	if got := keysOf(f.list("", ListOptions{})); len(got) != 1 || got[0] != "a/good" {
		t.Errorf("from the watch: %v", got)
	}
	list, err := f.resource(configMapResource).List(f.ctx, "", ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Key != "a/good" {
		t.Errorf("from the list: %v, %v", keysOf(list), err)
	}
}

// Objects that expire within a minute of each other share a lease, and an update
// keeps the one an object has.
func TestLeases(t *testing.T) {
	f := newFixture(t)
	create := func(name string, ttl int64) {
		if _, err := f.pods.Create(f.ctx, "a/"+name, newPod("a", name, map[string]string{"app": "none"}), ttl); err != nil {
			t.Fatal(err)
		}
	}
	leaseOf := func(name string) int64 {
		response, err := f.hub.remote.Get(f.ctx, "/registry/pods/a/"+name)
		if err != nil {
			t.Fatal(err)
		}
		return response.Kvs[0].Lease
	}
	create("x", 3600)
	create("y", 3600)
	create("z", 1800)
	create("ever", 0)
	if leaseOf("x") == 0 || leaseOf("x") != leaseOf("y") || leaseOf("x") == leaseOf("z") || leaseOf("ever") != 0 {
		t.Errorf("leases: x %x, y %x, z %x, ever %x", leaseOf("x"), leaseOf("y"), leaseOf("z"), leaseOf("ever"))
	}
	before := leaseOf("x")
	f.relabel("a/x", "one")
	if leaseOf("x") != before {
		t.Error("an update lost the lease")
	}
	life, err := f.hub.remote.TimeToLive(f.ctx, clientv3.LeaseID(before))
	if err != nil || life.GrantedTTL < 3600 || life.GrantedTTL > 3660 {
		t.Errorf("granted for %d s, %v", life.GrantedTTL, err)
	}
	// All that a lease held ends in one revision.
	w := f.watch("", WatchOptions{SendInitialEvents: new(bool)})
	if _, err := f.hub.remote.Revoke(f.ctx, clientv3.LeaseID(before)); err != nil {
		t.Fatal(err)
	}
	if a, b := f.next(w), f.next(w); a.ResourceVersion != b.ResourceVersion || a.Type != "DELETED" || b.Type != "DELETED" {
		t.Errorf("got %s at %d and %s at %d", describe(a), a.ResourceVersion, describe(b), b.ResourceVersion)
	}
}

// A revision can be read for one interval at least, then it is dropped.
func TestCompactorDropsWhatIsTwoTurnsOld(t *testing.T) {
	f := newFixture(t)
	mine, other := compactor{etcd: f.hub.etcd, oldest: f.hub.config.Oldest}, compactor{etcd: f.hub.etcd, oldest: f.hub.config.Oldest}
	turn := func(c *compactor) int64 {
		compacted, err := c.turn(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return compacted
	}
	if got := turn(&mine); got != 0 {
		t.Errorf("the first turn compacted up to %d", got)
	}
	seen := mine.seen
	f.create("a/x", "one")
	if got := turn(&other); got != 0 {
		t.Errorf("another server's first turn compacted up to %d", got)
	}
	if got := turn(&mine); got != seen {
		t.Errorf("the second turn compacted up to %d, want %d", got, seen)
	}
	if got := turn(&other); got != 0 {
		t.Errorf("the other's turn came too soon and compacted up to %d", got)
	}
}

func TestProtobufAndJSONAreBothRead(t *testing.T) {
	f := newFixture(t)
	f.create("a/json", "one")
	f.hub.Remove("pods")
	config := podResource
	config.MediaType = mediaTypeProtobuf
	f.pods = f.resource(config)
	created := f.create("a/proto", "two")
	if string(created.Stored()[:4]) != "k8s\x00" {
		t.Errorf("stored as %q", created.Stored()[:4])
	}
	list := f.list("", ListOptions{})
	if len(list.Items) != 2 || list.Items[0].Labels()["app"] != "one" || list.Items[1].Labels()["app"] != "two" {
		t.Errorf("read %v", keysOf(list))
	}
	same := f.update("a/json", func(*v1.Pod) {})
	if string(same.Stored()[:4]) != "k8s\x00" {
		t.Error("an update left a value in the former media type")
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	f := newFixture(t)
	if _, err := f.hub.remote.Put(f.ctx, "/registry/pods/a/x", `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x","namespace":"a"},"spec":{"containers":null}}`); err != nil {
		t.Fatal(err)
	}
	f.hub.Remove("pods")
	config := podResource
	config.Default = func(o k8sruntime.Object) { o.(*v1.Pod).Spec.RestartPolicy = "Always" }
	f.pods = f.resource(config)
	o, err := f.pods.Get(f.ctx, "a/x", "")
	if err != nil {
		t.Fatal(err)
	}
	data, err := o.AppendJSON(nil, true)
	want := fmt.Sprintf(`{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"%d","name":"x","namespace":"a"},"spec":{"containers":null,"restartPolicy":"Always"},"status":{}}`, o.ResourceVersion)
	if err != nil || string(data) != want {
		t.Errorf("got  %s\nwant %s", data, want)
	}
	if o.Object.(*v1.Pod).ResourceVersion != rv(o) {
		t.Error("making the JSON changed the object")
	}
}

// Twenty lives in one process leave nothing behind.
func TestHubsEndWithoutATrace(t *testing.T) {
	f := newFixture(t)
	f.create("a/x", "one")
	var baseline int
	for i := range 20 {
		t.Run("", func(t *testing.T) {
			g := &fixture{TB: t, ctx: t.Context(), etcd: f.etcd}
			g.hub = g.newHub()
			g.pods = g.resource(podResource)
			g.expect(g.watch("", WatchOptions{}), "ADDED a/x app=one")
		})
		if i == 0 {
			baseline = runtime.NumGoroutine()
		}
	}
	eventually(t, "goroutines", func() error {
		if n := runtime.NumGoroutine(); n > baseline+3 {
			return fmt.Errorf("%d, were %d after the first", n, baseline)
		}
		return nil
	})
}
