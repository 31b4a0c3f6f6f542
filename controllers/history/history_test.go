package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	appslisters "k8s.io/client-go/listers/apps/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

var (
	kind     = appsv1.SchemeGroupVersion.WithKind("StatefulSet")
	resource = appsv1.Resource("controllerrevisions")
	dbLabels = map[string]string{"app": "db"}
)

func template(image string) *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: dbLabels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
}

func ownerOf(image string) Owner {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "1"}}
	return Owner{Object: set, Selector: &metav1.LabelSelector{MatchLabels: dbLabels}, Template: template(image),
		Fresh: func(context.Context) (metav1.Object, error) { return set, nil }}
}

// revision is one of the set's, changed by each of edits.
func revision(name, image string, number int64, edits ...func(*appsv1.ControllerRevision)) *appsv1.ControllerRevision {
	data, _ := templatePatch(template(image))
	r := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: dbLabels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ownerOf(image).Object, kind)}},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}
	for _, edit := range edits {
		edit(r)
	}
	return r
}

func another(r *appsv1.ControllerRevision) { r.OwnerReferences[0].UID = "2" }
func orphan(r *appsv1.ControllerRevision)  { r.OwnerReferences = nil }
func unlike(r *appsv1.ControllerRevision)  { r.Labels = map[string]string{"app": "web"} }
func abroad(r *appsv1.ControllerRevision)  { r.Namespace = "abroad" }
func older(r *appsv1.ControllerRevision)   { r.CreationTimestamp = metav1.NewTime(time.Unix(1, 0)) }
func leaving(r *appsv1.ControllerRevision) {
	r.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)}
}
func createdAt(r *appsv1.ControllerRevision) { r.CreationTimestamp = metav1.NewTime(time.Unix(2, 0)) }

// writes are the client's, as "verb name".
func writes(client *fake.Clientset) (all []string) {
	for _, action := range client.Actions() {
		switch a := action.(type) {
		case clienttesting.PatchAction:
			all = append(all, "patch "+a.GetName())
		case clienttesting.DeleteAction:
			all = append(all, "delete "+a.GetName())
		case clienttesting.UpdateAction: // a create has the same methods
			r := a.GetObject().(*appsv1.ControllerRevision)
			all = append(all, fmt.Sprintf("%s %s=%d", a.GetVerb(), r.Name, r.Revision))
		}
	}
	return all
}

func names(revisions []*appsv1.ControllerRevision) (all []string) {
	for _, r := range revisions {
		all = append(all, r.Name)
	}
	return all
}

func TestControlledHistories(t *testing.T) {
	gone := func(context.Context) (metav1.Object, error) { return nil, apierrors.NewNotFound(resource, "db") }
	successor := func(context.Context) (metav1.Object, error) {
		return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "9"}}, nil
	}
	for _, test := range []struct {
		name         string
		cached       []*appsv1.ControllerRevision
		fresh        func(context.Context) (metav1.Object, error)
		want, writes []string
		fails        bool
	}{
		{name: "none"},
		{name: "by number, then age, then name", want: []string{"d", "c", "a", "b"},
			cached: []*appsv1.ControllerRevision{revision("b", "1", 2, createdAt), revision("a", "1", 2, createdAt), revision("c", "1", 2, older), revision("d", "1", 1, createdAt)}},
		{name: "another's, and one elsewhere", cached: []*appsv1.ControllerRevision{revision("a", "1", 1, another), revision("b", "1", 1, abroad)}},
		{name: "an orphan is adopted", cached: []*appsv1.ControllerRevision{revision("a", "1", 1, orphan)}, want: []string{"a"}, writes: []string{"patch a"}},
		{name: "an orphan that is not selected", cached: []*appsv1.ControllerRevision{revision("a", "1", 1, orphan, unlike)}},
		{name: "an orphan that is being deleted", cached: []*appsv1.ControllerRevision{revision("a", "1", 1, orphan, leaving)}},
		{name: "its own, not selected any more, is released", cached: []*appsv1.ControllerRevision{revision("a", "1", 1, unlike)}, writes: []string{"patch a"}},
		{name: "an owner that is gone adopts nothing", cached: []*appsv1.ControllerRevision{revision("a", "1", 1, orphan)}, fresh: successor, fails: true},
		{name: "its own are known though an adoption fails", cached: []*appsv1.ControllerRevision{revision("a", "1", 1, orphan), revision("b", "1", 2)}, fresh: successor, want: []string{"b"}, fails: true},
		// The queue would otherwise retry a key for ever whose object is no more.
		{name: "an owner that the API does not know", cached: []*appsv1.ControllerRevision{revision("a", "1", 1, orphan)}, fresh: gone},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
			for _, r := range test.cached {
				_ = client.Tracker().Add(r.DeepCopy())
				_ = indexer.Add(r)
			}
			owner := ownerOf("1")
			if test.fresh != nil {
				owner.Fresh = test.fresh
			}
			got, err := History{client, appslisters.NewControllerRevisionLister(indexer), kind}.ControlledHistories(t.Context(), owner)
			if !slices.Equal(names(got), test.want) || (err != nil) != test.fails {
				t.Errorf("revisions %q, error %v; want %q, an error: %v", names(got), err, test.want, test.fails)
			}
			if all := writes(client); !slices.Equal(all, test.writes) {
				t.Errorf("writes %q, want %q", all, test.writes)
			}
			for _, r := range got { // in the API too, after an adoption
				if stored, err := client.AppsV1().ControllerRevisions("ns").Get(t.Context(), r.Name, metav1.GetOptions{}); err != nil || !metav1.IsControlledBy(stored, owner.Object) {
					t.Errorf("revision %s is owned by %v, error %v", r.Name, stored.OwnerReferences, err)
				}
			}
		})
	}
}

