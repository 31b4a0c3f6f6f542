package persistentvolume

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// The tables below build a claim "c" and volumes from small changes, sync one of them, and compare what is
// then in the store, in a line each, with the events.

type claimOption func(*corev1.PersistentVolumeClaim)
type volumeOption func(*corev1.PersistentVolume)

func claim(options ...claimOption) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c", Annotations: map[string]string{}}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To(""),
		Resources: corev1.VolumeResourceRequirements{Requests: storage("5Gi")}}}
	c.Status.Phase = corev1.ClaimPending
	for _, o := range options {
		o(c)
	}
	return c
}

func volume(name, size string, options ...volumeOption) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}}, Spec: corev1.PersistentVolumeSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Capacity: storage(size), PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain}}
	v.Status.Phase = corev1.VolumeAvailable
	for _, o := range options {
		o(v)
	}
	return v
}

func storage(size string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

func ofClass(name string) claimOption {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &name }
}
func noClass(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }
func names(volume string) claimOption {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = volume }
}
func wasBound(c *corev1.PersistentVolumeClaim) {
	c.Annotations[storagehelpers.AnnBindCompleted], c.Status.Phase = "yes", corev1.ClaimBound
}
func onNode(c *corev1.PersistentVolumeClaim) { c.Annotations[storagehelpers.AnnSelectedNode] = "n" }
func wants(modes ...corev1.PersistentVolumeAccessMode) claimOption {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.AccessModes = modes }
}
func block(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }
func selects(key, value string) claimOption {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
}

func has(modes ...corev1.PersistentVolumeAccessMode) volumeOption {
	return func(v *corev1.PersistentVolume) { v.Spec.AccessModes = modes }
}
func inClass(name string) volumeOption {
	return func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = name }
}
func labelled(key, value string) volumeOption {
	return func(v *corev1.PersistentVolume) { v.Labels = map[string]string{key: value} }
}
func phase(p corev1.PersistentVolumePhase) volumeOption {
	return func(v *corev1.PersistentVolume) { v.Status.Phase = p }
}
func policy(p corev1.PersistentVolumeReclaimPolicy) volumeOption {
	return func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = p }
}
func annotated(key, value string) volumeOption {
	return func(v *corev1.PersistentVolume) { v.Annotations[key] = value }
}

// claimedBy points at a claim of this name; without a UID a person has reserved the volume.
func claimedBy(name string, uid types.UID) volumeOption {
	return func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "ns", Name: name, UID: uid}
	}
}

func class(name, provisioner string, mode storagev1.VolumeBindingMode, isDefault bool) *storagev1.StorageClass {
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
	if isDefault {
		c.Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	}
	return c
}

func mounting(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{
		{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}}}
}

// world is a controller over objects, without a running loop.
type world struct {
	*Controller
	client *fake.Clientset
	events *record.FakeRecorder
}

func newWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	client, events := fake.NewClientset(objects...), record.NewFakeRecorder(10)
	factory := informers.NewSharedInformerFactory(client, 0)
	w := &world{New(client, factory, events, reconcile.Options{}), client, events}
	factory.StartWithContext(t.Context())
	factory.WaitForCacheSyncWithContext(t.Context())
	return w
}

// state is what the store has of claims and volumes.
func (w *world) state(t *testing.T) (lines []string) {
	t.Helper()
	claims, err := w.client.CoreV1().PersistentVolumeClaims("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range claims.Items {
		line := fmt.Sprintf("%s %s", c.Name, c.Status.Phase)
		if c.Spec.VolumeName != "" {
			line += " to " + c.Spec.VolumeName
		}
		if q, ok := c.Status.Capacity[corev1.ResourceStorage]; ok {
			line += " " + q.String()
		}
		if p := c.Annotations[storagehelpers.AnnStorageProvisioner]; p != "" {
			line += " asks " + p
		}
		if n := ptr.Deref(c.Spec.StorageClassName, ""); n != "" {
			line += " of " + n
		}
		lines = append(lines, line+ours(c.Annotations))
	}
	volumes, err := w.client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Items {
		line := fmt.Sprintf("%s %s", v.Name, v.Status.Phase)
		if ref := v.Spec.ClaimRef; ref != nil {
			line += fmt.Sprintf(" to %s/%s", ref.Name, ref.UID)
		}
		lines = append(lines, line+ours(v.Annotations))
	}
	for len(w.events.Events) > 0 {
		lines = append(lines, <-w.events.Events)
	}
	return lines
}

