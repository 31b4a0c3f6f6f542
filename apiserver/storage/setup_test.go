package storage

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"hyperkube/etcd"
	"hyperkube/etcd/etcdtest"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

var podResource = ResourceConfig{
	Prefix: "pods",
	Kind:   v1.SchemeGroupVersion.WithKind("Pod"),
	New:    func() runtime.Object { return &v1.Pod{} },
	Fields: func(o runtime.Object) fields.Set { return fields.Set{"spec.nodeName": o.(*v1.Pod).Spec.NodeName} },
	Index:  "spec.nodeName",
}

var configMapResource = ResourceConfig{
	Prefix: "configmaps",
	Kind:   schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"},
	New:    func() runtime.Object { return &v1.ConfigMap{} },
}

// fixture is a hub over an etcd of its own.
type fixture struct {
	testing.TB
	ctx  context.Context
	etcd *etcdtest.Server
	hub  *Hub
	pods *resource
}

func newFixture(t testing.TB, options ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{TB: t, ctx: t.Context(), etcd: etcdtest.Start(t)}
	f.hub = f.newHub(options...)
	f.pods = f.resource(podResource)
	if err := f.hub.Ready(f.ctx); err != nil {
		t.Fatal(err)
	}
	return f
}

// newHub runs a further hub on the same etcd, as a second apiserver would.
func (f *fixture) newHub(options ...func(*Config)) *Hub {
	f.Helper()
	cfg := Config{Endpoints: []string{f.etcd.Endpoint}, Local: etcd.Local, CompactionInterval: -1}
	for _, option := range options {
		option(&cfg)
	}
	hub, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- hub.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Errorf("hub: %v", err)
		}
	})
	return hub
}

func (f *fixture) resource(cfg ResourceConfig) *resource {
	f.Helper()
	i, err := f.hub.Resource(cfg)
	if err != nil {
		f.Fatal(err)
	}
	return i.(*resource)
}

func newPod(namespace, name string, labels map[string]string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}}
}

// create stores a pod "ns/name" with label app.
func (f *fixture) create(key, app string) *Object {
	f.Helper()
	namespace, name := splitKey(key)
	o, err := f.pods.Create(f.ctx, key, newPod(namespace, name, map[string]string{"app": app}), 0)
	if err != nil {
		f.Fatal(err)
	}
	return o
}

func splitKey(key string) (namespace, name string) {
	for i := range key {
		if key[i] == '/' {
			return key[:i], key[i+1:]
		}
	}
	return "", key
}

// update changes the pod under key.
func (f *fixture) update(key string, change func(*v1.Pod)) *Object {
	f.Helper()
	o, err := f.pods.GuaranteedUpdate(f.ctx, key, nil, func(current runtime.Object, _ int64) (runtime.Object, int64, error) {
		change(current.(*v1.Pod))
		return current, 0, nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return o
}

// relabel sets label app.
func (f *fixture) relabel(key, app string) *Object {
	f.Helper()
	return f.update(key, func(p *v1.Pod) { p.Labels["app"] = app })
}

func (f *fixture) delete(key string) *Object {
	f.Helper()
	o, err := f.pods.Delete(f.ctx, key, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	return o
}

func (f *fixture) watch(prefix string, opts WatchOptions) Watcher {
	f.Helper()
	w, err := f.pods.Watch(f.ctx, prefix, opts)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(w.Stop)
	return w
}

// next returns the next event of a watch.
func (f *fixture) next(w Watcher) Event {
	f.Helper()
	select {
	case e, open := <-w.Events():
		if !open {
			f.Fatal("the watch has ended")
		}
		return e
	case <-time.After(patience):
		f.Fatal("no event came")
	}
	return Event{}
}

// expect checks the next events, written as "ADDED a/b app=x".
func (f *fixture) expect(w Watcher, want ...string) {
	f.Helper()
	for _, text := range want {
		if got := describe(f.next(w)); got != text {
			f.Fatalf("got %s, want %s", got, text)
		}
	}
}

func describe(e Event) string {
	switch {
	case e.Type == watch.Bookmark && e.InitialEventsEnd:
		return "BOOKMARK end"
	case e.Type == watch.Bookmark:
		return "BOOKMARK"
	case e.Type == watch.Error:
		return fmt.Sprintf("ERROR %d %s", e.Status.Code, e.Status.Reason)
	}
	return fmt.Sprintf("%s %s app=%s", e.Type, e.Object.Key, e.Object.Labels()["app"])
}

func selectApp(app string) Predicate {
	return Predicate{Label: labels.SelectorFromSet(labels.Set{"app": app})}
}

func selectField(name, value string) Predicate {
	return Predicate{Field: fields.OneTermEqualSelector(name, value)}
}

func rv(o *Object) string { return strconv.FormatInt(o.ResourceVersion, 10) }

func keysOf(list *List) []string {
	keys := make([]string, 0, len(list.Items))
	for _, o := range list.Items {
		keys = append(keys, o.Key)
	}
	return keys
}

type podType = v1.Pod

func newConfigMap(namespace, name string) *v1.ConfigMap {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}