func TestUpdateRevision(t *testing.T) {
	data, _ := templatePatch(template("2"))
	first, second := "db-"+hashOf(data, new(int32)), "db-"+hashOf(data, func() *int32 { one := int32(1); return &one }())
	conflict, down := apierrors.NewConflict(resource, first, nil), errors.New("no answer")
	for _, test := range []struct {
		name       string
		known      []*appsv1.ControllerRevision
		stored     []*appsv1.ControllerRevision // in the API, and not known yet
		refuse     error                        // what the API answers to writes
		want       string
		writes     []string
		collisions int32
	}{
		{name: "the first", want: first, writes: []string{"create " + first + "=1"}},
		{name: "the latest is the same", known: []*appsv1.ControllerRevision{revision("a", "1", 1), revision("b", "2", 4)}, want: "b"},
		{name: "a new template", known: []*appsv1.ControllerRevision{revision("a", "1", 4)}, want: first, writes: []string{"create " + first + "=5"}},
		{name: "undone: the newest of the same gets the highest number", want: "b", writes: []string{"update b=6"},
			known: []*appsv1.ControllerRevision{revision("a", "2", 1), revision("b", "2", 2), revision("c", "3", 5)}},
		{name: "its own, made by a turn before", stored: []*appsv1.ControllerRevision{revision(first, "2", 1)}, want: first, writes: []string{"create " + first + "=1"}},
		{name: "another's of the name and data", stored: []*appsv1.ControllerRevision{revision(first, "2", 1, another)}, want: second,
			writes: []string{"create " + first + "=1", "create " + second + "=1"}, collisions: 1},
		{name: "two templates of one hash", stored: []*appsv1.ControllerRevision{revision(first, "3", 1)}, want: second,
			writes: []string{"create " + first + "=1", "create " + second + "=1"}, collisions: 1},
		{name: "conflict", known: []*appsv1.ControllerRevision{revision("b", "2", 2), revision("c", "3", 5)}, refuse: conflict, writes: []string{"update b=6"}},
		{name: "no answer", refuse: down, writes: []string{"create " + first + "=1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			for _, r := range append(slices.Clone(test.known), test.stored...) {
				_ = client.Tracker().Add(r.DeepCopy())
			}
			if test.refuse != nil {
				client.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.refuse })
			}
			var collisions int32
			got, err := History{Client: client, Kind: kind}.UpdateRevision(t.Context(), ownerOf("2"), test.known, &collisions)
			if !errors.Is(err, test.refuse) || collisions != test.collisions {
				t.Errorf("error %v, %d collisions; want %v, %d", err, collisions, test.refuse, test.collisions)
			}
			if all := writes(client); !slices.Equal(all, test.writes) {
				t.Errorf("writes %q, want %q", all, test.writes)
			}
			if err != nil {
				return
			}
			back, err := TemplateOf(got)
			if got.Name != test.want || err != nil || back.Spec.Containers[0].Image != "2" || !metav1.IsControlledBy(got, ownerOf("2").Object) {
				t.Errorf("got %s of %v, error %v; want %s with the owner's template", got.Name, back, err, test.want)
			}
		})
	}
}

func TestTruncate(t *testing.T) {
	down := errors.New("no answer")
	all := []*appsv1.ControllerRevision{revision("a", "1", 1), revision("b", "2", 2), revision("c", "3", 3), revision("d", "4", 4)}
	for _, test := range []struct {
		name   string
		limit  int
		live   []string
		refuse error
		want   error
		writes []string
	}{
		{name: "within the limit", limit: 4},
		{name: "the oldest go", limit: 2, writes: []string{"delete a", "delete b"}},
		{name: "the live stay, and do not count", limit: 1, live: []string{"a", "d"}, writes: []string{"delete b"}},
		{name: "gone meanwhile", limit: 2, refuse: apierrors.NewNotFound(resource, "a"), writes: []string{"delete a", "delete b"}},
		{name: "no answer: the rest waits", limit: 2, refuse: down, want: down, writes: []string{"delete a"}},
	} {
		client := fake.NewClientset()
		client.PrependReactor("delete", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.refuse })
		err := History{Client: client}.Truncate(t.Context(), all, test.limit, func(r *appsv1.ControllerRevision) bool { return slices.Contains(test.live, r.Name) })
		if got := writes(client); !errors.Is(err, test.want) || !slices.Equal(got, test.writes) {
			t.Errorf("%s: writes %q, error %v; want %q, %v", test.name, got, err, test.writes, test.want)
		}
	}
	if got := fmt.Sprint(names(all)); got != "[a b c d]" {
		t.Errorf("the caller's revisions are now %s", got)
	}
}
