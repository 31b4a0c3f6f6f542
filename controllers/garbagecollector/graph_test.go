package garbagecollector

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/restmapper"
)

// seen is an object as an informer would say it.
func seen(g *graph, uid, namespace string, change func(*metav1.ObjectMeta), owners ...string) string {
	object := &metav1.ObjectMeta{UID: types.UID(uid), Name: uid, Namespace: namespace}
	yes := true
	for _, owner := range owners {
		object.OwnerReferences = append(object.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "K", Name: owner, UID: types.UID(owner), BlockOwnerDeletion: &yes})
	}
	if change != nil {
		change(object)
	}
	return sorted(g.observe(identity{"v1", "K", namespace, uid, types.UID(uid)}, object))
}

func sorted(uids []types.UID) string {
	slices.Sort(uids)
	return fmt.Sprint(slices.Compact(uids))
}

func deleting(finalizer string) func(*metav1.ObjectMeta) {
	return func(o *metav1.ObjectMeta) {
		o.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		o.Finalizers = []string{finalizer}
	}
}

// An owner nobody has seen is looked for, once; its end concerns its dependents.
func TestVirtualOwner(t *testing.T) {
	g := newGraph()
	if got := seen(g, "pod", "ns", nil, "rs"); got != "[rs]" {
		t.Errorf("a dependent of an unseen owner: look at %s, want the owner", got)
	}
	if got := seen(g, "pod2", "ns", nil, "rs"); got != "[]" {
		t.Errorf("a second dependent: look at %s, want none", got)
	}
	if got := seen(g, "rs", "ns", nil); got != "[]" {
		t.Errorf("the owner appears: look at %s, want none", got)
	}
	if got := sorted(g.remove("rs")); got != "[pod pod2]" {
		t.Errorf("the owner goes: look at %s, want its dependents", got)
	}
}

// The API does not know the virtual owner: its dependents are looked at. One that
// an informer has seen since is left alone.
func TestVirtualOwnerIsAbsent(t *testing.T) {
	g := newGraph()
	seen(g, "pod", "ns", nil, "rs")
	rs, _, _ := g.snapshot("rs")
	if got := sorted(g.removeVirtual(rs.identity)); got != "[pod]" {
		t.Errorf("look at %s, want the dependent", got)
	}
	seen(g, "pod3", "ns", nil, "rs3")
	rs3, _, _ := g.snapshot("rs3")
	seen(g, "rs3", "ns", nil)
	if got := sorted(g.removeVirtual(rs3.identity)); got != "[]" {
		t.Errorf("look at %s, want none: the owner was seen meanwhile", got)
	}
	if _, _, ok := g.snapshot("rs3"); !ok {
		t.Error("an owner that was seen was taken out")
	}
}

// References do not cross namespaces.
func TestOwnerOfAnotherNamespace(t *testing.T) {
	g := newGraph()
	seen(g, "owner", "one", nil)
	if got := seen(g, "child", "two", nil, "owner"); got != "[child]" {
		t.Errorf("known owner: look at %s, want the child", got)
	}
	g = newGraph()
	seen(g, "child", "two", nil, "owner")
	seen(g, "good", "one", nil, "owner")
	if got := seen(g, "owner", "one", nil); got != "[child]" {
		t.Errorf("the owner appears elsewhere: look at %s, want the child that misplaced it", got)
	}
	g = newGraph()
	seen(g, "bad", "two", nil, "owner")
	seen(g, "good", "one", nil, "owner")
	virtual, _, _ := g.snapshot("owner")
	if got := sorted(g.removeVirtual(virtual.identity)); got != "[bad owner]" {
		t.Errorf("absent in one namespace: look at %s, want its dependent there, and the owner in the other", got)
	}
	if virtual, _, _ = g.snapshot("owner"); virtual.namespace != "one" {
		t.Errorf("looked for in %q next", virtual.namespace)
	}
	if got := seen(newGraph(), "node", "", nil); got != "[]" {
		t.Errorf("cluster-scoped: %s", got)
	}
}

