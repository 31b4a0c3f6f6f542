// Package storage keeps API objects in etcd and serves them from memory. It is
// the only package that speaks to etcd, and knows nothing of HTTP, of users, or
// of what the objects mean.
//
//	Create, GuaranteedUpdate, Delete          Get, List, Watch
//	       │ encode, once                            ▲ *Object, shared
//	       ▼                                         │
//	  ┌─ resource ──────────┐               ┌─ cache ─┴───────────┐
//	  │ a transaction "if   │               │ objects by key      │
//	  │ still at revision N"│               │ history of events   │──► watcher queues
//	  └────────┬────────────┘               │ snapshots of pages  │
//	           │                            └─────────▲───────────┘
//	           ▼                                      │ changes of one revision
//	         etcd ── one watch on /registry/ ──► Hub.dispatch
//
// One watch feeds the caches of all resources. So any write to any of them moves
// every cache to its revision, and an idle resource's bookmarks and consistent
// reads cost nothing. The life of that watch is a session: `Hub.Run` opens one,
// fills every cache below it (`Hub.startLoad`), hands on changes until it is
// lost, and opens the next.
//
// A write in steps: encode the object without its resourceVersion; compare and
// put in one etcd transaction, starting from the cached object; on a conflict
// start over from what etcd has; decode what was stored, for the answer and the
// watch together; wait a moment until the caches have it.
//
// A consistent read (resourceVersion unset) in steps: ask etcd for its revision,
// one question for all who wait at that moment; wait until the hub has dispatched
// that revision; read the cache. The other resourceVersions differ in what they
// wait for: see planList, which is the table of the API concepts page.
//
// The nouns:
//
//	Object    one version of one object: decoded once, encoded at most once a form
//	value     the bytes in etcd. JSON of our own is served around two holes, kind and resourceVersion
//	revision  etcd's counter of writes, the resourceVersion of clients
//	event     one change with the state before it, so that each watcher's selection can be told
//	history   the last 75 s of events: from there a watch resumes, or else it gets 410 Expired; more, while a
//	          client is held at an older revision (Config.Oldest), and etcd is not compacted beyond it either
//	bucket    the watchers that one kind of event can interest: all, one name, one node
//	snapshot  a resource's state kept for the next pages of a list (a copy-on-write tree)
//	bookmark  an event without object: "you have seen everything up to this revision"
//
// Invariants:
//   - What is handed out is never changed; who wants to change it copies it.
//   - Caches change in the order of revisions, and never show half of one.
//   - A cache waits for nobody: a watcher that falls behind is cut, and resumes
//     from the history or lists anew.
//   - A list and a watch from its resourceVersion together miss nothing and
//     repeat nothing.
//   - An update or deletion is refused only on the strength of what etcd says,
//     never of a cache that may be behind.
//
// Read first: Interface; `apiserver/storage/hub.go:Hub.runSession`;
// `apiserver/storage/cache.go:cache.applyLocked`;
// `apiserver/storage/store.go:resource.retry`.
//
// # In Kubernetes
//
// k8s.io/apiserver/pkg/storage: etcd3/store.go (Create, GuaranteedUpdate, Delete,
// and getState there are retry here), etcd3/compact.go and lease_manager.go, and
// cacher/ (Cacher, watchCache and cacheWatcher are cache and watcher here).
// Upstream runs a watch on etcd and a Reflector per resource, asks for progress
// on each while consistent reads wait, and reads single objects from etcd.
// It has an Interface with and one without a cache; here there is no "without".
// Left out: encryption at rest (a transformer between value and etcd), which
// goes into codec; and priorities among watchers. Without the event's previous
// state, a watcher with a selector would never learn that an object has left its
// selection, and kubelets would keep running pods that are not theirs any more.
package storage
