package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// served is the discovery of a server with these kinds; with broken, the group of widgets does not answer.
type served struct {
	discovery.DiscoveryInterfaces
	broken error
}

func (s served) ServerGroupsWithContext(context.Context) (*metav1.APIGroupList, error) {
	group := func(name, gv string) metav1.APIGroup {
		version := metav1.GroupVersionForDiscovery{GroupVersion: gv, Version: "v1"}
		return metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version}
	}
	return &metav1.APIGroupList{Groups: []metav1.APIGroup{group("example.com", "example.com/v1"), group("", "v1")}}, nil
}

func (s served) ServerResourcesForGroupVersionWithContext(_ context.Context, gv string) (*metav1.APIResourceList, error) {
	if gv == "example.com/v1" {
		if s.broken != nil {
			return nil, s.broken
		}
		// Widgets know no deletion of all at once.
		return &metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "widgets", Namespaced: true, Verbs: metav1.Verbs{"delete", "list"}}}}, nil
	}
	all := metav1.Verbs{"delete", "deletecollection", "list"}
	return &metav1.APIResourceList{APIResources: []metav1.APIResource{
		{Name: "configmaps", Namespaced: true, Verbs: all}, {Name: "pods", Namespaced: true, Verbs: all},
		{Name: "bindings", Namespaced: true, Verbs: metav1.Verbs{"create"}}, {Name: "nodes", Verbs: all},
	}}, nil
}

type clientOf struct {
	kubernetes.Interface
	kinds served
}

func (c clientOf) Discovery() discovery.DiscoveryInterfaces { return c.kinds }

// terminating is a namespace ns that is being deleted, with these finalizers.
func terminating(finalizers ...corev1.FinalizerName) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", UID: "ns", DeletionTimestamp: &metav1.Time{Time: time.Unix(1000, 0)}}}
	ns.Spec.Finalizers, ns.Status.Phase = finalizers, corev1.NamespaceTerminating
	return ns
}

// having gives it the conditions of a run that found this.
func having(ns *corev1.Namespace, found *content) *corev1.Namespace {
	ns.Status.Conditions = found.conditions(nil, metav1.Unix(2000, 0))
	return ns
}

// object is one of ns; it goes when it is deleted, unless a finalizer or its grace period keeps it.
func object(apiVersion, kind, name string, finalizers ...string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}}
	o.Namespace, o.Name, o.Finalizers = "ns", name, finalizers
	if kind == "Pod" {
		o.DeletionGracePeriodSeconds = ptr.To[int64](30)
	}
	return o
}

var (
	ours        = corev1.FinalizerKubernetes
	notFound    = apierrors.NewNotFound(corev1.Resource("x"), "x")
	conflict    = apierrors.NewConflict(corev1.Resource("x"), "x", errors.New("changed"))
	unsupported = apierrors.NewMethodNotSupported(corev1.Resource("configmaps"), "deletecollection")
	unavailable = apierrors.NewServiceUnavailable("later")

	pod, config, widget = object("v1", "Pod", "p"), object("v1", "ConfigMap", "c"), object("example.com/v1", "Widget", "w")
	held                = object("v1", "ConfigMap", "held", "a/b")

	// What is asked about content: of pods; and of everything, when they are gone.
	onPods = []string{"delete-collection pods", "list pods"}
	onAll  = append(onPods[:2:2], "delete-collection configmaps", "list configmaps", "list widgets")
)

type row struct {
	name     string
	ns       *corev1.Namespace // in the cache, and in the API unless stored says otherwise
	stored   *corev1.Namespace
	objects  []*metav1.PartialObjectMetadata
	fails    map[string]error // "verb resource"
	broken   error
	content  []string // what is asked about content
	writes   []string // what is written to the namespace
	messages string   // part of those of its conditions
	after    time.Duration
	err      error
}