// Foreground: the dependents are looked at, then, when one goes, the owner.
func TestForeground(t *testing.T) {
	g := newGraph()
	seen(g, "rs", "ns", nil)
	seen(g, "a", "ns", nil, "rs")
	seen(g, "b", "ns", nil, "rs")
	if got := seen(g, "rs", "ns", deleting(metav1.FinalizerDeleteDependents)); got != "[a b rs]" {
		t.Errorf("look at %s, want all", got)
	}
	if got := seen(g, "rs", "ns", deleting(metav1.FinalizerDeleteDependents)); got != "[]" {
		t.Errorf("again: look at %s, want none", got)
	}
	if got := seen(g, "late", "ns", nil, "rs"); got != "[late rs]" {
		t.Errorf("a latecomer: look at %s, want it and the owner", got)
	}
	if got := sorted(g.remove("a")); got != "[rs]" {
		t.Errorf("one has gone: look at %s, want the owner", got)
	}
	unblock := func(o *metav1.ObjectMeta) { o.OwnerReferences[0].BlockOwnerDeletion = nil }
	if got := seen(g, "b", "ns", unblock, "rs"); got != "[rs]" {
		t.Errorf("one blocks no longer: look at %s, want the owner", got)
	}
	if got := seen(g, "late", "ns", nil); got != "[rs]" {
		t.Errorf("one has another owner now: look at %s, want the former", got)
	}
}

// Orphaning is the owner's business.
func TestOrphan(t *testing.T) {
	g := newGraph()
	seen(g, "rs", "ns", nil)
	seen(g, "a", "ns", nil, "rs")
	if got := seen(g, "rs", "ns", deleting(metav1.FinalizerOrphanDependents)); got != "[rs]" {
		t.Errorf("look at %s, want the owner", got)
	}
	n, dependents, _ := g.snapshot("rs")
	if !n.orphaning || len(dependents) != 1 || !dependents[0].blocksOwner("rs") {
		t.Errorf("snapshot %+v with %v", n, dependents)
	}
}

// A virtual owner that nobody names any more is forgotten: it would stay for ever.
func TestVirtualOwnerIsForgotten(t *testing.T) {
	g := newGraph()
	seen(g, "a", "ns", nil, "rs")
	seen(g, "a", "ns", nil)
	if len(g.nodes) != 1 {
		t.Errorf("%d nodes, want 1", len(g.nodes))
	}
}

// Of each resource one version, the preferred one where that has it; no
// subresources, no events, nothing that cannot be watched.
func TestDeletableKinds(t *testing.T) {
	all := metav1.Verbs{"get", "list", "watch", "delete"}
	groups := []*restmapper.APIGroupResources{{
		Group: metav1.APIGroup{Name: "g", PreferredVersion: metav1.GroupVersionForDiscovery{Version: "v1"},
			Versions: []metav1.GroupVersionForDiscovery{{Version: "v1"}, {Version: "v1beta1"}}},
		VersionedResources: map[string][]metav1.APIResource{
			"v1":      {{Name: "things", Kind: "Thing", Verbs: all}, {Name: "things/status", Kind: "Thing", Verbs: all}, {Name: "reviews", Kind: "Review", Verbs: metav1.Verbs{"create"}}},
			"v1beta1": {{Name: "things", Kind: "Thing", Verbs: all}, {Name: "olds", Kind: "Old", Verbs: all}},
		},
	}, {
		Group:              metav1.APIGroup{PreferredVersion: metav1.GroupVersionForDiscovery{Version: "v1"}},
		VersionedResources: map[string][]metav1.APIResource{"v1": {{Name: "events", Kind: "Event", Verbs: all}}},
	}}
	var got []string
	for gvr := range deletableKinds(groups) {
		got = append(got, gvr.Version+"/"+gvr.Resource)
	}
	slices.Sort(got)
	if fmt.Sprint(got) != "[v1/things v1beta1/olds]" {
		t.Errorf("kinds %v", got)
	}
}
