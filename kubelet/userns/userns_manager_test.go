package userns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func manager(dir string, max int) *Manager {
	return NewManager(Config{PodsDir: dir, MaxPods: max, Supported: func(handler string) bool { return handler == "" }})
}

// pod makes a pod with its directory; own says what its hostUsers is not.
func pod(t *testing.T, dir string, uid types.UID, own bool) *v1.Pod {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, string(uid)), 0o755); err != nil {
		t.Fatal(err)
	}
	p := &v1.Pod{}
	host := !own
	p.UID, p.Spec.HostUsers = uid, &host
	return p
}

func first(t *testing.T, m *Manager, p *v1.Pod) uint32 {
	t.Helper()
	users, err := m.GetOrCreateUserNamespaceMappings(p, "")
	if err != nil {
		t.Fatal(err)
	}
	if users.Mode != runtimeapi.NamespaceMode_POD || len(users.Uids) != 1 || users.Uids[0].Length != 65536 || users.Uids[0].ContainerId != 0 {
		t.Fatalf("%v", users)
	}
	return users.Uids[0].HostId
}

// KEP-127: ranges do not overlap, are kept for a pod's life and across restarts, and come back.
func TestRangesAreAPodsAlone(t *testing.T) {
	dir := t.TempDir()
	m := manager(dir, 2)
	a, b, c := pod(t, dir, "a", true), pod(t, dir, "b", true), pod(t, dir, "c", true)
	if first(t, m, a) != 65536 || first(t, m, b) != 2*65536 || first(t, m, a) != 65536 {
		t.Error("two pods do not have the first two ranges")
	}
	m = manager(dir, 2) // a new kubelet
	if first(t, m, b) != 2*65536 {
		t.Error("b has lost its range in a restart")
	}
	if _, err := m.GetOrCreateUserNamespaceMappings(c, ""); err == nil || !strings.Contains(err.Error(), "could not find an empty slot") {
		t.Errorf("a third of two ranges: %v", err)
	}
	m.Release("a")
	if got := first(t, m, c); got != 65536 {
		t.Errorf("c got %d, not the range that a gave back", got)
	}
}

func TestWhoSharesTheNodesUsers(t *testing.T) {
	dir := t.TempDir()
	m := manager(dir, 2)
	unset := pod(t, dir, "a", true)
	unset.Spec.HostUsers = nil
	for _, p := range []*v1.Pod{unset, pod(t, dir, "b", false)} {
		users, err := m.GetOrCreateUserNamespaceMappings(p, "")
		if err != nil || users.Mode != runtimeapi.NamespaceMode_NODE || len(users.Uids) > 0 {
			t.Errorf("%s: %v %v", p.UID, users, err)
		}
	}
	_, err := m.GetOrCreateUserNamespaceMappings(pod(t, dir, "c", true), "other")
	if err == nil || err.Error() != "can't set `spec.hostUsers: false`, RuntimeClass handler \"other\" does not support user namespaces" {
		t.Errorf("a handler without: %v", err)
	}
}

// What a range is given by cannot be read: none is given, or two pods might share one.
func TestAnUnreadableFileStopsTheGiving(t *testing.T) {
	dir := t.TempDir()
	broken := pod(t, dir, "a", true)
	os.WriteFile(filepath.Join(dir, "a", "userns"), []byte(`{"uidMappings":[{"hostId":7}]}`), 0o600)
	m := manager(dir, 2)
	for _, p := range []*v1.Pod{broken, pod(t, dir, "b", true)} {
		if _, err := m.GetOrCreateUserNamespaceMappings(p, ""); err == nil {
			t.Errorf("%s has a range", p.UID)
		}
	}
}
