package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

// Both wire formats read and write the same objects (S1-06).
func TestWritesAndReads(t *testing.T) {
	c := Start(t)
	for name, config := range map[string]*rest.Config{"json": c.Config, "protobuf": c.Protobuf()} {
		t.Run(name, func(t *testing.T) {
			ctx, maps := context.Background(), kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default")
			created, err := maps.Create(ctx, configMap("m-"+name, map[string]string{"a": "b"}), metav1.CreateOptions{FieldManager: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if created.UID == "" || created.CreationTimestamp.IsZero() || created.ResourceVersion == "" || len(created.ManagedFields) != 1 {
				t.Errorf("the server's part of metadata is missing: %+v", created.ObjectMeta)
			}
			if _, err := maps.Create(ctx, configMap("m-"+name, nil), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
				t.Errorf("a second create: %v", err)
			}
			got, err := maps.Get(ctx, "m-"+name, metav1.GetOptions{})
			if err != nil || got.Data["a"] != "b" || got.ResourceVersion != created.ResourceVersion {
				t.Errorf("get: %+v, %v", got, err)
			}
			list, err := maps.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=m-" + name})
			if err != nil || len(list.Items) != 1 || list.ResourceVersion == "" {
				t.Errorf("list: %+v, %v", list, err)
			}
			testConflict(t, c, name, config)
			if err := maps.Delete(ctx, "m-"+name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
			if _, err := maps.Get(ctx, "m-"+name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("get after delete: %v", err)
			}
		})
	}
}

// A PUT of an old version is refused in upstream's words; one without a version is not (S3: optimistic concurrency).
func testConflict(t *testing.T, c *Cluster, name string, config *rest.Config) {
	t.Helper()
	ctx, maps := context.Background(), kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default")
	old, err := maps.Get(ctx, "m-"+name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	newer := old.DeepCopy()
	newer.Data = map[string]string{"a": "c"}
	updated, err := maps.Update(ctx, newer, metav1.UpdateOptions{})
	if err != nil || updated.ResourceVersion == old.ResourceVersion {
		t.Fatalf("update: %v", err)
	}
	same, err := maps.Update(ctx, updated, metav1.UpdateOptions{})
	if err != nil || same.ResourceVersion != updated.ResourceVersion {
		t.Errorf("an update that changes nothing wrote version %s after %s, %v", same.ResourceVersion, updated.ResourceVersion, err)
	}
	old.Data = map[string]string{"a": "d"}
	_, err = maps.Update(ctx, old, metav1.UpdateOptions{})
	want := fmt.Sprintf(`Operation cannot be fulfilled on configmaps "m-%s": the object has been modified; please apply your changes to the latest version and try again`, name)
	if !apierrors.IsConflict(err) || err.Error() != want {
		t.Errorf("update of an old version: %v\nwant %s", err, want)
	}
}

// generateName appends five characters, and a name that is invalid is answered 422 with the field.
func TestNames(t *testing.T) {
	c := Start(t)
	ctx, maps := context.Background(), c.Client.CoreV1().ConfigMaps("default")
	generated, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "g-"}}, metav1.CreateOptions{})
	if err != nil || len(generated.Name) != len("g-")+5 {
		t.Errorf("generated name %q, %v", generated.Name, err)
	}
	_, err = maps.Create(ctx, configMap("Bad_Name", nil), metav1.CreateOptions{})
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) {
		t.Fatalf("bad name: %v", err)
	}
	status = err.(apierrors.APIStatus)
	if causes := status.Status().Details.Causes; len(causes) != 1 || causes[0].Field != "metadata.name" {
		t.Errorf("causes: %+v", causes)
	}
	dry, err := maps.Create(ctx, configMap("dry", nil), metav1.CreateOptions{DryRun: []string{"All"}})
	if err != nil || dry.UID == "" {
		t.Errorf("dry run: %v", err)
	}
	if _, err := maps.Get(ctx, "dry", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run has written: %v", err)
	}
}