func ours(annotations map[string]string) string {
	if annotations[storagehelpers.AnnBoundByController] != "" {
		return " by us"
	}
	return ""
}

const (
	rwo, rox, rwx = corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany

	asked = "Normal ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'x.example' or manually by the system administrator. " +
		"If volume creation is delayed, please verify that the provisioner is running and correctly registered."
)

func TestSyncClaim(t *testing.T) {
	wait := class("wait", "x.example", storagev1.VolumeBindingWaitForFirstConsumer, false)
	now := class("now", "x.example", storagev1.VolumeBindingImmediate, false)
	byUs := annotated(storagehelpers.AnnBoundByController, "yes")
	for name, test := range map[string]struct {
		objects []runtime.Object
		want    []string
	}{
		"the smallest that is large enough": {[]runtime.Object{claim(), volume("a", "4Gi"), volume("b", "9Gi"), volume("d", "6Gi")},
			[]string{"c Bound to d 6Gi by us", "a Available", "b Available", "d Bound to c/c by us"}},
		"fewer access modes before size": {[]runtime.Object{claim(), volume("a", "5Gi", has(rwo, rwx)), volume("b", "9Gi")},
			[]string{"c Bound to b 9Gi by us", "a Available", "b Bound to c/c by us"}},
		"all access modes":          {[]runtime.Object{claim(wants(rwo, rox)), volume("a", "9Gi", has(rwo)), volume("b", "9Gi", has(rwo, rox))}, []string{"c Bound to b 9Gi by us", "a Available", "b Bound to c/c by us"}},
		"a selector":                {[]runtime.Object{claim(selects("disk", "ssd")), volume("a", "5Gi"), volume("b", "9Gi", labelled("disk", "ssd"))}, []string{"c Bound to b 9Gi by us", "a Available", "b Bound to c/c by us"}},
		"its own class":             {[]runtime.Object{claim(ofClass("x")), volume("a", "5Gi"), volume("b", "9Gi", inClass("x"))}, []string{"c Bound to b 9Gi of x by us", "a Available", "b Bound to c/c by us"}},
		"reserved for it":           {[]runtime.Object{claim(), volume("a", "5Gi"), volume("b", "9Gi", claimedBy("c", ""))}, []string{"c Bound to b 9Gi by us", "a Available", "b Bound to c/c"}},
		"reserved for another":      {[]runtime.Object{claim(), volume("a", "5Gi", claimedBy("x", ""))}, []string{"c Pending", "a Available to x/", "Normal FailedBinding no persistent volumes available for this claim and no storage class is set"}},
		"had another claim":         {[]runtime.Object{claim(), volume("a", "5Gi", phase(corev1.VolumeReleased))}, []string{"c Pending", "a Released", "Normal FailedBinding no persistent volumes available for this claim and no storage class is set"}},
		"a block device":            {[]runtime.Object{claim(block), volume("a", "5Gi")}, []string{"c Pending", "a Available", "Normal FailedBinding no persistent volumes available for this claim and no storage class is set"}},
		"waits for a pod":           {[]runtime.Object{claim(ofClass("wait")), wait, volume("a", "5Gi", inClass("wait"))}, []string{"c Pending of wait", "a Available", "Normal WaitForFirstConsumer waiting for first consumer to be created before binding"}},
		"waits for this pod":        {[]runtime.Object{claim(ofClass("wait")), wait, mounting("p")}, []string{"c Pending of wait", "Normal WaitForPodScheduled waiting for pod p to be scheduled"}},
		"waits for these pods":      {[]runtime.Object{claim(ofClass("wait")), wait, mounting("p"), mounting("q")}, []string{"c Pending of wait", "Normal WaitForPodScheduled waiting for pods p,q to be scheduled"}},
		"the scheduler has chosen":  {[]runtime.Object{claim(ofClass("wait"), onNode), wait}, []string{"c Pending asks x.example of wait", asked}},
		"provisioned at once":       {[]runtime.Object{claim(ofClass("now")), now}, []string{"c Pending asks x.example of now", asked}},
		"made for it meanwhile":     {[]runtime.Object{claim(ofClass("wait"), onNode), wait, volume("a", "5Gi", inClass("wait"), claimedBy("c", "c"))}, []string{"c Bound to a 5Gi of wait by us", "a Bound to c/c"}},
		"no such class":             {[]runtime.Object{claim(ofClass("no"))}, []string{"c Pending of no", `Warning ProvisioningFailed storageclass.storage.k8s.io "no" not found`}},
		"a class without a maker":   {[]runtime.Object{claim(ofClass("no")), class("no", storagehelpers.NotSupportedProvisioner, storagev1.VolumeBindingImmediate, false)}, []string{"c Pending of no", "Warning ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner"}},
		"a default that came later": {[]runtime.Object{claim(noClass), class("now", "x.example", storagev1.VolumeBindingImmediate, true)}, []string{"c Pending of now"}},
		"no class on purpose":       {[]runtime.Object{claim(), class("now", "x.example", storagev1.VolumeBindingImmediate, true)}, []string{"c Pending", "Normal FailedBinding no persistent volumes available for this claim and no storage class is set"}},

		"names a free one":             {[]runtime.Object{claim(names("b")), volume("a", "5Gi"), volume("b", "9Gi")}, []string{"c Bound to b 9Gi", "a Available", "b Bound to c/c by us"}},
		"names one that is too small":  {[]runtime.Object{claim(names("a")), volume("a", "1Gi")}, []string{"c Pending to a", "a Available", `Warning VolumeMismatch Cannot bind to requested volume "a": requested PV is too small`}},
		"names one of another class":   {[]runtime.Object{claim(names("a")), volume("a", "5Gi", inClass("x"))}, []string{"c Pending to a", "a Available", `Warning VolumeMismatch Cannot bind to requested volume "a": storageClassName does not match`}},
		"names one of other modes":     {[]runtime.Object{claim(names("a"), wants(rwx)), volume("a", "5Gi")}, []string{"c Pending to a", "a Available", `Warning VolumeMismatch Cannot bind to requested volume "a": incompatible accessMode`}},
		"names another's":              {[]runtime.Object{claim(names("a")), volume("a", "5Gi", claimedBy("x", "x"))}, []string{"c Pending to a", "a Available to x/x", `Warning FailedBinding volume "a" already bound to a different claim.`}},
		"names one that is not there":  {[]runtime.Object{claim(names("a"))}, []string{"c Pending to a"}},
		"both name each other":         {[]runtime.Object{claim(names("a")), volume("a", "5Gi", claimedBy("c", ""))}, []string{"c Bound to a 5Gi", "a Bound to c/c"}},
		"half bound":                   {[]runtime.Object{claim(), volume("a", "5Gi", claimedBy("c", "c"), byUs, phase(corev1.VolumeBound))}, []string{"c Bound to a 5Gi by us", "a Bound to c/c by us"}},
		"bound, its volume is gone":    {[]runtime.Object{claim(names("a"), wasBound)}, []string{"c Lost to a", "Warning ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!"}},
		"bound, its volume unbound":    {[]runtime.Object{claim(names("a"), wasBound), volume("a", "5Gi")}, []string{"c Bound to a 5Gi", "a Bound to c/c by us"}},
		"bound, its volume is another": {[]runtime.Object{claim(names("a"), wasBound), volume("a", "5Gi", claimedBy("x", "x"))}, []string{"c Lost to a", "a Available to x/x", "Warning ClaimMisbound Two claims are bound to the same volume, this one is bound incorrectly"}},
		"bound, the name was erased":   {[]runtime.Object{claim(wasBound), volume("a", "5Gi")}, []string{"c Lost", "a Available", "Warning ClaimLost Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.objects...)
			if _, err := w.sync(t.Context(), "pvc/ns/c"); err != nil {
				t.Fatal(err)
			}
			if got := w.state(t); !slices.Equal(got, test.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
		})
	}
}

func TestSyncVolume(t *testing.T) {
	provisioned := annotated(storagehelpers.AnnDynamicallyProvisioned, "x.example")
	byUs := annotated(storagehelpers.AnnBoundByController, "yes")
	bound := phase(corev1.VolumeBound)
	for name, test := range map[string]struct {
		objects []runtime.Object
		want    []string
	}{
		"new":                     {[]runtime.Object{volume("a", "5Gi", phase(corev1.VolumePending))}, []string{"a Available"}},
		"reserved":                {[]runtime.Object{volume("a", "5Gi", phase(corev1.VolumePending), claimedBy("c", ""))}, []string{"a Available to c/"}},
		"bound":                   {[]runtime.Object{claim(names("a")), volume("a", "5Gi", claimedBy("c", "c"))}, []string{"c Pending to a", "a Bound to c/c"}},
		"half bound: left to c":   {[]runtime.Object{claim(), volume("a", "5Gi", claimedBy("c", "c"))}, []string{"c Pending", "a Available to c/c"}},
		"retained":                {[]runtime.Object{volume("a", "5Gi", bound, claimedBy("c", "c"))}, []string{"a Released to c/c"}},
		"its claim was made anew": {[]runtime.Object{claim(), volume("a", "5Gi", bound, claimedBy("c", "old"))}, []string{"c Pending", "a Released to c/old"}},
		"deleted by its maker":    {[]runtime.Object{volume("a", "5Gi", bound, provisioned, claimedBy("c", "c"), policy(corev1.PersistentVolumeReclaimDelete))}, []string{"a Released to c/c"}},
		"deleted by nobody":       {[]runtime.Object{volume("a", "5Gi", bound, claimedBy("c", "c"), policy(corev1.PersistentVolumeReclaimDelete))}, []string{"a Failed to c/c", `Warning VolumeFailedDelete error getting deleter volume plugin for volume "a": no deletable volume plugin matched`}},
		"recycled by nobody":      {[]runtime.Object{volume("a", "5Gi", bound, claimedBy("c", "c"), policy(corev1.PersistentVolumeReclaimRecycle))}, []string{"a Failed to c/c", "Warning VolumeFailedRecycle No recycler plugin found for the volume!"}},
		"failed: said once":       {[]runtime.Object{volume("a", "5Gi", phase(corev1.VolumeFailed), claimedBy("c", "c"), policy(corev1.PersistentVolumeReclaimRecycle))}, []string{"a Failed to c/c"}},
		"c has another, ours":     {[]runtime.Object{claim(names("b")), volume("a", "5Gi", bound, byUs, claimedBy("c", "c"))}, []string{"c Pending to b", "a Available"}},
		"c has another, reserved": {[]runtime.Object{claim(names("b")), volume("a", "5Gi", bound, claimedBy("c", "c"))}, []string{"c Pending to b", "a Available to c/"}},
		"made for c, not needed":  {[]runtime.Object{claim(names("b")), volume("a", "5Gi", bound, provisioned, claimedBy("c", "c"), policy(corev1.PersistentVolumeReclaimDelete))}, []string{"c Pending to b", "a Released to c/c"}},
		"a device for files":      {[]runtime.Object{claim(block), volume("a", "5Gi", claimedBy("c", "c"))}, []string{"c Pending", "a Available to c/c", `Warning VolumeMismatch Cannot bind PersistentVolume to requested PersistentVolumeClaim "c" due to incompatible volumeMode.`, `Warning VolumeMismatch Cannot bind PersistentVolume "a" to requested PersistentVolumeClaim due to incompatible volumeMode.`}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.objects...)
			if _, err := w.sync(t.Context(), "pv/a"); err != nil {
				t.Fatal(err)
			}
			if got := w.state(t); !slices.Equal(got, test.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
		})
	}
}