var rows = []row{
	{name: "gone from the cache", stored: terminating(ours)},
	{name: "not being deleted", ns: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", UID: "ns"}, Spec: terminating(ours).Spec}, objects: []*metav1.PartialObjectMetadata{config}},
	{name: "gone from the API", ns: terminating(ours), fails: map[string]error{"get namespaces": notFound}},
	{name: "the API does not tell", ns: terminating(ours), fails: map[string]error{"get namespaces": unavailable}, err: unavailable},
	{name: "made anew: its content is somebody's", ns: func() *corev1.Namespace { ns := terminating(ours); ns.UID = "old"; return ns }(), stored: terminating(ours), objects: []*metav1.PartialObjectMetadata{config}},
	{name: "only others' finalizers are left", ns: terminating(ours), stored: terminating("other"), objects: []*metav1.PartialObjectMetadata{config}},
	{name: "empty", ns: terminating(ours, "other"), content: onAll, writes: []string{"finalize [other]"}},
	{name: "all goes at once", ns: terminating(ours), objects: []*metav1.PartialObjectMetadata{config}, content: onAll, writes: []string{"finalize []"}},
	{name: "empty now: the conditions are taken back", ns: having(terminating(ours), &content{left: map[schema.GroupVersionResource]int{podsResource: 1}}), content: onAll, writes: []string{"status []", "finalize []"}},
	{name: "pods first", ns: terminating(ours), objects: []*metav1.PartialObjectMetadata{pod, config, widget}, content: onPods, writes: []string{"status [SomeResourcesRemain]"}, messages: "remaining: pods. has 1 resource instances", after: time.Second},
	{name: "nothing new since: said already", ns: having(terminating(ours), &content{left: map[schema.GroupVersionResource]int{podsResource: 1}}), objects: []*metav1.PartialObjectMetadata{pod}, content: onPods, after: time.Second},
	{name: "a finalizer holds one", ns: terminating(ours), objects: []*metav1.PartialObjectMetadata{config, held}, content: onAll, writes: []string{"status [SomeResourcesRemain SomeFinalizersRemain]"}, messages: "a/b in 1 resource instances", after: time.Second},
	{name: "one by one, and looked at again", ns: terminating(ours), objects: []*metav1.PartialObjectMetadata{widget}, content: append(onAll[:5:5], "delete widgets w Background"), writes: []string{"status [SomeResourcesRemain]"}, messages: "widgets.example.com has 1", after: time.Second},
	{
		name: "a server that was wrong about what it can", ns: terminating(ours), objects: []*metav1.PartialObjectMetadata{config}, fails: map[string]error{"delete-collection configmaps": unsupported},
		content: append(onAll[:4:4], "delete configmaps c Background", "list widgets"), writes: []string{"status [SomeResourcesRemain]"}, messages: "configmaps. has 1", after: time.Second,
	},
	{name: "a kind that went", ns: terminating(ours), fails: map[string]error{"delete-collection configmaps": notFound, "list configmaps": notFound, "list widgets": notFound}, content: onAll, writes: []string{"finalize []"}},
	{name: "a group does not answer: the rest goes, the namespace stays", ns: terminating(ours), objects: []*metav1.PartialObjectMetadata{config}, broken: unavailable, content: onAll[:4], writes: []string{"status [DiscoveryFailed]"}, messages: "later", err: &discovery.ErrGroupDiscoveryFailed{}},
	{name: "pods cannot be deleted: nothing else is", ns: terminating(ours), objects: []*metav1.PartialObjectMetadata{config}, fails: map[string]error{"delete-collection pods": unavailable}, content: onPods[:1], writes: []string{"status [ContentDeletionFailed]"}, messages: "deleting all pods", err: unavailable},
	{name: "a kind cannot be counted: the namespace stays", ns: terminating(ours), fails: map[string]error{"list widgets": unavailable}, content: onAll, writes: []string{"status [ContentDeletionFailed]"}, messages: "deleting all widgets.example.com", err: unavailable},
	{name: "somebody wrote the status", ns: terminating(ours), objects: []*metav1.PartialObjectMetadata{pod}, fails: map[string]error{"update namespaces": conflict}, content: onPods, writes: []string{"status [SomeResourcesRemain]"}, err: conflict},
	{name: "somebody wrote the finalizers", ns: terminating(ours), fails: map[string]error{"create namespaces": conflict}, content: onAll, writes: []string{"finalize []"}, err: conflict},
	{name: "somebody let it go", ns: terminating(ours), fails: map[string]error{"create namespaces": notFound}, content: onAll, writes: []string{"finalize []"}},
}

func TestSyncNamespaceFromKey(t *testing.T) {
	for _, test := range rows {
		t.Run(test.name, func(t *testing.T) {
			stored := test.stored
			if stored == nil {
				stored = test.ns.DeepCopy()
			}
			client := fake.NewClientset(stored)
			meta := contentOf(test.objects)
			for of, err := range test.fails {
				verb, resource, _ := strings.Cut(of, " ")
				fail := func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err }
				client.PrependReactor(verb, resource, fail)
				meta.PrependReactor(verb, resource, fail)
			}
			factory := informers.NewSharedInformerFactory(client, 0)
			nm := New(clientOf{client, served{broken: test.broken}}, meta, factory, reconcile.Options{})
			if test.ns != nil {
				_ = factory.Core().V1().Namespaces().Informer().GetIndexer().Add(test.ns)
			}

			result, err := nm.syncNamespaceFromKey(t.Context(), "ns")
			if result != (reconcile.Result{After: test.after}) || !errors.Is(err, test.err) {
				t.Errorf("result %+v, error %v; want after %v, %v", result, err, test.after, test.err)
			}
			if got := askedOf(t, meta.Actions()); !slices.Equal(got, test.content) {
				t.Errorf("of content %q, want %q", got, test.content)
			}
			writes, messages := writesOf(t, client.Actions())
			if !slices.Equal(writes, test.writes) || !strings.Contains(messages, test.messages) {
				t.Errorf("to the namespace %q with %q, want %q with %q", writes, messages, test.writes, test.messages)
			}
		})
	}
}

