package storage

import (
	"bytes"
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
)

// settleTime is how long a writer waits to see its own write at most.
const settleTime = 100 * time.Millisecond

// Create implements Interface.
func (r *resource) Create(ctx context.Context, key string, obj runtime.Object, ttl int64) (*Object, error) {
	data, frozen, err := r.freeze(obj)
	if err != nil {
		return nil, fmt.Errorf("encoding %s%s: %w", r.prefix, key, err)
	}
	options, err := r.putOptions(ctx, ttl)
	if err != nil {
		return nil, err
	}
	w := r.writes.begin(key, data, frozen)
	created := clientv3.Compare(clientv3.ModRevision(r.prefix+key), "=", 0)
	answered := r.figures["create"].ask()
	began := time.Now()
	response, err := r.hub.etcd().Txn(ctx).If(created).Then(put(r.prefix+key, data, options)).Commit()
	answered(err)
	if err != nil || !response.Succeeded {
		r.writes.abandon(w)
		if err == nil {
			err = fmt.Errorf("%s%s: %w", r.prefix, key, ErrExists)
		}
		return nil, err
	}
	r.written(ctx, Written{Key: key, Revision: response.Header.Revision, Took: time.Since(began), New: data})
	return r.finish(ctx, w, response.Header.Revision)
}

// put is clientv3.OpPut without copies of the value, which nobody changes.
func put(key string, data []byte, options []clientv3.OpOption) clientv3.Op {
	op := clientv3.OpPut(key, "", options...)
	op.WithValueBytes(data)
	return op
}

// written tells who asked for it about a write.
func (r *resource) written(ctx context.Context, w Written) {
	if tell := r.hub.config.OnWrite; tell != nil {
		w.Kind, w.Prefix, w.Deleted = r.config.Kind, r.prefix, w.New == nil
		tell(ctx, w)
	}
}

// putOptions attaches a lease where the object is to expire.
func (r *resource) putOptions(ctx context.Context, ttl int64) ([]clientv3.OpOption, error) {
	if ttl == 0 {
		return nil, nil
	}
	lease, err := r.hub.leases.lease(ctx, ttl)
	if err != nil {
		return nil, fmt.Errorf("granting a lease of %d s: %w", ttl, err)
	}
	return []clientv3.OpOption{clientv3.WithLease(lease)}, nil
}

// finish returns what was written, one object for the writer and the watch.
func (r *resource) finish(ctx context.Context, w *write, revision int64) (*Object, error) {
	o, err := r.writes.finish(w, revision).decoded(r, w.key, w.data, revision)
	r.settle(ctx, revision)
	return o, err
}

// settle waits a moment for a write of our own to come back on the watch, so
// that whoever made it finds it in the caches too: in lists at "0", and in those
// by which authorization and admission decide.
func (r *resource) settle(ctx context.Context, revision int64) {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	// An error only says that the watch is slow: the write is done.
	_ = r.hub.revisions.wait(ctx, revision, timer.C)
}

// GuaranteedUpdate implements Interface. It starts from the cached object, which
// is nearly always the newest; when it turns out not to be, from etcd's.
func (r *resource) GuaranteedUpdate(ctx context.Context, key string, pre *Preconditions, update UpdateFunc) (*Object, error) {
	return r.retry(ctx, key, func(current *Object) (*Object, []clientv3.Op, *write, error) {
		if err := pre.check(current); err != nil {
			return nil, nil, nil, err
		}
		updated, ttl, err := update(current.Object.DeepCopyObject(), current.ResourceVersion)
		if err != nil {
			return nil, nil, nil, err
		}
		data, frozen, err := r.freeze(updated)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("encoding %s%s: %w", r.prefix, key, err)
		}
		if bytes.Equal(data, current.value.data) {
			return current, nil, nil, nil
		}
		options := []clientv3.OpOption{clientv3.WithIgnoreLease()} // keeps the lease the key has
		if ttl != 0 {
			if options, err = r.putOptions(ctx, ttl); err != nil {
				return nil, nil, nil, err
			}
		}
		return nil, []clientv3.Op{put(r.prefix+key, data, options)}, r.writes.begin(key, data, frozen), nil
	})
}

// Delete implements Interface.
func (r *resource) Delete(ctx context.Context, key string, pre *Preconditions, validate func(*Object) error) (*Object, error) {
	return r.retry(ctx, key, func(current *Object) (*Object, []clientv3.Op, *write, error) {
		if err := pre.check(current); err != nil {
			return nil, nil, nil, err
		}
		if validate != nil {
			if err := validate(current); err != nil {
				return nil, nil, nil, err
			}
		}
		return current, []clientv3.Op{clientv3.OpDelete(r.prefix + key)}, nil, nil
	})
}

