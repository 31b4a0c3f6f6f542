package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"hyperkube/test/integration"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

func makeConfigMaps(t *testing.T, cluster *integration.Cluster, prefix string, n int) (last string) {
	t.Helper()
	for i := range n {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s%04d", prefix, i), Labels: map[string]string{"app": prefix}}}
		made, err := cluster.Client.CoreV1().ConfigMaps("default").Create(t.Context(), m, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		last = made.ResourceVersion
	}
	return last
}

// compact throws etcd's history before its newest revision away, as a compaction of some minutes later does.
func compact(t *testing.T, cluster *integration.Cluster) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{cluster.Etcd.Endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	now, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), now.Header.Revision); err != nil {
		t.Fatal(err)
	}
}

// The table "resourceVersion semantics" of the API concepts page, for get and list: which versions are answered, from which
// state, and which are refused how. old, now and future stand for revisions.
func TestResourceVersionSemantics(t *testing.T) {
	cluster := integration.Start(t)
	old := makeConfigMaps(t, cluster, "a", 2)
	now := makeConfigMaps(t, cluster, "b", 3)
	versions := map[string]string{"": "", "0": "0", "old": old, "now": now, "future": "999999999", "x": "x"}
	for _, test := range []struct {
		version, match string
		limit          int64
		// want is how many objects come ("2": the old state, "5": the newest), or the reason of the refusal.
		want string
	}{
		{"", "", 0, "5"}, {"", "", 4, "4+"}, {"0", "", 0, "5"}, {"0", "", 2, "5"}, {"old", "", 0, "5"}, {"old", "", 10, "2"}, {"now", "", 0, "5"},
		{"old", "Exact", 0, "2"}, {"old", "Exact", 1, "1+"}, {"now", "Exact", 0, "5"}, {"old", "NotOlderThan", 0, "5"}, {"old", "NotOlderThan", 4, "4+"},
		{"0", "NotOlderThan", 0, "5"}, {"0", "Exact", 0, "Invalid"}, {"", "Exact", 0, "Invalid"}, {"", "NotOlderThan", 0, "Invalid"}, {"now", "Nope", 0, "Invalid"},
		{"future", "", 0, "Timeout"}, {"future", "NotOlderThan", 0, "Timeout"}, {"x", "", 0, "BadRequest"},
	} {
		t.Run(fmt.Sprintf("list %q %s limit %d", test.version, test.match, test.limit), func(t *testing.T) {
			t.Parallel()
			options := metav1.ListOptions{ResourceVersion: versions[test.version], ResourceVersionMatch: metav1.ResourceVersionMatch(test.match), Limit: test.limit}
			list := &corev1.ConfigMapList{}
			// MaxRetries: client-go would come back ten times to hear of the future.
			err := cluster.Client.CoreV1().RESTClient().Get().Namespace("default").Resource("configmaps").MaxRetries(0).
				VersionedParams(&options, scheme.ParameterCodec).Do(t.Context()).Into(list)
			got := string(apierrors.ReasonForError(err))
			if err == nil {
				if got = strconv.Itoa(len(list.Items)); list.Continue != "" {
					got += "+"
				}
				if test.match == "Exact" && list.ResourceVersion != versions[test.version] {
					t.Errorf("exactly %s was asked for; it is the state at %s", versions[test.version], list.ResourceVersion)
				}
			}
			if got != test.want {
				t.Errorf("%s (%v), want %s", got, err, test.want)
			}
			if got == "Timeout" && !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
				t.Errorf("%v has no cause by which reflectors know it", err)
			}
		})
	}
	for version, want := range map[string]string{"": "", "0": "", "old": "", "now": "", "future": "Timeout"} {
		err := cluster.Client.CoreV1().RESTClient().Get().Namespace("default").Resource("configmaps").Name("a0000").MaxRetries(0).
			VersionedParams(&metav1.GetOptions{ResourceVersion: versions[version]}, scheme.ParameterCodec).Do(t.Context()).Error()
		if got := string(apierrors.ReasonForError(err)); err == nil && want != "" || err != nil && got != want {
			t.Errorf("get at %q: %v, want %q", version, err, want)
		}
	}
}

