package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// newProvisioner serves the node n1 and knows these objects.
func newProvisioner(t *testing.T, objects ...runtime.Object) (*Provisioner, *record.FakeRecorder) {
	t.Helper()
	nodes := t.TempDir()
	if err := os.Mkdir(filepath.Join(nodes, "n1"), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{Client: fake.NewClientset(objects...), NodesDir: nodes})
	if err != nil {
		t.Fatal(err)
	}
	events := record.NewFakeRecorder(20)
	p.recorder = events
	p.informers.StartWithContext(t.Context())
	p.informers.WaitForCacheSyncWithContext(t.Context())
	return p, events
}

func claim(change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "uid", Annotations: map[string]string{
			storagehelpers.AnnStorageProvisioner: Name, storagehelpers.AnnSelectedNode: "n1"}},
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To(ClassName), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}
	for _, f := range change {
		f(c)
	}
	return c
}

func class(mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: ClassName}, Provisioner: Name, VolumeBindingMode: &mode}
}

var node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelHostname: "host1"}}}

// What is made for a claim, and why nothing is.
func TestProvision(t *testing.T) {
	wait := class(storagev1.VolumeBindingWaitForFirstConsumer)
	onNode := func(name string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Annotations[storagehelpers.AnnSelectedNode] = name }
	}
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		class *storagev1.StorageClass
		made  bool
		event string // the last one
		back  bool   // the scheduler's choice is taken off
	}{
		"a claim of ours":     {claim: claim(), class: wait, made: true, event: "Normal ProvisioningSucceeded Successfully provisioned volume pvc-uid"},
		"another's":           {claim: claim(func(c *corev1.PersistentVolumeClaim) { c.Annotations[storagehelpers.AnnStorageProvisioner] = "x" }), class: wait},
		"another machine's":   {claim: claim(onNode("n2")), class: wait},
		"a node with a slash": {claim: claim(onNode("../n1")), class: wait},
		"not placed yet":      {claim: claim(func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, storagehelpers.AnnSelectedNode) }), class: wait},
		"a class that cannot wait": {claim: claim(func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, storagehelpers.AnnSelectedNode) }),
			class: class(storagev1.VolumeBindingImmediate), event: "must have volumeBindingMode WaitForFirstConsumer"},
		"many writers": {claim: claim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		}), class: wait, event: "access mode ReadWriteMany is not supported", back: true},
		"a device": {claim: claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }),
			class: wait, event: "volumeMode Block is not supported", back: true},
	} {
		t.Run(name, func(t *testing.T) {
			p, events := newProvisioner(t, test.claim, test.class, node)
			for range 2 { // a second try makes nothing new
				if _, err := p.sync(t.Context(), "pvc/ns/c"); err != nil {
					t.Fatal(err)
				}
			}
			last := ""
			for len(events.Events) > 0 {
				last = <-events.Events
			}
			if test.event == "" && last != "" || !strings.Contains(last, test.event) {
				t.Errorf("event %q, want %q", last, test.event)
			}
			volumes, err := p.Client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
			if err != nil || len(volumes.Items) != map[bool]int{true: 1}[test.made] {
				t.Fatalf("volumes %+v, %v", volumes.Items, err)
			}
			now, _ := p.Client.CoreV1().PersistentVolumeClaims("ns").Get(t.Context(), "c", metav1.GetOptions{})
			if _, chosen := now.Annotations[storagehelpers.AnnSelectedNode]; test.back && chosen {
				t.Error("the claim keeps the node for which nothing can be made")
			}
			if !test.made {
				return
			}
			v := volumes.Items[0]
			info, err := os.Stat(filepath.Join(p.NodesDir, "n1", "volumes", "pvc-uid"))
			if err != nil || info.Mode().Perm() != 0o777 || v.Spec.Local.Path != filepath.Join(p.NodesDir, "n1", "volumes", "pvc-uid") {
				t.Errorf("directory %v %v of volume at %s", info, err, v.Spec.Local.Path)
			}
			if v.Spec.ClaimRef.UID != "uid" || v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete || len(v.Finalizers) != 1 {
				t.Errorf("volume %+v", v)
			}
			if err := storagehelpers.CheckNodeAffinity(&v, node.Labels); err != nil {
				t.Errorf("its own node does not reach it: %v", err)
			}
			if storagehelpers.CheckNodeAffinity(&v, map[string]string{corev1.LabelHostname: "host2"}) == nil {
				t.Error("another node reaches it")
			}
		})
	}
}

