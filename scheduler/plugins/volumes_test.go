package plugins

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"hyperkube/scheduler/framework"
)

// claims makes the pod mount claims of these names, in the namespace "".
func claims(names ...string) podOption {
	return func(p *v1.Pod) {
		for _, n := range names {
			p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: n, VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: n}}})
		}
	}
}

func pvc(name, class, size string, change ...func(*v1.PersistentVolumeClaim)) *v1.PersistentVolumeClaim {
	c := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "1", Annotations: map[string]string{}}, Spec: v1.PersistentVolumeClaimSpec{
		StorageClassName: &class, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, Resources: v1.VolumeResourceRequirements{Requests: list("storage", size)}}}
	for _, f := range change {
		f(c)
	}
	return c
}

func boundTo(volume string) func(*v1.PersistentVolumeClaim) {
	return func(c *v1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Status.Phase = volume, v1.ClaimBound
		c.Annotations[storagehelpers.AnnBindCompleted] = "yes"
	}
}

func selectedNode(name string) func(*v1.PersistentVolumeClaim) {
	return func(c *v1.PersistentVolumeClaim) { c.Annotations[storagehelpers.AnnSelectedNode] = name }
}

func oncePod(c *v1.PersistentVolumeClaim) {
	c.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}
}

func leaving(c *v1.PersistentVolumeClaim) {
	c.DeletionTimestamp, c.Finalizers = ptr.To(metav1.Now()), []string{"x/y"}
}

func pv(name, class, size string, change ...func(*v1.PersistentVolume)) *v1.PersistentVolume {
	v := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "1", Labels: map[string]string{}}, Spec: v1.PersistentVolumeSpec{
		StorageClassName: class, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, Capacity: list("storage", size)},
		Status: v1.PersistentVolumeStatus{Phase: v1.VolumeAvailable}}
	for _, f := range change {
		f(v)
	}
	return v
}

// reachedBy ties a volume to the nodes with a label.
func reachedBy(key, value string) func(*v1.PersistentVolume) {
	return func(v *v1.PersistentVolume) {
		v.Spec.NodeAffinity = &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
			MatchExpressions: []v1.NodeSelectorRequirement{{Key: key, Operator: v1.NodeSelectorOpIn, Values: []string{value}}}}}}}
	}
}

func volumeLabel(key, value string) func(*v1.PersistentVolume) {
	return func(v *v1.PersistentVolume) { v.Labels[key] = value }
}

func ofDriver(driver string) func(*v1.PersistentVolume) {
	return func(v *v1.PersistentVolume) {
		v.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: v.Name}
	}
}