// Watches: from a version, from any ("0": the state first), from now on (""), and as a streaming list.
func TestWatchSemantics(t *testing.T) {
	cluster := integration.Start(t)
	old := makeConfigMaps(t, cluster, "a", 2)
	makeConfigMaps(t, cluster, "b", 1)
	yes := true
	for name, test := range map[string]struct {
		options metav1.ListOptions
		want    string // the names of what comes up to the object made after the watch began; "|" is the end of initial events
	}{
		"from a version": {metav1.ListOptions{ResourceVersion: old}, "b0000 c0000"},
		"from any":       {metav1.ListOptions{ResourceVersion: "0"}, "a0000 a0001 b0000 c0000"},
		"unset":          {metav1.ListOptions{}, "a0000 a0001 b0000 c0000"},
		"streaming list": {metav1.ListOptions{ResourceVersionMatch: "NotOlderThan", SendInitialEvents: &yes, AllowWatchBookmarks: true}, "a0000 a0001 b0000 | c0000"},
		"selected":       {metav1.ListOptions{ResourceVersion: "0", FieldSelector: "metadata.name!=a0000", LabelSelector: "app in (a,c)"}, "a0001 c0000"},
	} {
		t.Run(name, func(t *testing.T) {
			watcher, err := cluster.Client.CoreV1().ConfigMaps("default").Watch(t.Context(), test.options)
			if err != nil {
				t.Fatal(err)
			}
			defer watcher.Stop()
			made, err := cluster.Client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c0000", Labels: map[string]string{"app": "c"}}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for event := range watcher.ResultChan() {
				m := event.Object.(*corev1.ConfigMap)
				switch {
				case event.Type == watch.Bookmark && m.Annotations[metav1.InitialEventsAnnotationKey] == "true":
					got = append(got, "|")
				case event.Type != watch.Bookmark:
					got = append(got, m.Name)
				}
				if m.Name == made.Name {
					break
				}
			}
			if text := strings.Join(got, " "); text != test.want {
				t.Errorf("%s, want %s", text, test.want)
			}
			if err := cluster.Client.CoreV1().ConfigMaps("default").Delete(t.Context(), made.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A page whose revision has been compacted away is refused with 410 and a token for the rest as it is now (API concepts,
// "Retrieving large results sets in chunks").
func TestExpiredContinueToken(t *testing.T) {
	cluster := integration.Start(t)
	makeConfigMaps(t, cluster, "a", 6)
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	first, err := maps.List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil || first.RemainingItemCount == nil || *first.RemainingItemCount != 4 {
		t.Fatalf("%+v %v", first.ListMeta, err)
	}
	if err := maps.Delete(t.Context(), "a0003", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The next page is of the first one's revision: what was deleted since is in it.
	second, err := maps.List(t.Context(), metav1.ListOptions{Limit: 2, Continue: first.Continue})
	if err != nil || len(second.Items) != 2 || second.Items[1].Name != "a0003" || second.ResourceVersion != first.ResourceVersion {
		t.Fatalf("%v %v", second, err)
	}
	// A new life of the apiserver knows nothing of the revision but from etcd, which has forgotten it too.
	cluster.Stop()
	compact(t, cluster)
	cluster.Run("127.0.0.1:0")
	maps = cluster.Client.CoreV1().ConfigMaps("default")
	_, err = maps.List(t.Context(), metav1.ListOptions{Limit: 2, Continue: second.Continue})
	status, ok := err.(apierrors.APIStatus)
	if !apierrors.IsResourceExpired(err) || !ok || status.Status().Continue == "" {
		t.Fatalf("%v, want 410 with a token", err)
	}
	rest, err := maps.List(t.Context(), metav1.ListOptions{Continue: status.Status().Continue})
	if err != nil || len(rest.Items) != 2 || rest.Items[0].Name != "a0004" || rest.ResourceVersion == first.ResourceVersion {
		t.Errorf("%v %v", rest, err)
	}
}

// Informers follow 1,000 changes through a compaction, a restart of etcd and one of the apiserver, and end with what is there.
func TestInformersSurvive(t *testing.T) {
	cluster := integration.Start(t)
	address := cluster.Server.Address()
	makeConfigMaps(t, cluster, "a", 100)
	ctx, cancel := context.WithCancel(t.Context())
	stores := map[string]cache.Store{}
	typed := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(cluster.Protobuf()), 0)
	stores["typed"] = typed.Core().V1().ConfigMaps().Informer().GetStore()
	untyped := dynamic.NewForConfigOrDie(cluster.Config)
	listWatch := &cache.ListWatch{
		ListFunc: func(o metav1.ListOptions) (runtime.Object, error) { return untyped.Resource(configMaps).List(ctx, o) },
		WatchFunc: func(o metav1.ListOptions) (watch.Interface, error) {
			return untyped.Resource(configMaps).Watch(ctx, o)
		},
	}
	dynamicInformer := cache.NewSharedInformer(listWatch, &unstructured.Unstructured{}, 0)
	stores["dynamic"] = dynamicInformer.GetStore()
	typed.Start(ctx.Done())
	ended := make(chan struct{})
	go func() { defer close(ended); dynamicInformer.Run(ctx.Done()) }()
	defer func() { cancel(); typed.Shutdown(); <-ended }()
	typed.WaitForCacheSync(ctx.Done())
	cache.WaitForCacheSync(ctx.Done(), dynamicInformer.HasSynced)
	for round := range 10 {
		switch round {
		case 3:
			compact(t, cluster)
		case 5:
			cluster.Etcd.Stop()
			cluster.Etcd.Start()
		case 7:
			cluster.Stop()
			compact(t, cluster)
			cluster.Run(address)
		}
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() { change(t, cluster, fmt.Sprintf("a%04d", i), strconv.Itoa(round)) })
		}
		all.Wait()
	}
	list, err := cluster.Client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, store := range stores {
		eventually(t, func() error { return holds(store, list) }, name)
	}
}

// change writes until it is acknowledged: amid a restart writes fail, and clients try again.
func change(t *testing.T, cluster *integration.Cluster, name, value string) {
	t.Helper()
	eventually(t, func() error {
		_, err := cluster.Client.CoreV1().ConfigMaps("default").Patch(t.Context(), name, "application/merge-patch+json", []byte(`{"data":{"v":"`+value+`"}}`), metav1.PatchOptions{})
		return err
	}, name)
}

func holds(store cache.Store, list *corev1.ConfigMapList) error {
	for _, m := range list.Items {
		obj, there, err := store.GetByKey(m.Namespace + "/" + m.Name)
		if err != nil || !there {
			return fmt.Errorf("%s is not there (%v)", m.Name, err)
		}
		if got := obj.(metav1.Object).GetResourceVersion(); got != m.ResourceVersion {
			return fmt.Errorf("%s is at %s, not %s", m.Name, got, m.ResourceVersion)
		}
	}
	return nil
}

func eventually(t *testing.T, check func() error, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%s: %v", what, err)
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Any collection and any object can be had as a Table or as metadata alone, with what rows are to include.
func TestForms(t *testing.T) {
	cluster := integration.Start(t)
	makeConfigMaps(t, cluster, "a", 2)
	meta := metadata.NewForConfigOrDie(cluster.Config).Resource(configMaps).Namespace("default")
	if partial, err := meta.Get(t.Context(), "a0000", metav1.GetOptions{}); err != nil || partial.Labels["app"] != "a" {
		t.Errorf("%v %v", partial, err)
	}
	if partial, err := meta.Patch(t.Context(), "a0000", "application/merge-patch+json", []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{}); err != nil || partial.Labels["x"] != "y" {
		t.Errorf("%v %v", partial, err)
	}
	if list, err := meta.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 2 {
		t.Errorf("%v %v", list, err)
	}
	client, err := rest.HTTPClientFor(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/configmaps/a0000", "/api/v1/namespaces", "/apis/rbac.authorization.k8s.io/v1/clusterroles/view", "/api/v1/componentstatuses"} {
		for include, want := range map[string]string{"": "PartialObjectMetadata", "Metadata": "PartialObjectMetadata", "Object": "", "None": "null"} {
			table := metav1.Table{}
			getAs(t, client, cluster.Config.Host+path+"?includeObject="+include, "application/json;as=Table;v=v1;g=meta.k8s.io", &table)
			if table.Kind != "Table" || len(table.Rows) == 0 || len(table.Rows[0].Cells) != len(table.ColumnDefinitions) {
				t.Errorf("%s %s: %+v", path, include, table)
				continue
			}
			row := metav1.TypeMeta{}
			if raw := table.Rows[0].Object.Raw; want == "null" && len(raw) > 0 && string(raw) != "null" {
				t.Errorf("%s %s: %s", path, include, raw)
			} else if want != "null" {
				if err := json.Unmarshal(raw, &row); err != nil || want != "" && row.Kind != want || want == "" && (row.Kind == "" || row.Kind == "PartialObjectMetadata") {
					t.Errorf("%s %s: %s", path, include, raw)
				}
			}
		}
	}
}

func getAs(t *testing.T, client *http.Client, url, accept string, into any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v: %s", url, err, data)
	}
}
