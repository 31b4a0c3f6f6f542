package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func pod(uid string, change func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: uid, UID: types.UID(uid)}}
	if change != nil {
		change(p)
	}
	return p
}

// S0-17: what a source says becomes the operation that the loop handles.
func TestDiff(t *testing.T) {
	grace := int64(5)
	for _, c := range []struct {
		name string
		old  *v1.Pod
		now  *v1.Pod
		want string
	}{
		{"new", nil, pod("a", nil), "ADD a"},
		{"same", pod("a", nil), pod("a", nil), ""},
		{"gone", pod("a", nil), nil, "REMOVE a"},
		{"spec", pod("a", nil), pod("a", func(p *v1.Pod) { p.Spec.NodeName = "n" }), "UPDATE a"},
		{"labels", pod("a", nil), pod("a", func(p *v1.Pod) { p.Labels = map[string]string{"x": "y"} }), "UPDATE a"},
		{"status", pod("a", nil), pod("a", func(p *v1.Pod) { p.Status.Phase = v1.PodRunning }), "RECONCILE a"},
		{"deleted", pod("a", nil), pod("a", func(p *v1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1, 0)}, &grace
		}), "DELETE a"},
		{"replaced under its name", pod("a", nil), pod("b", nil), "REMOVE a, ADD b"},
	} {
		old, now := map[types.UID]*v1.Pod{}, []*v1.Pod{}
		if c.old != nil {
			old[c.old.UID] = c.old
		}
		if c.now != nil {
			now = append(now, c.now)
		}
		var got []string
		for _, u := range diff(old, now, "api") {
			got = append(got, string(u.Op)+" "+u.Pods[0].Name)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// R71: until each source has spoken, even if to say nothing, not all is known.
func TestAllReady(t *testing.T) {
	m := NewMux(ApiserverSource, FileSource)
	m.Set(context.Background(), FileSource, nil)
	if m.AllReady() {
		t.Error("ready without the apiserver")
	}
	m.Set(context.Background(), ApiserverSource, nil)
	if !m.AllReady() {
		t.Error("not ready though all have spoken")
	}
}

// R15: a manifest becomes a pod of this node; one that is wrong does not keep others from running.
func TestReadManifests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n", "b.yaml": "kind: Service\n", ".hidden": "x", "c.yaml": "apiVersion: v1\nkind: Pod\nspek: {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := Static{Node: "N1"}
	pods, errs := s.readPath(dir)
	if len(pods) != 1 || len(errs) != 2 {
		t.Fatalf("%d pods, errors %v", len(pods), errs)
	}
	p := pods[0]
	if p.Name != "a-n1" || p.Namespace != "default" || p.Spec.NodeName != "N1" || p.UID == "" || p.Annotations["kubernetes.io/config.source"] != "file" {
		t.Errorf("pod %+v", p.ObjectMeta)
	}
	again, _ := s.readPath(dir)
	if again[0].UID != p.UID {
		t.Error("the same file is another pod the second time")
	}
}