// A watch from a list's version misses nothing and repeats nothing, in either format.
func TestWatch(t *testing.T) {
	c := Start(t)
	for name, config := range map[string]*rest.Config{"json": c.Config, "protobuf": c.Protobuf()} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			maps := kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default")
			list, err := maps.List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			watcher, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion, LabelSelector: "w=" + name})
			if err != nil {
				t.Fatal(err)
			}
			defer watcher.Stop()
			m := configMap("w-"+name, nil)
			m.Labels = map[string]string{"w": name}
			m, err = maps.Create(ctx, m, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			m.Data = map[string]string{"x": "y"}
			if m, err = maps.Update(ctx, m, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			delete(m.Labels, "w")
			if _, err = maps.Update(ctx, m, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted} {
				select {
				case event := <-watcher.ResultChan():
					if event.Type != want {
						t.Fatalf("%s %v, want %s", event.Type, event.Object, want)
					}
					if got := event.Object.(*corev1.ConfigMap); got.Name != "w-"+name {
						t.Errorf("%s of %q", event.Type, got.Name)
					}
				case <-ctx.Done():
					t.Fatalf("no %s", want)
				}
			}
		})
	}
}

// client-go's informers start by a streaming list (sendInitialEvents) and follow.
func TestInformer(t *testing.T) {
	c := Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range 5 {
		if _, err := c.Client.CoreV1().ConfigMaps("default").Create(ctx, configMap(fmt.Sprintf("i%d", i), nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, config := range map[string]*rest.Config{"json": c.Config, "protobuf": c.Protobuf()} {
		factory := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(config), 0, informers.WithNamespace("default"))
		informer := factory.Core().V1().ConfigMaps()
		names := make(chan string, 100)
		informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) { names <- obj.(*corev1.ConfigMap).Name }})
		factory.Start(ctx.Done())
		if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
			t.Fatalf("%s: not synced", name)
		}
		if list, _ := informer.Lister().List(labels.Everything()); len(list) < 5 {
			t.Errorf("%s: %d objects", name, len(list))
		}
		if _, err := c.Client.CoreV1().ConfigMaps("default").Create(ctx, configMap("later-"+name, nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for got := ""; got != "later-"+name; {
			select {
			case got = <-names:
			case <-ctx.Done():
				t.Fatalf("%s: the informer does not follow", name)
			}
		}
	}
	cancel()
}

// Each kind of patch does its kind of merge; apply owns fields and finds conflicts.
func TestPatches(t *testing.T) {
	c := Start(t)
	ctx, maps := context.Background(), c.Client.CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, configMap("p", map[string]string{"a": "1", "b": "2"}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		kind  types.PatchType
		patch string
		want  map[string]string
	}{
		{types.MergePatchType, `{"data":{"a":null,"c":"3"}}`, map[string]string{"b": "2", "c": "3"}},
		{types.JSONPatchType, `[{"op":"replace","path":"/data/b","value":"4"}]`, map[string]string{"b": "4", "c": "3"}},
		{types.StrategicMergePatchType, `{"data":{"d":"5"}}`, map[string]string{"b": "4", "c": "3", "d": "5"}},
	} {
		got, err := maps.Patch(ctx, "p", step.kind, []byte(step.patch), metav1.PatchOptions{FieldManager: "patcher"})
		if err != nil || fmt.Sprint(got.Data) != fmt.Sprint(step.want) {
			t.Errorf("%s: %v, %v; want %v", step.kind, got.Data, err, step.want)
		}
	}
	wanted := applycorev1.ConfigMap("p", "default").WithData(map[string]string{"b": "9"})
	_, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "applier"})
	if !apierrors.IsConflict(err) {
		t.Errorf("apply of another's field: %v", err)
	}
	got, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "applier", Force: true})
	if err != nil || got.Data["b"] != "9" || got.Data["c"] != "3" {
		t.Fatalf("forced apply: %v, %v", got.Data, err)
	}
	again, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "applier"})
	if err != nil || again.ResourceVersion != got.ResourceVersion {
		t.Errorf("an apply that changes nothing has written: %v", err)
	}
	created, err := maps.Apply(ctx, applycorev1.ConfigMap("new", "default").WithData(map[string]string{"x": "y"}), metav1.ApplyOptions{FieldManager: "applier"})
	if err != nil || created.UID == "" {
		t.Errorf("apply of what does not exist: %v", err)
	}
	emptied, err := maps.Apply(ctx, applycorev1.ConfigMap("new", "default"), metav1.ApplyOptions{FieldManager: "applier"})
	if err != nil || len(emptied.Data) != 0 {
		t.Errorf("apply without a field it owned: %v, %v", emptied.Data, err)
	}
}