// A directory goes only if its volume is ours, released, and to be deleted; and never another directory than that
// of the volume's name.
func TestDelete(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(*corev1.PersistentVolume)
		gone, dead bool // the object; the directory
	}{
		"released":    {func(*corev1.PersistentVolume) {}, true, true},
		"still bound": {func(v *corev1.PersistentVolume) { v.Status.Phase = corev1.VolumeBound }, false, false},
		"to be kept": {func(v *corev1.PersistentVolume) {
			v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		}, false, false},
		"not made by us":         {func(v *corev1.PersistentVolume) { delete(v.Annotations, storagehelpers.AnnDynamicallyProvisioned) }, false, false},
		"another machine's":      {func(v *corev1.PersistentVolume) { v.Annotations[nodeAnnotation] = "n2" }, false, false},
		"its path is a lie":      {func(v *corev1.PersistentVolume) { v.Spec.Local.Path = "/" }, true, true},
		"its node leads outside": {func(v *corev1.PersistentVolume) { v.Annotations[nodeAnnotation] = ".." }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v", UID: "v", Finalizers: []string{finalizer},
				Annotations: map[string]string{storagehelpers.AnnDynamicallyProvisioned: Name, nodeAnnotation: "n1"}},
				Spec:   corev1.PersistentVolumeSpec{PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete, PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{}}},
				Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeReleased}}
			test.change(volume)
			p, _ := newProvisioner(t, volume)
			dir := p.path("n1", "v")
			if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := p.sync(t.Context(), "pv/v"); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(dir)
			if os.IsNotExist(err) != test.dead {
				t.Errorf("directory gone: %v, want %v", os.IsNotExist(err), test.dead)
			}
			_, err = p.Client.CoreV1().PersistentVolumes().Get(t.Context(), "v", metav1.GetOptions{})
			if apierrors.IsNotFound(err) != test.gone {
				t.Errorf("volume gone: %v, want %v", apierrors.IsNotFound(err), test.gone)
			}
		})
	}
}

// The class is the default one, unless there is one; and nobody's changes to it are undone.
func TestEnsureClass(t *testing.T) {
	const isDefault = "storageclass.kubernetes.io/is-default-class"
	other := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast", Annotations: map[string]string{isDefault: "true"}}}
	changed := class(storagev1.VolumeBindingImmediate)
	for name, test := range map[string]struct {
		there       []runtime.Object
		wantDefault bool
		mode        storagev1.VolumeBindingMode
	}{
		"none":            {nil, true, storagev1.VolumeBindingWaitForFirstConsumer},
		"another default": {[]runtime.Object{other}, false, storagev1.VolumeBindingWaitForFirstConsumer},
		"changed":         {[]runtime.Object{changed}, false, storagev1.VolumeBindingImmediate},
	} {
		p, _ := newProvisioner(t, test.there...)
		if err := p.ensureClass(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := p.Client.StorageV1().StorageClasses().Get(t.Context(), ClassName, metav1.GetOptions{})
		if err != nil || (got.Annotations[isDefault] == "true") != test.wantDefault || *got.VolumeBindingMode != test.mode {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// A claim that asks for more gets it, and so does its volume.
func TestResize(t *testing.T) {
	bound := claim(func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Status.Phase = "v", corev1.ClaimBound
		c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("500Mi")}
	})
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v", Annotations: map[string]string{storagehelpers.AnnDynamicallyProvisioned: Name, nodeAnnotation: "n1"}},
		Spec: corev1.PersistentVolumeSpec{Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("500Mi")}}}
	p, _ := newProvisioner(t, bound, volume)
	if _, err := p.sync(t.Context(), "pvc/ns/c"); err != nil {
		t.Fatal(err)
	}
	c, _ := p.Client.CoreV1().PersistentVolumeClaims("ns").Get(t.Context(), "c", metav1.GetOptions{})
	v, _ := p.Client.CoreV1().PersistentVolumes().Get(t.Context(), "v", metav1.GetOptions{})
	if a, b := c.Status.Capacity[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage]; a.String() != "1Gi" || b.String() != "1Gi" {
		t.Errorf("claim has %s, volume %s", a.String(), b.String())
	}
}