func sc(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

func capacityFor(class, size, key, value string) *storagev1.CSIStorageCapacity {
	return &storagev1.CSIStorageCapacity{ObjectMeta: metav1.ObjectMeta{Name: class + size}, StorageClassName: class, NodeTopology: selectorOf(key, value), Capacity: ptr.To(resource.MustParse(size))}
}

var (
	wait   = sc("wait", "x.example", storagev1.VolumeBindingWaitForFirstConsumer)
	static = sc("static", storagehelpers.NotSupportedProvisioner, storagev1.VolumeBindingWaitForFirstConsumer)
	now    = sc("now", "x.example", storagev1.VolumeBindingImmediate)
)

// volumeRefusal is what PreFilter, or Filter for the node "n" in zone "z", has against a pod.
func volumeRefusal(t *testing.T, plugin string, pod *v1.Pod, running []*v1.Pod, objects ...runtime.Object) []string {
	t.Helper()
	snapshot := snapshotOf([]*v1.Node{makeNode("n", label(zone, "z"))}, running...)
	p := pluginWith(t, plugin, snapshot, objects...)
	state, info := framework.NewCycleState(), framework.NewPodInfo(pod)
	if _, s := p.(framework.PreFilterPlugin).PreFilter(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
		return s.Reasons()
	}
	return p.(framework.FilterPlugin).Filter(t.Context(), state, info, snapshot.List()[0]).Reasons()
}

func TestVolumeFilters(t *testing.T) {
	const (
		noVolume  = "node(s) didn't find available persistent volumes to bind"
		elsewhere = "node(s) didn't match PersistentVolume's node affinity"
		full      = "node(s) did not have enough free storage"
		taken     = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
		tooMany   = "node(s) exceed max volume count"
	)
	tracks := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "x.example"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: ptr.To(true)}}
	required := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "x.example"}, Spec: storagev1.CSIDriverSpec{PreventPodSchedulingIfMissing: ptr.To(true)}}
	one := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "x.example", Allocatable: &storagev1.VolumeNodeResources{Count: ptr.To[int32](1)}}}}}
	inZone := wait.DeepCopy()
	inZone.AllowedTopologies = []v1.TopologySelectorTerm{{MatchLabelExpressions: []v1.TopologySelectorLabelRequirement{{Key: zone, Values: []string{"y"}}}}}
	disk := func(readOnly bool) podOption {
		return func(p *v1.Pod) {
			p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: "d", VolumeSource: v1.VolumeSource{ISCSI: &v1.ISCSIVolumeSource{IQN: "q", ReadOnly: readOnly}}})
		}
	}
	binding, restrictions, zones, limits := "VolumeBinding", "VolumeRestrictions", "VolumeZone", "NodeVolumeLimits"
	for name, test := range map[string]struct {
		plugin  string
		pod     *v1.Pod
		running []*v1.Pod
		objects []runtime.Object
		reason  string
	}{
		"no such claim":           {binding, makePod("p", claims("c")), nil, nil, `persistentvolumeclaim "c" not found`},
		"a claim that is leaving": {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", leaving), now}, `persistentvolumeclaim "c" is being deleted`},
		"a claim that is lost": {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v"), func(c *v1.PersistentVolumeClaim) { c.Status.Phase = v1.ClaimLost })},
			`persistentvolumeclaim "c" bound to non-existent persistentvolume "v"`},
		"not bound, though at once":   {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi"), now}, "pod has unbound immediate PersistentVolumeClaims"},
		"bound":                       {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", reachedBy(zone, "z"))}, ""},
		"bound to another zone's":     {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", reachedBy(zone, "y"))}, elsewhere},
		"bound to nothing":            {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v"))}, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"},
		"a free volume":               {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "static", "1Gi"), static, pv("v", "static", "1Gi")}, ""},
		"a free volume elsewhere":     {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "static", "1Gi"), static, pv("v", "static", "1Gi", reachedBy(zone, "y"))}, noVolume},
		"one volume for two claims":   {binding, makePod("p", claims("c", "d")), nil, []runtime.Object{pvc("c", "static", "1Gi"), pvc("d", "static", "1Gi"), static, pv("v", "static", "1Gi")}, noVolume},
		"small ones to small claims":  {binding, makePod("p", claims("c", "d")), nil, []runtime.Object{pvc("c", "static", "2Gi"), pvc("d", "static", "1Gi"), static, pv("v", "static", "1Gi"), pv("w", "static", "2Gi")}, ""},
		"to be made":                  {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "wait", "1Gi"), wait}, ""},
		"to be made here":             {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "wait", "1Gi", selectedNode("n")), wait}, ""},
		"to be made on another node":  {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "wait", "1Gi", selectedNode("m")), wait}, noVolume},
		"to be made in another zone":  {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "wait", "1Gi"), inZone}, noVolume},
		"enough left":                 {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "wait", "1Gi"), wait, tracks, capacityFor("wait", "1Gi", zone, "z")}, ""},
		"not enough left":             {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "wait", "2Gi"), wait, tracks, capacityFor("wait", "1Gi", zone, "z")}, full},
		"enough left in another zone": {binding, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "wait", "1Gi"), wait, tracks, capacityFor("wait", "1Gi", zone, "y")}, full},

		"a claim for one pod":          {restrictions, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", oncePod)}, ""},
		"a claim that one pod has":     {restrictions, makePod("p", claims("c")), []*v1.Pod{makePod("q", claims("c"), onNode("n"))}, []runtime.Object{pvc("c", "now", "1Gi", oncePod)}, taken},
		"a claim that pods share":      {restrictions, makePod("p", claims("c")), []*v1.Pod{makePod("q", claims("c"), onNode("n"))}, []runtime.Object{pvc("c", "now", "1Gi")}, ""},
		"that name in another place":   {restrictions, makePod("p", claims("c")), []*v1.Pod{makePod("q", claims("c"), onNode("n"), inNamespace("x"))}, []runtime.Object{pvc("c", "now", "1Gi", oncePod)}, ""},
		"a disk that is mounted":       {restrictions, makePod("p", disk(false)), []*v1.Pod{makePod("q", disk(true), onNode("n"))}, nil, "node(s) had no available disk"},
		"a disk that is only read":     {restrictions, makePod("p", disk(true)), []*v1.Pod{makePod("q", disk(true), onNode("n"))}, nil, ""},
		"a volume of this zone":        {zones, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", volumeLabel(zone, "z"))}, ""},
		"a volume of several":          {zones, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", volumeLabel(v1.LabelFailureDomainBetaZone, "y__z"))}, ""},
		"a volume of another zone":     {zones, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", volumeLabel(zone, "y"))}, "node(s) had no available volume zone"},
		"a volume of a region":         {zones, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", volumeLabel(v1.LabelTopologyRegion, "r"))}, "node(s) had no available volume zone"},
		"room for a volume":            {limits, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", ofDriver("x.example")), one}, ""},
		"no room for another":          {limits, makePod("p", claims("c")), []*v1.Pod{makePod("q", claims("d"), onNode("n"))}, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", ofDriver("x.example")), pvc("d", "now", "1Gi", boundTo("w")), pv("w", "now", "1Gi", ofDriver("x.example")), one}, tooMany},
		"one to be made counts":        {limits, makePod("p", claims("c", "d")), nil, []runtime.Object{pvc("c", "now", "1Gi"), pvc("d", "now", "1Gi"), now, one}, tooMany},
		"there already":                {limits, makePod("p", claims("c")), []*v1.Pod{makePod("q", claims("c"), onNode("n"))}, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", ofDriver("x.example")), one}, ""},
		"of another driver":            {limits, makePod("p", claims("c")), []*v1.Pod{makePod("q", claims("d"), onNode("n"))}, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", ofDriver("y.example")), pvc("d", "now", "1Gi", boundTo("w")), pv("w", "now", "1Gi", ofDriver("x.example")), one}, ""},
		"its driver is not installed":  {limits, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", ofDriver("x.example")), required}, "x.example CSI driver is not installed on the node"},
		"attached, of a pod that went": {limits, makePod("p", claims("c")), nil, []runtime.Object{pvc("c", "now", "1Gi", boundTo("v")), pv("v", "now", "1Gi", ofDriver("x.example")), pv("w", "now", "1Gi", ofDriver("x.example")), one, &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "n", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("w")}}}}, tooMany},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			if test.reason != "" {
				want = []string{test.reason}
			}
			if got := volumeRefusal(t, test.plugin, test.pod, test.running, test.objects...); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// What one pod was promised is not promised to the next, until it is taken back (Reserve, Unreserve).
func TestReservedVolumesAreTaken(t *testing.T) {
	snapshot := snapshotOf([]*v1.Node{makeNode("n")})
	p := pluginWith(t, "VolumeBinding", snapshot, pvc("c", "static", "1Gi"), pvc("d", "static", "1Gi"), static, pv("v", "static", "1Gi"))
	attempt := func(pod *v1.Pod) (*framework.CycleState, string) {
		state, info := framework.NewCycleState(), framework.NewPodInfo(pod)
		if _, s := p.(framework.PreFilterPlugin).PreFilter(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
			t.Fatal(s.Message())
		}
		return state, p.(framework.FilterPlugin).Filter(t.Context(), state, info, snapshot.List()[0]).Message()
	}
	first, second := makePod("p", claims("c")), makePod("q", claims("d"))
	state, refusal := attempt(first)
	if refusal != "" {
		t.Fatal(refusal)
	}
	reserve := p.(framework.ReservePlugin)
	if s := reserve.Reserve(t.Context(), state, first, "n"); !s.IsSuccess() {
		t.Fatal(s.Message())
	}
	if _, refusal := attempt(second); refusal != "node(s) didn't find available persistent volumes to bind" {
		t.Errorf("the volume was promised twice: %q", refusal)
	}
	reserve.Unreserve(t.Context(), state, first, "n")
	if _, refusal := attempt(second); refusal != "" {
		t.Errorf("the volume was not given back: %q", refusal)
	}
}

// With a shape in the args nodes are compared by how full the volumes would be that the pod takes.
func TestVolumeScores(t *testing.T) {
	a, b := makeNode("a", label("host", "a")), makeNode("b", label("host", "b"))
	snapshot := snapshotOf([]*v1.Node{a, b})
	objects := []runtime.Object{pvc("c", "static", "1Gi"), static, pv("v", "static", "1Gi", reachedBy("host", "a")), pv("w", "static", "4Gi", reachedBy("host", "b"))}
	p := pluginWithArgs(t, "VolumeBinding", `{"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}`, snapshot, objects...)
	state, info := framework.NewCycleState(), framework.NewPodInfo(makePod("p", claims("c")))
	if _, s := p.(framework.PreFilterPlugin).PreFilter(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
		t.Fatal(s.Message())
	}
	var got []int64
	for _, n := range []string{"a", "b"} {
		node, _ := snapshot.Get(n)
		if s := p.(framework.FilterPlugin).Filter(t.Context(), state, info, node); !s.IsSuccess() {
			t.Fatal(s.Message())
		}
		score, _ := p.(framework.ScorePlugin).Score(t.Context(), state, info, node)
		got = append(got, score)
	}
	if want := []int64{100, 25}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Which events bring a pod back that was refused for its volumes.
func TestVolumeHints(t *testing.T) {
	pod := makePod("p", claims("c"))
	more := capacityFor("wait", "2Gi", zone, "z")
	for name, test := range map[string]struct {
		plugin   string
		resource framework.EventResource
		old, new any
		want     framework.QueueingHint
	}{
		"its claim":             {"VolumeBinding", framework.PersistentVolumeClaim, nil, pvc("c", "now", "1Gi"), framework.Queue},
		"another claim":         {"VolumeBinding", framework.PersistentVolumeClaim, nil, pvc("d", "now", "1Gi"), framework.QueueSkip},
		"a new class":           {"VolumeBinding", framework.StorageClass, nil, now, framework.Queue},
		"a class as it was":     {"VolumeBinding", framework.StorageClass, now, now, framework.QueueSkip},
		"more capacity":         {"VolumeBinding", framework.CSIStorageCapacity, capacityFor("wait", "1Gi", zone, "z"), more, framework.Queue},
		"less capacity":         {"VolumeBinding", framework.CSIStorageCapacity, more, capacityFor("wait", "1Gi", zone, "z"), framework.QueueSkip},
		"its claim's user goes": {"VolumeRestrictions", framework.AssignedPod, makePod("q", claims("c")), nil, framework.Queue},
		"another's user goes":   {"VolumeRestrictions", framework.AssignedPod, makePod("q", claims("d")), nil, framework.QueueSkip},
		"a volume's zone":       {"VolumeZone", framework.PersistentVolume, pv("v", "", "1Gi"), pv("v", "", "1Gi", volumeLabel(zone, "z")), framework.Queue},
		"a volume as it was":    {"VolumeZone", framework.PersistentVolume, pv("v", "", "1Gi"), pv("v", "", "1Gi"), framework.QueueSkip},
		"a user of volumes":     {"NodeVolumeLimits", framework.AssignedPod, makePod("q", claims("d")), nil, framework.Queue},
		"one of none":           {"NodeVolumeLimits", framework.AssignedPod, makePod("q"), nil, framework.QueueSkip},
	} {
		events, err := pluginWith(t, test.plugin, snapshotOf(nil)).(framework.EnqueueExtensions).EventsToRegister(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(events, func(e framework.ClusterEventWithHint) bool { return e.Event.Resource == test.resource })
		if got, err := events[i].QueueingHintFn(klog.Background(), pod, test.old, test.new); err != nil || got != test.want {
			t.Errorf("%s: %v %v, want %v", name, got, err, test.want)
		}
	}
}
