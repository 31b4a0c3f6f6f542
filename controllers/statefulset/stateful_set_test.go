package statefulset

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	core "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var now = time.Unix(100000, 0)

func newSet(image string) *appsv1.StatefulSet {
	labels := map[string]string{"app": "db"}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "set"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](3), ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template:            corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}},
			PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](0)}},
		},
	}
}

func claims(policy appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) {
		set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
		set.Spec.PersistentVolumeClaimRetentionPolicy = &policy
	}
}

func parallel(set *appsv1.StatefulSet) { set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }

// One turn. Pods are words: "0" is ready, "1-" is not, "2x" is being deleted, "0!" has
// failed, and a leading "old:" is of the revision before.
func TestSync(t *testing.T) {
	for _, test := range []struct {
		name         string
		change       func(*appsv1.StatefulSet)
		pods, writes string
	}{
		{name: "the first comes alone", writes: "create db-0"},
		{name: "the next waits for it", pods: "0-"},
		{name: "the next comes when it is ready", pods: "0", writes: "create db-1"},
		{name: "a gap is filled first", pods: "0 2", writes: "create db-1"},
		{name: "parallel: all at once", change: parallel, writes: "create db-0, create db-1, create db-2"},
		{name: "start ordinal", change: func(s *appsv1.StatefulSet) { s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5} }, writes: "create db-5"},
		{name: "a failed one is deleted", pods: "0! 1 2", writes: "delete db-0"},
		{name: "one that is going is waited for", pods: "0x 1 2"},
		{name: "scale down from the top", change: func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](1) }, pods: "0 1 2", writes: "delete db-2"},
		{name: "scale down one by one", change: func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](1) }, pods: "0 1 2x"},
		{name: "parallel scale down", change: func(s *appsv1.StatefulSet) { parallel(s); s.Spec.Replicas = ptr.To[int32](1) }, pods: "0 1 2", writes: "delete db-2, delete db-1"},
		{name: "scale down waits for a broken replica", change: func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](2) }, pods: "0- 1 2"},
		{name: "scale down waits for unhealthy ones", change: func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](0) }, pods: "0- 1- 2-"},
		{name: "scale down from a healthy top", change: func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](0) }, pods: "0- 1- 2", writes: "delete db-2"},
		{name: "scale down takes the last broken one", change: func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](0) }, pods: "0 1 2-", writes: "delete db-2"},
		{name: "parallel scale down of unhealthy ones", change: func(s *appsv1.StatefulSet) { parallel(s); s.Spec.Replicas = ptr.To[int32](1) }, pods: "0 1- 2-", writes: "delete db-2, delete db-1"},
		{name: "rollout from the top", pods: "old:0 old:1 old:2", writes: "delete db-2"},
		{name: "rollout waits for the new one", pods: "old:0 old:1 2-"},
		{name: "rollout goes on", pods: "old:0 old:1 2", writes: "delete db-1"},
		{name: "partition", change: func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To[int32](2) }, pods: "old:0 old:1 2"},
		{name: "below the partition the old revision comes back", change: func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To[int32](2) },
			pods: "old:1 2", writes: "create db-0 old"},
		{name: "on delete", change: func(s *appsv1.StatefulSet) {
			s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
		}, pods: "old:0 old:1 old:2"},
		{name: "claims come before the pod", change: claims(appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}), writes: "create data-db-0, create db-0"},
		{name: "a set that is going does nothing", change: func(s *appsv1.StatefulSet) { s.DeletionTimestamp = &metav1.Time{Time: now} }, pods: "0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := newSet("new")
			if test.change != nil {
				test.change(set)
			}
			client := fake.NewClientset(set)
			factory := informers.NewSharedInformerFactory(client, 0)
			ssc, err := New(client, factory, record.NewFakeRecorder(100), reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
			if err != nil {
				t.Fatal(err)
			}
			old, current := revisions(t, ssc, client, factory, set)
			for _, word := range strings.Fields(test.pods) {
				p := podOf(set, word, old, current)
				_ = client.Tracker().Add(p)
				_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(p)
			}
			_ = factory.Apps().V1().StatefulSets().Informer().GetIndexer().Add(set)
			client.ClearActions()
			if _, err := ssc.sync(t.Context(), "ns/db"); err != nil {
				t.Fatal(err)
			}
			if got := writesOf(client, old); got != test.writes {
				t.Errorf("writes %q, want %q", got, test.writes)
			}
		})
	}
}