// There is no resync: each event brings the claims and volumes back that have waited for it.
func TestWhatWaitsComesBack(t *testing.T) {
	other := claim(ofClass("x"), func(c *corev1.PersistentVolumeClaim) { c.Name = "other" })
	w := newWorld(t, claim(), other, volume("held", "1Gi", claimedBy("c", "c")))
	for name, test := range map[string]struct {
		got, want []string
	}{
		"a free volume wakes the claims of its class":   {w.keysOfVolume(reconcile.Event{New: volume("a", "1Gi")}), []string{"pv/a", "pvc/ns/c"}},
		"one that is taken wakes its own":               {w.keysOfVolume(reconcile.Event{New: volume("a", "1Gi", claimedBy("z", "z"))}), []string{"pv/a", "pvc/ns/z"}},
		"a claim wakes the volumes that point at it":    {w.keysOfClaim(reconcile.Event{Old: claim(names("a"))}), []string{"pvc/ns/c", "pv/a", "pv/held"}},
		"a class wakes the claims that name it":         {w.keysOfClass(reconcile.Event{New: class("x", "p", storagev1.VolumeBindingImmediate, false)}), []string{"pvc/ns/other"}},
		"a pod wakes its claims":                        {keysOfPod(reconcile.Event{New: mounting("p")}), []string{"pvc/ns/c"}},
		"a pod that changes wakes none":                 {keysOfPod(reconcile.Event{Old: mounting("p"), New: mounting("p")}), nil},
		"a deleted class wakes none: it helps nobody":   {w.keysOfClass(reconcile.Event{Old: class("x", "p", storagev1.VolumeBindingImmediate, false)}), nil},
		"a deleted volume wakes the claim it was bound": {w.keysOfVolume(reconcile.Event{Old: volume("a", "1Gi", claimedBy("c", "c"))}), []string{"pv/a", "pvc/ns/c"}},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s: %v, want %v", name, test.got, test.want)
		}
	}
}

