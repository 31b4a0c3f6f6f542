package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ResourceConfig describes one resource to keep. It may be added while the hub
// runs (a CRD's) and removed again.
type ResourceConfig struct {
	// Prefix below Config.Prefix: "pods", "services/specs", "stable.example.com/crontabs".
	Prefix string
	// Resource is its name in metrics. Default: Prefix, in the group of Kind.
	Resource schema.GroupResource
	// Kind as stored.
	Kind schema.GroupVersionKind
	// New makes an empty object: of a Go type of k8s.io/api, or *unstructured.Unstructured.
	New func() runtime.Object
	// MediaType in which values are written: "application/json" (default) or
	// "application/vnd.kubernetes.protobuf" (Go types only). Either is read.
	MediaType string
	// Default fills what the stored value lacks; nil: nothing.
	Default func(runtime.Object)
	// Fields are the selectable fields beside metadata.name and metadata.namespace; nil: none.
	Fields func(runtime.Object) fields.Set
	// Index names a field of Fields ("spec.nodeName"): lists and watches that
	// select one value of it cost what they yield, not what there is. "" = none.
	Index string
}

func (c *ResourceConfig) validate() error {
	c.Prefix = strings.Trim(c.Prefix, "/")
	if c.Resource.Empty() {
		c.Resource = schema.GroupResource{Group: c.Kind.Group, Resource: c.Prefix}
	}
	switch {
	case c.Prefix == "":
		return errors.New("a resource needs a prefix")
	case c.New == nil || c.Kind.Empty():
		return fmt.Errorf("resource %s: New and Kind are needed", c.Prefix)
	case c.Index != "" && c.Fields == nil:
		return fmt.Errorf("resource %s: index %s is not one of its fields", c.Prefix, c.Index)
	}
	return nil
}

// waitLimit is how long a reader waits for a revision that the cache has not
// reached, or for the cache to be filled.
const waitLimit = 3 * time.Second

// resource is the storage of one resource: reads from its cache, writes to etcd.
type resource struct {
	codec
	hub    *Hub
	config ResourceConfig
	prefix string // of its etcd keys: "/registry/pods/"
	cache  *cache
	writes writes
	// figures are by operation.
	figures map[string]etcdFigures
}

var _ Interface = (*resource)(nil)

// Load says how many objects there are, and how many watchers would be told of a write to the one of this name. Of those that watch
// by an indexed field none is counted: a write is for few of them.
func (r *resource) Load(name string) (objects, watchers int) {
	c := r.cache
	if objects, _ = c.size(); c.watching.Load() == 0 {
		return objects, 0
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	watchers = len(c.watchers[""])
	if name != "" {
		watchers += len(c.watchers["name/"+name])
	}
	return objects, watchers
}

func newResource(h *Hub, cfg ResourceConfig) (*resource, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	codec, err := newCodec(cfg)
	if err != nil {
		return nil, err
	}
	r := &resource{codec: codec, hub: h, config: cfg, prefix: h.config.Prefix + cfg.Prefix + "/"}
	r.cache = newCache(r, h)
	r.figures = map[string]etcdFigures{}
	for _, operation := range operations {
		r.figures[operation] = h.metrics.figuresOf(operation, cfg.Resource)
	}
	return r, nil
}

// Get implements Interface.
func (r *resource) Get(ctx context.Context, key, resourceVersion string) (*Object, error) {
	if err := r.waitFor(ctx, resourceVersion); err != nil {
		return nil, err
	}
	o, err := r.cache.get(key)
	if o != nil || err != nil {
		return o, err
	}
	return nil, fmt.Errorf("%s%s: %w", r.prefix, key, ErrNotFound)
}

// waitFor waits until the cache is filled and as new as resourceVersion asks:
// "" = as etcd is now, "0" = as it is, "N" = N at least.
func (r *resource) waitFor(ctx context.Context, resourceVersion string) error {
	revision, err := parseResourceVersion(resourceVersion)
	if err != nil {
		return err
	}
	if err := r.waitReady(ctx); err != nil {
		return err
	}
	if resourceVersion == "" {
		if revision, err = r.hub.revisions.newest(ctx); err != nil {
			return err
		}
	}
	return r.waitRevision(ctx, revision)
}

func (r *resource) waitReady(ctx context.Context) error {
	if r.cache.isReady() {
		return nil
	}
	timer := r.hub.config.Clock.NewTimer(waitLimit)
	defer timer.Stop()
	return r.cache.waitLoaded(ctx, timer.C())
}

func (r *resource) waitRevision(ctx context.Context, revision int64) error {
	if r.hub.revisions.now() >= revision {
		return nil
	}
	timer := r.hub.config.Clock.NewTimer(waitLimit)
	defer timer.Stop()
	return r.hub.revisions.wait(ctx, revision, timer.C())
}

// parseResourceVersion reads a resourceVersion; "" gives 0.
func parseResourceVersion(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	revision, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, &InvalidVersionError{Field: field.Invalid(field.NewPath("resourceVersion"), s, err.Error())}
	}
	return int64(revision), nil
}