// revisions makes that of the template before, which the status names as current, and
// that of now.
func revisions(t *testing.T, ssc *StatefulSetController, client *fake.Clientset, factory informers.SharedInformerFactory, set *appsv1.StatefulSet) (old, current string) {
	t.Helper()
	var known []*appsv1.ControllerRevision
	for _, image := range []string{"old", "new"} {
		template := newSet(image)
		turn, _, err := ssc.newTurn(t.Context(), template, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := client.AppsV1().ControllerRevisions("ns").Get(t.Context(), turn.update, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, r)
		_ = factory.Apps().V1().ControllerRevisions().Informer().GetIndexer().Add(r)
	}
	set.Status.CurrentRevision = known[0].Name
	return known[0].Name, known[1].Name
}

func podOf(set *appsv1.StatefulSet, word, old, current string) *corev1.Pod {
	revision, template := current, set.Spec.Template
	if rest, isOld := strings.CutPrefix(word, "old:"); isOld {
		word, revision = rest, old
	}
	ordinal := int(word[0] - '0')
	p := newStatefulSetPod(set, &template, revision, ordinal)
	p.UID = types.UID(p.Name)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	switch word[1:] {
	case "-":
		p.Status.Conditions[0].Status = corev1.ConditionFalse
	case "x":
		p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: now}, []string{"x"}
	case "!":
		p.Status.Phase = corev1.PodFailed
	}
	return p
}

func writesOf(client *fake.Clientset, old string) string {
	var words []string
	for _, action := range client.Actions() {
		switch a := action.(type) {
		case core.DeleteAction:
			words = append(words, "delete "+a.GetName())
		case core.CreateAction:
			if a.GetVerb() != "create" {
				continue
			}
			object := a.GetObject().(metav1.Object)
			word := "create " + object.GetName()
			if object.GetLabels()[appsv1.StatefulSetRevisionLabel] == old {
				word += " old"
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// Who owns a claim decides when it goes (KEP-1847).
func TestClaimOwners(t *testing.T) {
	const retain, remove = appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	for _, test := range []struct {
		whenDeleted, whenScaled appsv1.PersistentVolumeClaimRetentionPolicyType
		condemned               bool
		want                    string
	}{
		{retain, retain, true, "[]"}, {remove, retain, false, "[StatefulSet]"}, {remove, retain, true, "[StatefulSet]"},
		{retain, remove, false, "[]"}, {retain, remove, true, "[Pod]"}, {remove, remove, true, "[Pod]"},
	} {
		set := newSet("x")
		claims(appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: test.whenDeleted, WhenScaled: test.whenScaled})(set)
		kinds := []string{}
		for _, ref := range claimOwners(set, &corev1.Pod{}, test.condemned) {
			kinds = append(kinds, ref.Kind)
		}
		if got := fmt.Sprint(kinds); got != test.want {
			t.Errorf("%+v: owners %s", test, got)
		}
	}
}

// Of a claim that others decide over, the set takes its hands; one that is about to go with
// a pod or set of the same name it does not touch (KEP-1847).
func TestNewClaimOwners(t *testing.T) {
	set, pod := newSet("x"), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "db-0", UID: "pod"}}
	set.UID = "set"
	const remove = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	claims(appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: remove, WhenScaled: remove})(set)
	free := newSet("x")
	free.UID = "set"
	refs := func(words string) (all []metav1.OwnerReference) {
		for _, word := range strings.Fields(words) {
			word, decides := strings.CutPrefix(word, "!")
			kind, uid, _ := strings.Cut(word, "/")
			name := map[string]string{"StatefulSet": set.Name, "Pod": pod.Name}[kind]
			all = append(all, metav1.OwnerReference{Kind: kind, Name: name, UID: types.UID(uid), Controller: &decides})
		}
		return all
	}
	for _, test := range []struct {
		known, want string
		conflict    bool
		set         *appsv1.StatefulSet
	}{
		{known: "", want: "StatefulSet/set"},
		{known: "!Pod/pod Thing/a", want: "Thing/a StatefulSet/set"},
		{known: "StatefulSet/set", want: "StatefulSet/set"},
		{known: "!Thing/a !StatefulSet/set", want: "Thing/a", conflict: true},
		{known: "!Thing/a", want: "Thing/a", conflict: true},
		{known: "!Thing/a !Pod/pod", want: "Thing/a StatefulSet/set", set: free},
		{known: "!Pod/before", want: "Pod/before"},
		{known: "Thing/a !StatefulSet/before", want: "Thing/a StatefulSet/before"},
	} {
		owner := set
		if test.set != nil {
			owner = test.set
		}
		got, conflict := newClaimOwners(owner, pod, refs(test.known), refs("!StatefulSet/set"))
		var words []string
		for _, ref := range got {
			words = append(words, ref.Kind+"/"+string(ref.UID))
		}
		if text := strings.Join(words, " "); text != test.want || conflict != test.conflict {
			t.Errorf("%q: %q, conflict %v; want %q, %v", test.known, text, conflict, test.want, test.conflict)
		}
	}
}