// A claim that only the cache has lost is not Lost, and a volume whose claim only the cache has lost is not Released.
func TestAbsenceIsAskedOfTheAPIServer(t *testing.T) {
	w := newWorld(t, claim(names("a"), wasBound), volume("b", "5Gi", phase(corev1.VolumeBound), claimedBy("late", "late")))
	late := claim(names("b"), func(c *corev1.PersistentVolumeClaim) { c.Name, c.UID = "late", "late" })
	if err := w.client.Tracker().Add(late); err != nil {
		t.Fatal(err)
	}
	stale := informers.NewSharedInformerFactory(fake.NewClientset(), 0) // knows nothing
	w.volumeLister, w.claimLister = stale.Core().V1().PersistentVolumes().Lister(), stale.Core().V1().PersistentVolumeClaims().Lister()
	if err := w.client.Tracker().Add(volume("a", "5Gi", phase(corev1.VolumeBound), claimedBy("c", "c"))); err != nil {
		t.Fatal(err)
	}
	if err := w.syncClaim(t.Context(), claim(names("a"), wasBound)); err != nil {
		t.Fatal(err)
	}
	if err := w.syncVolume(t.Context(), volume("b", "5Gi", phase(corev1.VolumeBound), claimedBy("late", "late"))); err != nil {
		t.Fatal(err)
	}
	want := []string{"c Bound to a 5Gi", "late Pending to b", "a Bound to c/c", "b Bound to late/late"}
	if got := w.state(t); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
