package volume

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
)

// growing notes what was grown.
type growing struct {
	deviceMounts
	grown []string
	err   error
}

func (g *growing) grow(source, dir string) error {
	g.grown = append(g.grown, source+" at "+dir)
	return g.err
}

// A claim that waits for its node gets the device's new size: when it is mounted, and while it is in use. What a resizer has
// not handed over, what has its size, and what is only read stays as it is.
func TestFileSystemsGrowWithTheirDevice(t *testing.T) {
	const pending, inProgress = v1.PersistentVolumeClaimNodeResizePending, v1.PersistentVolumeClaimNodeResizeInProgress
	device := blockDevice(t)
	for name, test := range map[string]struct {
		state    v1.ClaimResourceStatus
		size     string // of the volume; the claim has 10Mi
		readOnly bool
		fails    error
		grown    int
		dir      bool // the volume is a directory
		events   []string
	}{
		"a directory":             {state: pending, size: "20Mi", dir: true, events: []string{"FileSystemResizeSuccessful"}},
		"handed over":             {state: pending, size: "20Mi", grown: 1, events: []string{"FileSystemResizeSuccessful MountVolume.NodeExpandVolume succeeded for volume \"pv\""}},
		"begun by another life":   {state: inProgress, size: "20Mi", grown: 1, events: []string{"FileSystemResizeSuccessful"}},
		"a resizer works at it":   {state: v1.PersistentVolumeClaimControllerResizeInProgress, size: "20Mi"},
		"not marked":              {size: "20Mi"},
		"it has its size":         {state: pending, size: "10Mi"},
		"only read":               {state: pending, size: "20Mi", readOnly: true, events: []string{"FileSystemResizeFailed MountVolume.NodeExpandVolume failed for volume \"pv\" requested read-only file system"}},
		"the file system refuses": {state: pending, size: "20Mi", fails: errors.New("resize2fs: no"), grown: 1, events: []string{"VolumeResizeFailed NodeExpandVolume.NodeExpandVolume failed for volume \"pv\" : resize2fs: no"}},
	} {
		for _, when := range []string{"mounted", "in use"} {
			t.Run(name+", "+when, func(t *testing.T) {
				path := device
				if test.dir {
					path = t.TempDir()
				}
				claim, pv := bound(local(path))
				pod := podOfClaim()
				pod.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = test.readOnly
				recorder, mounts := record.NewFakeRecorder(100), &growing{err: test.fails}
				host := &fakeHost{claims: map[string]*v1.PersistentVolumeClaim{"c": claim}, volumes: map[string]*v1.PersistentVolume{"pv": pv}}
				m := NewManager(Config{PodsDir: t.TempDir(), Host: host, Recorder: recorder, NoMounts: true})
				m.plugins, m.lookEvery = plugins(m.Host, mounts, recorder), 0
				old := v1.ResourceList{v1.ResourceStorage: resource.MustParse("10Mi")}
				claim.Status.Capacity, pv.Spec.Capacity = old, old.DeepCopy()
				if when == "in use" {
					if err := m.SetUpPod(context.Background(), pod, 0); err != nil || len(mounts.grown) > 0 {
						t.Fatal(err, mounts.grown)
					}
				}
				pv.Spec.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse(test.size)}
				claim.Status.Conditions = []v1.PersistentVolumeClaimCondition{{Type: v1.PersistentVolumeClaimFileSystemResizePending}, {Type: "Ours"}}
				if test.state != "" {
					claim.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: test.state}
				}
				err := m.SetUpPod(context.Background(), pod, 0)
				if when == "in use" && err != nil {
					t.Error("what is mounted serves on, whatever comes of it:", err)
				}
				if when == "mounted" && (err != nil) != (test.fails != nil) {
					t.Error(err)
				}
				if len(mounts.grown) != test.grown || test.grown > 0 && !strings.HasPrefix(mounts.grown[0], device+" at ") {
					t.Errorf("grown: %v, want %d", mounts.grown, test.grown)
				}
				checkClaim(t, host.claims["c"], (test.grown > 0 || test.dir) && test.fails == nil)
				checkEvents(t, recorder, test.events)
			})
		}
	}
}

func checkClaim(t *testing.T, claim *v1.PersistentVolumeClaim, finished bool) {
	t.Helper()
	size := claim.Status.Capacity[v1.ResourceStorage]
	_, waits := claim.Status.AllocatedResourceStatuses[v1.ResourceStorage]
	pending := slices.ContainsFunc(claim.Status.Conditions, func(c v1.PersistentVolumeClaimCondition) bool {
		return c.Type == v1.PersistentVolumeClaimFileSystemResizePending
	})
	if finished && (size.String() != "20Mi" || waits || pending || len(claim.Status.Conditions) != 1) || !finished && (size.String() != "10Mi" || !pending) {
		t.Errorf("finished %v: the claim has %s, waits %v, %v", finished, &size, waits, claim.Status.Conditions)
	}
}

func checkEvents(t *testing.T, recorder *record.FakeRecorder, want []string) {
	t.Helper()
	var got []string
	for len(recorder.Events) > 0 {
		got = append(got, <-recorder.Events)
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, w) }) {
			t.Errorf("events %q, want one with %q", got, w)
		}
	}
	if len(want) == 0 && len(got) > 0 {
		t.Errorf("events %q, want none", got)
	}
}

// A container that is added to look after a pod may be the only one that wants a volume as a device.
func TestEphemeralContainersHaveDevices(t *testing.T) {
	device := blockDevice(t)
	claim, pv := bound(local(device))
	pv.Spec.VolumeMode = ptr.To(v1.PersistentVolumeBlock)
	pod := podOfClaim()
	pod.Spec.Containers[0].VolumeMounts = nil
	pod.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{
		Name: "debug", VolumeDevices: []v1.VolumeDevice{{Name: "v0", DevicePath: "/dev/data"}},
	}}}
	m := newTestManager(t, &fakeHost{claims: map[string]*v1.PersistentVolumeClaim{"c": claim}, volumes: map[string]*v1.PersistentVolume{"pv": pv}})
	if err := m.SetUpPod(context.Background(), pod, 0); err != nil || !m.Mounted(pod.UID)["v0"].Device {
		t.Errorf("%v, %+v", err, m.Mounted(pod.UID))
	}
	// Added later, when the volume is known already.
	bare := pod.DeepCopy()
	bare.Spec.EphemeralContainers, bare.UID = nil, "later"
	if err := m.SetUpPod(context.Background(), bare, 0); err != nil {
		t.Fatal(err)
	}
	bare.Spec.EphemeralContainers = pod.Spec.EphemeralContainers
	if err := m.SetUpPod(context.Background(), bare, 0); err != nil || !m.Mounted(bare.UID)["v0"].Device {
		t.Errorf("added later: %v, %+v", err, m.Mounted(bare.UID))
	}
}
