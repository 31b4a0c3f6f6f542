package storage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

func TestWritesAreReadBackAtOnce(t *testing.T) {
	f := newFixture(t)
	created := f.create("a/x", "one")
	if created.Object.(*v1.Pod).ResourceVersion != rv(created) {
		t.Errorf("the object says revision %q, its version is %d", created.Object.(*v1.Pod).ResourceVersion, created.ResourceVersion)
	}
	if _, err := f.pods.Create(f.ctx, "a/x", newPod("a", "x", nil), 0); !errors.Is(err, ErrExists) {
		t.Errorf("creating it again: %v, want ErrExists", err)
	}
	updated := f.relabel("a/x", "two")
	got, err := f.pods.Get(f.ctx, "a/x", "")
	if err != nil || got.ResourceVersion != updated.ResourceVersion || got.Labels()["app"] != "two" {
		t.Errorf("got %v, %v; want revision %d", got, err, updated.ResourceVersion)
	}
	if got != updated {
		t.Error("the watch decoded once more what the writer had decoded already")
	}
	deleted := f.delete("a/x")
	if deleted.ResourceVersion <= updated.ResourceVersion || deleted.Labels()["app"] != "two" {
		t.Errorf("deletion gave revision %d with app=%s", deleted.ResourceVersion, deleted.Labels()["app"])
	}
	if _, err := f.pods.Get(f.ctx, "a/x", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its deletion: %v, want ErrNotFound", err)
	}
}

func TestUpdatesThatChangeNothingAreNotWritten(t *testing.T) {
	f := newFixture(t)
	created := f.create("a/x", "one")
	same := f.update("a/x", func(*v1.Pod) {})
	if same.ResourceVersion != created.ResourceVersion {
		t.Errorf("revision went from %d to %d", created.ResourceVersion, same.ResourceVersion)
	}
}

func TestConcurrentUpdatesAllCount(t *testing.T) {
	f := newFixture(t)
	f.create("a/x", "0")
	const workers, times = 8, 20
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range times {
				f.update("a/x", func(p *v1.Pod) {
					n, _ := strconv.Atoi(p.Labels["app"])
					p.Labels["app"] = strconv.Itoa(n + 1)
				})
			}
		})
	}
	wg.Wait()
	got, err := f.pods.Get(f.ctx, "a/x", "")
	if err != nil || got.Labels()["app"] != fmt.Sprint(workers*times) {
		t.Errorf("got app=%s, %v; want %d", got.Labels()["app"], err, workers*times)
	}
}

func TestPreconditions(t *testing.T) {
	f := newFixture(t)
	o := f.create("a/x", "one")
	uid, old, now := types.UID("other"), "1", rv(o)
	for _, test := range []struct {
		name string
		pre  *Preconditions
		want error
	}{
		{"another uid", &Preconditions{UID: &uid}, ErrConflict},
		{"an older version", &Preconditions{ResourceVersion: &old}, ErrConflict},
		{"this version", &Preconditions{ResourceVersion: &now}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := f.pods.Delete(f.ctx, "a/x", test.pre, nil); !errors.Is(err, test.want) {
				t.Errorf("deletion: %v, want %v", err, test.want)
			}
		})
	}
	_, err := f.pods.GuaranteedUpdate(f.ctx, "a/none", nil, func(o runtime.Object, _ int64) (runtime.Object, int64, error) { return o, 0, nil })
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("updating what does not exist: %v", err)
	}
}

// Who has written finds it in the cache: admission decides by it.
func TestWritesAreInTheCacheWhenAnswered(t *testing.T) {
	f := newFixture(t)
	for i := range 50 {
		key := fmt.Sprintf("a/%d", i)
		created := f.create(key, "one")
		if o, err := f.pods.Get(f.ctx, key, "0"); err != nil || o != created {
			t.Fatalf("created: %v, %v", o, err)
		}
		f.delete(key)
		if _, err := f.pods.Get(f.ctx, key, "0"); !errors.Is(err, ErrNotFound) {
			t.Fatalf("deleted: %v", err)
		}
	}
}

// Readers share objects; one that changes what it was given must be found.
func TestMutationDetector(t *testing.T) {
	t.Setenv(mutationDetectorEnv, "true")
	f := newFixture(t)
	cache := f.resource(configMapResource).cache
	if err := f.hub.Ready(f.ctx); err != nil {
		t.Fatal(err)
	}
	put := func(name string) *Object {
		o := &Object{Key: name, Object: newConfigMap("", name), resource: cache.resource}
		cache.apply(1, []change{{key: name, object: o}})
		return o
	}
	put("good")
	cache.apply(2, []change{{key: "good"}})
	changed := put("changed")
	changed.Object.(*v1.ConfigMap).Data = map[string]string{"k": "v"}
	defer func() {
		if cause := recover(); cause == nil || !strings.Contains(fmt.Sprint(cause), "ConfigMap changed") {
			t.Errorf("got %v", cause)
		}
	}()
	cache.apply(3, []change{{key: "changed"}})
}