// Finalizers and propagation policies keep an object, marked, until the last finalizer goes.
func TestFinalizers(t *testing.T) {
	c := Start(t)
	ctx, maps := context.Background(), c.Client.CoreV1().ConfigMaps("default")
	m := configMap("f", nil)
	m.Finalizers = []string{"example.com/f"}
	if _, err := maps.Create(ctx, m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	foreground := metav1.DeletePropagationForeground
	if err := maps.Delete(ctx, "f", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	marked, err := maps.Get(ctx, "f", metav1.GetOptions{})
	if err != nil || marked.DeletionTimestamp == nil || fmt.Sprint(marked.Finalizers) != "[example.com/f foregroundDeletion]" {
		t.Fatalf("marked: %+v, %v", marked.ObjectMeta, err)
	}
	marked.Finalizers = append(marked.Finalizers, "example.com/late")
	if _, err := maps.Update(ctx, marked, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a new finalizer on an object being deleted: %v", err)
	}
	if _, err := maps.Patch(ctx, "f", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := maps.Get(ctx, "f", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the last finalizer: %v", err)
	}
}

// A collection is deleted by selector; preconditions hold.
func TestDeleteCollection(t *testing.T) {
	c := Start(t)
	ctx, maps := context.Background(), c.Client.CoreV1().ConfigMaps("default")
	for i := range 4 {
		m := configMap(fmt.Sprintf("d%d", i), nil)
		m.Labels = map[string]string{"even": fmt.Sprint(i%2 == 0)}
		if _, err := maps.Create(ctx, m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	wrong := types.UID("x")
	if err := maps.Delete(ctx, "d1", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}}); !apierrors.IsConflict(err) {
		t.Errorf("delete of another incarnation: %v", err)
	}
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "even=true"}); err != nil {
		t.Fatal(err)
	}
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "even"})
	if err != nil || len(list.Items) != 2 || list.Items[0].Name != "d1" {
		t.Errorf("left: %d, %v", len(list.Items), err)
	}
}

// Chunks of a list are of one revision and cover everything once.
func TestChunks(t *testing.T) {
	c := Start(t)
	ctx, maps := context.Background(), c.Client.CoreV1().ConfigMaps("default")
	for i := range 7 {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("c%d", i), nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	seen, version, next := map[string]bool{}, "", ""
	for first := true; first || next != ""; first = false {
		list, err := maps.List(ctx, metav1.ListOptions{Limit: 3, Continue: next})
		if err != nil {
			t.Fatal(err)
		}
		if version != "" && list.ResourceVersion != version {
			t.Errorf("chunk of revision %s after %s", list.ResourceVersion, version)
		}
		version, next = list.ResourceVersion, list.Continue
		for _, item := range list.Items {
			if seen[item.Name] {
				t.Errorf("%s twice", item.Name)
			}
			seen[item.Name] = true
		}
	}
	if len(seen) != 7 {
		t.Errorf("seen %d of 7", len(seen))
	}
}

// Without a role a user may do nothing, and is told so in upstream's words; with one, what it says.
func TestRBAC(t *testing.T) {
	c := Start(t)
	ctx := context.Background()
	jane := kubernetes.NewForConfigOrDie(c.ConfigAs("jane")).CoreV1().ConfigMaps("default")
	_, err := jane.List(ctx, metav1.ListOptions{})
	want := `configmaps is forbidden: User "jane" cannot list resource "configmaps" in API group "" in the namespace "default"`
	if !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	role := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "jane"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "jane"}},
	}
	if _, err := c.Client.RbacV1().RoleBindings("default").Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := jane.List(ctx, metav1.ListOptions{}); err != nil {
		t.Errorf("with a role: %v", err)
	}
	anonymous := rest.AnonymousClientConfig(c.Config)
	_, err = kubernetes.NewForConfigOrDie(anonymous).CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
	if !apierrors.IsUnauthorized(err) {
		t.Errorf("without credentials: %v", err)
	}
	if _, err := kubernetes.NewForConfigOrDie(anonymous).Discovery().ServerVersion(); err != nil {
		t.Errorf("/version without credentials: %v", err)
	}
}