// retry runs decide on the object under key and performs what it decided, if the
// object is still the same; else it starts over with the newer one.
//
//   - decide returns ops to perform, or none: then the object it returned is the answer.
//   - An answer without a write, or an error, is believed only of a state that
//     came from etcd. The cache may be behind: refusing an update because of a
//     label that was removed a moment ago would be wrong.
func (r *resource) retry(ctx context.Context, key string, decide func(*Object) (*Object, []clientv3.Op, *write, error)) (*Object, error) {
	var current *Object
	cached := r.cache.isReady()
	if cached {
		current = r.cache.hint(key)
	}
	for {
		if current == nil {
			cached = false
			var err error
			if current, err = r.getEtcd(ctx, key); err != nil {
				return nil, err
			}
		}
		result, ops, w, err := decide(current)
		if cached && (err != nil || len(ops) == 0) {
			newest, getErr := r.getEtcd(ctx, key)
			if getErr != nil {
				return nil, getErr
			}
			if newest.ResourceVersion == current.ResourceVersion {
				return result, err
			}
			current, cached = newest, false
			continue
		}
		if err != nil || len(ops) == 0 {
			return result, err
		}
		began := time.Now()
		revision, newest, err := r.commit(ctx, current, ops, w)
		took := time.Since(began)
		switch {
		case err != nil:
			return nil, err
		case newest != nil: // somebody else was faster
			current, cached = newest, false
		case w != nil:
			r.written(ctx, Written{Key: key, Revision: revision, Took: took, Old: current.value.data, New: w.data})
			return r.finish(ctx, w, revision)
		default:
			r.written(ctx, Written{Key: key, Revision: revision, Took: took, Old: current.value.data})
			r.settle(ctx, revision)
			return shallowGone(current, revision), nil
		}
	}
}

// commit performs ops if current is still the newest version, and returns their
// revision; else it returns the newest version.
func (r *resource) commit(ctx context.Context, current *Object, ops []clientv3.Op, w *write) (int64, *Object, error) {
	key := r.prefix + current.Key
	unchanged := clientv3.Compare(clientv3.ModRevision(key), "=", current.ResourceVersion)
	answered := r.figures["update"].ask()
	response, err := r.hub.etcd().Txn(ctx).If(unchanged).Then(ops...).Else(clientv3.OpGet(key)).Commit()
	answered(err)
	if err == nil && response.Succeeded {
		return response.Header.Revision, nil, nil
	}
	if w != nil {
		r.writes.abandon(w)
	}
	if err != nil {
		return 0, nil, err
	}
	kvs := response.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return 0, nil, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	newest, err := r.object(current.Key, kvs[0].Value, kvs[0].ModRevision)
	return 0, newest, err
}

// check reports which precondition o fails.
func (p *Preconditions) check(o *Object) error {
	if p == nil {
		return nil
	}
	accessor, err := meta.Accessor(o.Object)
	if err != nil {
		return err
	}
	if p.UID != nil && *p.UID != accessor.GetUID() {
		return fmt.Errorf("%w: UID in precondition: %v, UID in object meta: %v", ErrConflict, *p.UID, accessor.GetUID())
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != accessor.GetResourceVersion() {
		return fmt.Errorf("%w: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v",
			ErrConflict, *p.ResourceVersion, accessor.GetResourceVersion())
	}
	return nil
}

// getEtcd reads one object past the cache.
func (r *resource) getEtcd(ctx context.Context, key string) (*Object, error) {
	answered := r.figures["get"].ask()
	response, err := r.hub.etcd().Get(ctx, r.prefix+key)
	answered(err)
	if err != nil {
		return nil, err
	}
	if len(response.Kvs) == 0 {
		return nil, fmt.Errorf("%s%s: %w", r.prefix, key, ErrNotFound)
	}
	return r.object(key, response.Kvs[0].Value, response.Kvs[0].ModRevision)
}

// listEtcd reads all objects whose key starts with prefix past the cache, at
// revision (0 = the newest), and returns the revision they were read at.
func (r *resource) listEtcd(ctx context.Context, prefix string, revision int64) ([]*Object, int64, error) {
	const page = 500
	from, end := r.prefix+prefix, clientv3.GetPrefixRangeEnd(r.prefix+prefix)
	var objects []*Object
	for {
		answered := r.figures["list"].ask()
		response, err := r.hub.etcd().Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision))
		answered(err)
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = response.Header.Revision
		}
		for _, kv := range response.Kvs {
			key := string(kv.Key[len(r.prefix):])
			o, err := r.object(key, kv.Value, kv.ModRevision)
			if err != nil {
				// One value that cannot be read must not make the others unreadable.
				klog.FromContext(ctx).Error(err, "Ignoring a value in etcd", "key", string(kv.Key))
				continue
			}
			objects = append(objects, o)
		}
		if !response.More {
			return objects, revision, nil
		}
		from = string(response.Kvs[len(response.Kvs)-1].Key) + "\x00"
	}
}

// object decodes a value, unless the cache has this very version.
func (r *resource) object(key string, data []byte, revision int64) (*Object, error) {
	if o := r.cache.hint(key); o != nil && o.ResourceVersion == revision {
		return o, nil
	}
	return r.decodeObject(key, &value{data: data}, revision)
}

func (r *resource) decodeObject(key string, v *value, revision int64) (*Object, error) {
	obj, err := r.decode(v.data, revision)
	if err != nil {
		return nil, fmt.Errorf("decoding %s%s: %w", r.prefix, key, err)
	}
	return &Object{Key: key, ResourceVersion: revision, Object: obj, resource: r, value: v}, nil
}

// decodeEvent makes the change of an etcd event. A value that cannot be decoded
// counts as deleted.
func (r *resource) decodeEvent(ctx context.Context, e *clientv3.Event) change {
	key := string(e.Kv.Key[len(r.prefix):])
	if e.Type == clientv3.EventTypeDelete {
		r.writes.claim(key, nil, e.Kv.ModRevision)
		return change{key: key}
	}
	o, err := r.writes.claim(key, e.Kv.Value, e.Kv.ModRevision).decoded(r, key, e.Kv.Value, e.Kv.ModRevision)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Ignoring a value in etcd", "key", string(e.Kv.Key))
		return change{key: key}
	}
	return change{key: key, object: o}
}
