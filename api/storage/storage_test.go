// Package storage_test checks the kinds of storage.k8s.io: each has a few rules of its own.
package storage_test

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
	"hyperkube/api/storage/csidriver"
	"hyperkube/api/storage/csinode"
	"hyperkube/api/storage/csistoragecapacity"
	"hyperkube/api/storage/storageclass"
	"hyperkube/api/storage/volumeattachment"
)

func TestCSIDriver(t *testing.T) {
	good := &storagev1.CSIDriver{}
	ruletest.Expect(t, csidriver.Validate(good), "spec.attachedRequired: Required value", "spec.podInfoOnMount: Required value", "spec.storageCapacity: Required value", "spec.seLinuxMount: Required value")
	csidriver.SetDefaults(good)
	for name, test := range map[string]struct {
		change func(s *storagev1.CSIDriverSpec)
		want   []string
	}{
		"good":   {func(s *storagev1.CSIDriverSpec) {}, nil},
		"group":  {func(s *storagev1.CSIDriverSpec) { s.FSGroupPolicy = ptr.To[storagev1.FSGroupPolicy]("x") }, []string{`spec.fsGroupPolicy: Unsupported value: "x": supported values: "File", "None", "ReadWriteOnceWithFSType"`}},
		"mode":   {func(s *storagev1.CSIDriverSpec) { s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{"x"} }, []string{"spec.volumeLifecycleModes: Unsupported value"}},
		"period": {func(s *storagev1.CSIDriverSpec) { s.NodeAllocatableUpdatePeriodSeconds = ptr.To[int64](9) }, []string{"spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds"}},
		"tokens": {func(s *storagev1.CSIDriverSpec) {
			s.TokenRequests = []storagev1.TokenRequest{{Audience: "a"}, {Audience: "a"}, {Audience: "b", ExpirationSeconds: ptr.To[int64](599)}, {ExpirationSeconds: ptr.To[int64](1<<32 + 1)}}
		}, []string{`spec.tokenRequests[1].audience: Duplicate value: "a"`, "spec.tokenRequests[2].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes", "spec.tokenRequests[3].expirationSeconds: Invalid value … larger than 2^32 seconds"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := good.DeepCopy()
			test.change(&d.Spec)
			ruletest.Expect(t, csidriver.Validate(d), test.want...)
		})
	}
	other := good.DeepCopy()
	other.Spec.AttachRequired, other.Spec.PodInfoOnMount = ptr.To(false), ptr.To(true)
	ruletest.Expect(t, csidriver.ValidateUpdate(other, good), "spec.attachedRequired: Invalid value … field is immutable")
}

func TestCSINode(t *testing.T) {
	good := &storagev1.CSINode{Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "a.example.com", NodeID: "n", TopologyKeys: []string{"topology.kubernetes.io/zone"}}}}}
	ruletest.Expect(t, csinode.Validate(good))
	for name, test := range map[string]struct {
		change func(d *storagev1.CSINodeDriver)
		want   []string
	}{
		"no name": {func(d *storagev1.CSINodeDriver) { d.Name = "" }, []string{"spec.drivers[0].name: Required value"}},
		"long":    {func(d *storagev1.CSINodeDriver) { d.NodeID = strings.Repeat("x", 257) }, []string{"spec.drivers[0].nodeID: Invalid value … must be 256 characters or less"}},
		"no id":   {func(d *storagev1.CSINodeDriver) { d.NodeID = "" }, []string{"spec.drivers[0].nodeID: Required value"}},
		"negative": {func(d *storagev1.CSINodeDriver) {
			d.Allocatable = &storagev1.VolumeNodeResources{Count: ptr.To[int32](-1)}
		}, []string{"spec.drivers[0].allocatable.count: Invalid value: -1"}},
		"keys": {func(d *storagev1.CSINodeDriver) { d.TopologyKeys = []string{"a", "a"} }, []string{`spec.drivers[0]: Duplicate value: "a"`}},
	} {
		t.Run(name, func(t *testing.T) {
			n := good.DeepCopy()
			test.change(&n.Spec.Drivers[0])
			ruletest.Expect(t, csinode.Validate(n), test.want...)
		})
	}
	// How many volumes fit is counted anew; another id is another node.
	n := good.DeepCopy()
	n.Spec.Drivers[0].Allocatable = &storagev1.VolumeNodeResources{Count: ptr.To[int32](3)}
	ruletest.Expect(t, csinode.ValidateUpdate(n, good))
	n.Spec.Drivers[0].NodeID = "m"
	ruletest.Expect(t, csinode.ValidateUpdate(n, good), "spec.drivers: Invalid value … field is immutable")
	n.Spec.Drivers = append(n.Spec.Drivers, n.Spec.Drivers[0])
	ruletest.Expect(t, csinode.Validate(n), `spec.drivers[1].name: Duplicate value: "a.example.com"`)
}