// After a scale down and up again, the new pod waits until the claim of the old one is gone;
// otherwise it would start with a volume that is taken away under it.
func TestStaleClaimIsWaitedFor(t *testing.T) {
	set := newSet("new")
	claims(appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType})(set)
	stale := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data-db-0",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "db-0", UID: "before", Controller: ptr.To(true)}}}}
	client := fake.NewClientset(set, stale)
	recorder := record.NewFakeRecorder(10)
	factory := informers.NewSharedInformerFactory(client, 0)
	ssc, err := New(client, factory, recorder, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
	if err != nil {
		t.Fatal(err)
	}
	old, _ := revisions(t, ssc, client, factory, set)
	_ = factory.Apps().V1().StatefulSets().Informer().GetIndexer().Add(set)
	client.ClearActions()
	if _, err := ssc.sync(t.Context(), "ns/db"); !errors.Is(err, errStaleClaim) {
		t.Errorf("the turn ends with %v", err)
	}
	if got := writesOf(client, old); got != "" || len(recorder.Events) > 0 {
		t.Errorf("writes %q and %d events while the claim is there", got, len(recorder.Events))
	}
	if err := client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), "ns", "data-db-0"); err != nil {
		t.Fatal(err)
	}
	client.ClearActions()
	if _, err := ssc.sync(t.Context(), "ns/db"); err != nil {
		t.Fatal(err)
	}
	if got := writesOf(client, old); got != "create data-db-0, create db-0" {
		t.Errorf("writes %q once it is gone", got)
	}
	for _, want := range []string{"Normal SuccessfulCreate Create Claim data-db-0 Pod db-0 in StatefulSet db success",
		"Normal SuccessfulCreate Create Pod db-0 in StatefulSet db successful"} {
		if got := <-recorder.Events; got != want {
			t.Errorf("event %q, want %q", got, want)
		}
	}
}

// A pod that lost the labels of its identity gets them back, and that is told.
func TestIdentityIsMended(t *testing.T) {
	set := newSet("new")
	client, recorder := fake.NewClientset(set), record.NewFakeRecorder(10)
	factory := informers.NewSharedInformerFactory(client, 0)
	ssc, err := New(client, factory, recorder, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
	if err != nil {
		t.Fatal(err)
	}
	old, current := revisions(t, ssc, client, factory, set)
	p := podOf(set, "0-", old, current)
	delete(p.Labels, appsv1.StatefulSetPodNameLabel)
	_ = client.Tracker().Add(p)
	_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(p)
	_ = factory.Apps().V1().StatefulSets().Informer().GetIndexer().Add(set)
	if _, err := ssc.sync(t.Context(), "ns/db"); err != nil {
		t.Fatal(err)
	}
	mended, err := client.CoreV1().Pods("ns").Get(t.Context(), "db-0", metav1.GetOptions{})
	if err != nil || mended.Labels[appsv1.StatefulSetPodNameLabel] != "db-0" {
		t.Errorf("labels %v, error %v", mended.Labels, err)
	}
	if got := <-recorder.Events; got != "Normal SuccessfulUpdate Update Pod db-0 in StatefulSet db successful" {
		t.Errorf("event %q", got)
	}
}
