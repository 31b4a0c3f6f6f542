package storage

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Interface is the storage of one resource: what the generic store of
// apiserver/registry asks for, answered by the watch cache (reads that allow
// it, all watches) and by etcd (writes, and reads that must be exact).
//
// Invariants:
//   - An *Object handed out is shared by every reader and is never changed: deep
//     copy its Object before changing anything, kind and apiVersion included.
//   - A write is answered only after etcd has committed it.
//   - Keys are below the resource's prefix: "<namespace>/<name>", or "<name>".
type Interface interface {
	// Create stores obj under key; ErrExists when the key is taken. ttl is in
	// seconds; 0 keeps the object for ever. obj is not changed; what is returned
	// is what was stored, decoded anew.
	Create(ctx context.Context, key string, obj runtime.Object, ttl int64) (*Object, error)

	// Get reads one object. resourceVersion: "" = consistent with etcd, "0" =
	// whatever the cache has, "N" = the cache once it has seen revision N.
	Get(ctx context.Context, key, resourceVersion string) (*Object, error)

	// List reads the objects whose key starts with prefix ("" = all, "ns/" =
	// one namespace) with the resourceVersion semantics of the API concepts page.
	List(ctx context.Context, prefix string, opts ListOptions) (*List, error)

	// Watch streams the changes below prefix. It ends when ctx does, when the
	// watcher is too slow (it is cut, never waited for), or with an ERROR event.
	// Where ctx has a deadline (timeoutSeconds), a bookmark precedes it by 2 s.
	Watch(ctx context.Context, prefix string, opts WatchOptions) (Watcher, error)

	// GuaranteedUpdate reads the object, hands a deep copy to update, and writes
	// what update returns if the object has not changed meanwhile; else it
	// starts over with the newer object. An unchanged object is not written.
	GuaranteedUpdate(ctx context.Context, key string, pre *Preconditions, update UpdateFunc) (*Object, error)

	// Delete removes the object if pre and validate (may be nil) allow it, and
	// returns its last state, bearing the revision of the deletion.
	Delete(ctx context.Context, key string, pre *Preconditions, validate func(*Object) error) (*Object, error)
}

// UpdateFunc changes current (its own copy) and returns what is to be stored.
// It may be called more than once. rv is current's resourceVersion. A ttl of
// 0 keeps the object's present lease. Returning an error ends the update with it.
type UpdateFunc func(current runtime.Object, rv int64) (updated runtime.Object, ttl int64, err error)

// Preconditions must hold at the moment of a write; ErrConflict otherwise.
type Preconditions struct {
	UID             *types.UID
	ResourceVersion *string
}

// Predicate chooses objects by labels and by the resource's selectable fields.
type Predicate struct {
	Label labels.Selector
	Field fields.Selector
}

// ListOptions are the options of a list, already checked by the endpoint.
type ListOptions struct {
	ResourceVersion      string
	ResourceVersionMatch metav1.ResourceVersionMatch
	Predicate            Predicate
	Limit                int64
	Continue             string
}

// List is the answer to a list. Items are in key order.
type List struct {
	Items              []*Object
	ResourceVersion    int64
	Continue           string
	RemainingItemCount *int64
}

// WatchOptions are the options of a watch.
type WatchOptions struct {
	ResourceVersion      string
	ResourceVersionMatch metav1.ResourceVersionMatch
	Predicate            Predicate
	AllowWatchBookmarks  bool
	SendInitialEvents    *bool
	// Started is called when all that was before the watch has been handed out; may be nil.
	Started func()
}

// Watcher is one open watch. Events is closed when the watch has ended.
type Watcher interface {
	Events() <-chan Event
	Stop()
}

// Event is one change as a watcher sees it after its predicate: an object that
// starts to match is ADDED, one that ceases to match is DELETED. BOOKMARK
// events carry no Object, only ResourceVersion (InitialEventsEnd marks the one that
// ends the initial events). ERROR events carry Status.
type Event struct {
	Type             watch.EventType
	Object           *Object
	ResourceVersion  int64
	InitialEventsEnd bool
	Status           *metav1.Status
}