func TestCSIStorageCapacity(t *testing.T) {
	good := &storagev1.CSIStorageCapacity{StorageClassName: "fast", NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{"beta.kubernetes.io/os": "linux"}}}
	ruletest.Expect(t, csistoragecapacity.Validate(good))
	if w := csistoragecapacity.Warnings(good); !slices.Equal(w, []string{`nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use "kubernetes.io/os" instead`}) {
		t.Errorf("warnings: %q", w)
	}
	c := good.DeepCopy()
	c.Capacity = ptr.To(resource.MustParse("-1"))
	ruletest.Expect(t, csistoragecapacity.Validate(c), "capacity: Invalid value … must be greater than or equal to 0")
	c = good.DeepCopy()
	c.StorageClassName, c.NodeTopology = "slow", nil
	ruletest.Expect(t, csistoragecapacity.ValidateUpdate(c, good), "nodeTopology: Invalid value … field is immutable", "storageClassName: Invalid value … field is immutable")
}

func TestVolumeAttachment(t *testing.T) {
	good := &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{Attacher: "a.example.com", NodeName: "n", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("pv")}}}
	ruletest.Expect(t, volumeattachment.Validate(good))
	inline := v1.PersistentVolumeSpec{AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, StorageClassName: "x",
		PersistentVolumeSource: v1.PersistentVolumeSource{NFS: &v1.NFSVolumeSource{Server: "s", Path: "/"}}}
	for name, test := range map[string]struct {
		change func(a *storagev1.VolumeAttachment)
		want   []string
	}{
		"no attacher": {func(a *storagev1.VolumeAttachment) { a.Spec.Attacher = "" }, []string{"spec.attacher: Required value"}},
		"upper case":  {func(a *storagev1.VolumeAttachment) { a.Spec.Attacher = "A" }, nil},
		"long attacher": {func(a *storagev1.VolumeAttachment) { a.Spec.Attacher = strings.Repeat("ä", 64) },
			[]string{"spec.attacher: Invalid value … an RFC 1123 subdomain", "spec.attacher: Too long: may not be more than 63 characters"}},
		"no source": {func(a *storagev1.VolumeAttachment) { a.Spec.Source.PersistentVolumeName = nil }, []string{"spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"}},
		"both":      {func(a *storagev1.VolumeAttachment) { a.Spec.Source.InlineVolumeSpec = &inline }, []string{"spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName"}},
		"inline": {func(a *storagev1.VolumeAttachment) {
			a.Spec.Source = storagev1.VolumeAttachmentSource{InlineVolumeSpec: &inline}
		}, []string{"spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes", "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes"}},
		"error": {func(a *storagev1.VolumeAttachment) {
			a.Status.AttachError = &storagev1.VolumeError{Message: strings.Repeat("x", 1025), ErrorCode: ptr.To[int32](-1)}
		}, []string{"status.attachError.message: Too long", "status.attachError.errorCode: Invalid value: -1"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := good.DeepCopy()
			test.change(a)
			ruletest.Expect(t, volumeattachment.Validate(a), test.want...)
		})
	}
	moved := good.DeepCopy()
	moved.Spec.NodeName = "m"
	ruletest.Expect(t, volumeattachment.ValidateUpdate(moved, good), "spec: Invalid value … field is immutable")
	moved.Spec.Attacher = strings.Repeat("a", 64)
	ruletest.Expect(t, volumeattachment.ValidateUpdate(moved, good), "spec.attacher: Too long: may not be more than 63 bytes", "spec: Invalid value … field is immutable")
}

func TestAllowedTopologies(t *testing.T) {
	term := func(key string, values ...string) v1.TopologySelectorTerm {
		return v1.TopologySelectorTerm{MatchLabelExpressions: []v1.TopologySelectorLabelRequirement{{Key: key, Values: values}}}
	}
	c := &storagev1.StorageClass{Provisioner: "a.example.com/b", AllowedTopologies: []v1.TopologySelectorTerm{term("zone", "a", "a"), term("zone", "a"), term("failure-domain.beta.kubernetes.io/zone"), {}}}
	storageclass.SetDefaults(c)
	ruletest.Expect(t, storageclass.Validate(c), `allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"`,
		"allowedTopologies[1].matchLabelExpressions: Duplicate value", "allowedTopologies[2].matchLabelExpressions[0].values: Required value",
		"allowedTopologies[3].matchLabelExpressions: Duplicate value", "allowedTopologies[3].matchLabelExpressions: Duplicate value", "allowedTopologies[3].matchLabelExpressions: Duplicate value", "allowedTopologies[3].matchLabelExpressions: Duplicate value")
	if w := storageclass.Warnings(c); !slices.Equal(w, []string{`allowedTopologies[2].matchLabelExpressions[0].key: deprecated since v1.17; use "topology.kubernetes.io/zone" instead`}) {
		t.Errorf("warnings: %q", w)
	}
}