// contentOf is the API of these objects: what is deleted goes, if nothing keeps it.
func contentOf(objects []*metav1.PartialObjectMetadata) *metadatafake.FakeMetadataClient {
	scheme := metadatafake.NewTestScheme()
	_ = metav1.AddMetaToScheme(scheme)
	client := metadatafake.NewSimpleMetadataClient(scheme)
	for _, o := range objects {
		_ = client.Tracker().Add(o)
	}
	remove := func(action clienttesting.Action) (bool, runtime.Object, error) {
		for _, o := range objects {
			if strings.ToLower(o.Kind)+"s" == action.GetResource().Resource && len(o.Finalizers) == 0 && o.DeletionGracePeriodSeconds == nil {
				_ = client.Tracker().Delete(action.GetResource(), o.Namespace, o.Name)
			}
		}
		return true, nil, nil
	}
	client.PrependReactor("delete", "*", remove)
	client.PrependReactor("delete-collection", "*", remove)
	return client
}

// askedOf are the actions as text; kinds after the pods in the order of their names, since discovery gives them in any.
func askedOf(t *testing.T, actions []clienttesting.Action) []string {
	pods := 0
	for pods < len(actions) && actions[pods].GetResource() == podsResource {
		pods++
	}
	slices.SortStableFunc(actions[pods:], func(a, b clienttesting.Action) int {
		return strings.Compare(a.GetResource().Resource, b.GetResource().Resource)
	})
	var texts []string
	for _, action := range actions {
		if action.GetNamespace() != "ns" {
			t.Errorf("%s %s in namespace %q", action.GetVerb(), action.GetResource().Resource, action.GetNamespace())
		}
		text := action.GetVerb() + " " + action.GetResource().Resource
		if d, ok := action.(clienttesting.DeleteActionImpl); ok {
			text += fmt.Sprintf(" %s %s", d.Name, *d.DeleteOptions.PropagationPolicy)
		}
		texts = append(texts, text)
	}
	return texts
}

// writesOf are the writes of the namespace: the reasons of the conditions that are true, and the finalizers left; with all messages.
func writesOf(t *testing.T, actions []clienttesting.Action) (writes []string, messages string) {
	for _, action := range actions {
		if action.GetVerb() == "get" {
			continue
		}
		ns := action.(interface{ GetObject() runtime.Object }).GetObject().(*corev1.Namespace)
		if action.GetSubresource() == "finalize" {
			writes = append(writes, fmt.Sprintf("finalize %v", ns.Spec.Finalizers))
			continue
		}
		reasons := []string{}
		for _, condition := range ns.Status.Conditions {
			messages += condition.Message + "\n"
			if condition.Status == corev1.ConditionTrue {
				reasons = append(reasons, condition.Reason)
			}
		}
		if len(ns.Status.Conditions) != 5 || ns.Status.Phase != corev1.NamespaceTerminating {
			t.Errorf("%d conditions, phase %s; want all five, Terminating", len(ns.Status.Conditions), ns.Status.Phase)
		}
		writes = append(writes, fmt.Sprintf("%s %v", action.GetSubresource(), reasons))
	}
	return writes, messages
}
