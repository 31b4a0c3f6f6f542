package garbagecollector

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// identity says where to find an object.
type identity struct {
	apiVersion, kind, namespace, name string
	uid                               types.UID
}

// node stands for an object.
type node struct {
	identity
	// virtual: named as an owner, not seen by any informer yet.
	virtual bool
	// beingDeleted: it has a deletion timestamp. deletingDependents: it waits for
	// its dependents to go (foreground); orphaning: for them to be let go.
	beingDeleted, deletingDependents, orphaning bool
	// owners is what the object says; dependents is the inverse, kept in step.
	owners     []metav1.OwnerReference
	dependents map[types.UID]*node
}

// graph knows which object depends on which. Informers of all kinds write it, at
// the same time and in no order between kinds; every method takes the lock.
type graph struct {
	mu    sync.Mutex
	nodes map[types.UID]*node
}

func newGraph() *graph { return &graph{nodes: map[types.UID]*node{}} }

// observe brings the graph up to date with an object that was seen, and returns
// the UIDs to look at.
func (g *graph) observe(id identity, object metav1.Object) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	var look []types.UID
	n, known := g.nodes[id.uid]
	if !known {
		n = &node{identity: id, dependents: map[types.UID]*node{}}
		g.nodes[id.uid] = n
	}
	if n.virtual {
		look = append(look, n.misplacedDependents(id.namespace)...)
		n.identity, n.virtual = id, false
	}
	look = append(look, g.setOwners(n, object.GetOwnerReferences())...)
	return append(look, n.transition(object)...)
}

// misplacedDependents are those that name the object as their owner from another
// namespace: it turns out that they have none.
func (n *node) misplacedDependents(namespace string) []types.UID {
	var uids []types.UID
	for uid, dependent := range n.dependents {
		if namespace != "" && dependent.namespace != namespace {
			uids = append(uids, uid)
		}
	}
	return uids
}

// transition notes what the object says of its own deletion, and returns whom
// that concerns.
func (n *node) transition(object metav1.Object) []types.UID {
	var look []types.UID
	deleting := object.GetDeletionTimestamp() != nil
	finalizers := object.GetFinalizers()
	foreground := deleting && slices.Contains(finalizers, metav1.FinalizerDeleteDependents)
	orphaning := deleting && slices.Contains(finalizers, metav1.FinalizerOrphanDependents)
	if foreground && !n.deletingDependents {
		for uid := range n.dependents {
			look = append(look, uid)
		}
	}
	if foreground && !n.deletingDependents || orphaning && !n.orphaning {
		look = append(look, n.uid)
	}
	n.beingDeleted, n.deletingDependents, n.orphaning = deleting, foreground, orphaning
	return look
}

// setOwners compares the owners with those known before.
func (g *graph) setOwners(n *node, owners []metav1.OwnerReference) []types.UID {
	var look []types.UID
	before := n.owners
	n.owners = slices.Clone(owners)
	for _, ref := range owners {
		if old := findOwner(before, ref.UID); old == nil {
			look = append(look, g.addDependent(ref, n)...)
		} else if blocks(*old) && !blocks(ref) {
			look = append(look, g.waiting(ref.UID)...)
		}
	}
	for _, ref := range before {
		if findOwner(owners, ref.UID) != nil {
			continue
		}
		look = append(look, g.waiting(ref.UID)...)
		g.removeDependent(ref.UID, n)
	}
	return look
}

// addDependent notes that n names ref as an owner. An owner that nobody has seen
// becomes a virtual node, to be asked for.
func (g *graph) addDependent(ref metav1.OwnerReference, n *node) []types.UID {
	owner, known := g.nodes[ref.UID]
	if !known {
		owner = &node{
			identity: identity{ref.APIVersion, ref.Kind, n.namespace, ref.Name, ref.UID},
			virtual:  true, dependents: map[types.UID]*node{},
		}
		g.nodes[ref.UID] = owner
	}
	owner.dependents[n.uid] = n
	switch {
	case !known:
		return []types.UID{owner.uid}
	case !owner.virtual && owner.namespace != "" && owner.namespace != n.namespace:
		return []types.UID{n.uid} // an owner of another namespace is none
	case owner.deletingDependents:
		return []types.UID{n.uid, owner.uid} // a latecomer
	}
	return nil
}

// removeDependent also forgets a virtual owner that nobody names any more.
func (g *graph) removeDependent(owner types.UID, n *node) {
	if o, ok := g.nodes[owner]; ok {
		delete(o.dependents, n.uid)
		if o.virtual && len(o.dependents) == 0 {
			delete(g.nodes, owner)
		}
	}
}

// waiting returns the owner if it waits for its dependents to go.
func (g *graph) waiting(owner types.UID) []types.UID {
	if o, ok := g.nodes[owner]; ok && o.deletingDependents {
		return []types.UID{owner}
	}
	return nil
}

// remove takes out an object that is gone. Its dependents, and owners that wait
// for it, are to be looked at.
func (g *graph) remove(uid types.UID) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := g.nodes[uid]
	if !ok {
		return nil
	}
	delete(g.nodes, uid)
	var look []types.UID
	for _, ref := range n.owners {
		look = append(look, g.waiting(ref.UID)...)
		g.removeDependent(ref.UID, n)
	}
	for dependent := range n.dependents {
		look = append(look, dependent)
	}
	return look
}

// removeVirtual takes out an owner that the API does not know at the place where
// it was looked for. Where a dependent in another namespace names it too, it is
// looked for there next.
func (g *graph) removeVirtual(id identity) []types.UID {
	g.mu.Lock()
	n, ok := g.nodes[id.uid]
	if !ok || !n.virtual {
		g.mu.Unlock()
		return nil // an informer has seen it since
	}
	var here []types.UID
	for uid, dependent := range n.dependents {
		if dependent.namespace == id.namespace {
			here = append(here, uid)
			delete(n.dependents, uid)
		}
	}
	for _, dependent := range n.dependents {
		n.namespace = dependent.namespace
		g.mu.Unlock()
		return append(here, id.uid)
	}
	g.mu.Unlock()
	return append(here, g.remove(id.uid)...)
}

// snapshot returns a copy of the node and its dependents.
func (g *graph) snapshot(uid types.UID) (node, []node, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := g.nodes[uid]
	if !ok {
		return node{}, nil, false
	}
	dependents := make([]node, 0, len(n.dependents))
	for _, dependent := range n.dependents {
		dependents = append(dependents, dependent.copy())
	}
	return n.copy(), dependents, true
}

// removeKind takes out all objects of a kind that is no longer served. What they
// owned is looked at.
func (g *graph) removeKind(apiVersion, kind string) []types.UID {
	g.mu.Lock()
	var uids []types.UID
	for uid, n := range g.nodes {
		if !n.virtual && n.apiVersion == apiVersion && n.kind == kind {
			uids = append(uids, uid)
		}
	}
	g.mu.Unlock()
	var look []types.UID
	for _, uid := range uids {
		look = append(look, g.remove(uid)...)
	}
	return look
}

func (n *node) copy() node {
	c := *n
	c.owners, c.dependents = slices.Clone(n.owners), nil
	return c
}

// blocksOwner reports whether the owner's foreground deletion waits for n.
func (n *node) blocksOwner(owner types.UID) bool {
	ref := findOwner(n.owners, owner)
	return ref != nil && blocks(*ref)
}

func blocks(ref metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

func findOwner(refs []metav1.OwnerReference, uid types.UID) *metav1.OwnerReference {
	for i := range refs {
		if refs[i].UID == uid {
			return &refs[i]
		}
	}
	return nil
}
