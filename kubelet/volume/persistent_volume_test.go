package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// bound is a claim "c" that is bound to a volume "pv" of this source.
func bound(source v1.PersistentVolumeSource) (*v1.PersistentVolumeClaim, *v1.PersistentVolume) {
	claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c"}, Spec: v1.PersistentVolumeClaimSpec{VolumeName: "pv"}}
	claim.Status.Phase = v1.ClaimBound
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: v1.PersistentVolumeSpec{
		PersistentVolumeSource: source, ClaimRef: &v1.ObjectReference{Namespace: "ns", Name: "c", UID: "c"}}}
	return claim, pv
}

func local(path string) v1.PersistentVolumeSource {
	return v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}}
}

func podOfClaim() *v1.Pod {
	pod := podWith(v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}})
	pod.Spec.Containers = []v1.Container{{Name: "c", VolumeMounts: []v1.VolumeMount{{Name: "v0", MountPath: "/data"}}}}
	return pod
}

// What a claim leads to, or why it leads nowhere, in the words of the events and of the sync's error.
func TestClaims(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	for name, test := range map[string]struct {
		source v1.PersistentVolumeSource
		change func(*v1.PersistentVolumeClaim, *v1.PersistentVolume, *v1.Pod)
		path   string
		err    string
		event  string
	}{
		"a local volume":                {source: local(dir), path: dir},
		"a hostPath, made when missing": {source: v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: filepath.Join(dir, "made")}}, path: filepath.Join(dir, "made")},
		"a local volume that is not there": {source: local(missing), err: `failed to process volumes=[]: path "` + missing + `" does not exist`,
			event: `MountVolume.NewMounter initialization failed for volume "pv" : path "` + missing + `" does not exist`},
		"another node's": {source: local(dir), change: func(_ *v1.PersistentVolumeClaim, pv *v1.PersistentVolume, _ *v1.Pod) {
			pv.Spec.NodeAffinity = &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{
				{Key: "kubernetes.io/hostname", Operator: v1.NodeSelectorOpIn, Values: []string{"n2"}}}}}}}
		}, err: "no matching NodeSelectorTerms", event: `MountVolume.NodeAffinity check failed for volume "pv" : no matching NodeSelectorTerms`},
		"a kind of a driver's": {source: v1.PersistentVolumeSource{NFS: &v1.NFSVolumeSource{}}, err: "is of a kind this kubelet cannot mount",
			event: `MountVolume.SetUp failed for volume "pv" : the volume of claim c is of a kind this kubelet cannot mount: it knows local and hostPath`},
		"not bound": {source: local(dir), change: func(c *v1.PersistentVolumeClaim, _ *v1.PersistentVolume, _ *v1.Pod) { c.Status.Phase = v1.ClaimPending },
			err: "unmounted volumes=[v0], unattached volumes=[], failed to process volumes=[v0]: error processing PVC ns/c: PVC is not bound"},
		"not there": {source: local(dir), change: func(_ *v1.PersistentVolumeClaim, _ *v1.PersistentVolume, pod *v1.Pod) {
			pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName = "no"
		}, err: `error processing PVC ns/no: failed to fetch PVC from API server: persistentvolumeclaims "no" not found`},
		"to be deleted": {source: local(dir), change: func(c *v1.PersistentVolumeClaim, _ *v1.PersistentVolume, _ *v1.Pod) {
			c.DeletionTimestamp = ptr.To(metav1.Now())
		},
			err: "error processing PVC ns/c: PVC is being deleted"},
		"to be deleted, of a pod that runs": {source: local(dir), change: func(c *v1.PersistentVolumeClaim, _ *v1.PersistentVolume, pod *v1.Pod) {
			c.DeletionTimestamp, pod.Status.Phase = ptr.To(metav1.Now()), v1.PodRunning
		}, path: dir},
		"reserved for an older claim": {source: local(dir), change: func(_ *v1.PersistentVolumeClaim, pv *v1.PersistentVolume, _ *v1.Pod) { pv.Spec.ClaimRef.UID = "old" },
			err: `found PV object "pv" with unexpected claimRef`},
		"a device, mounted": {source: local(dir), change: func(_ *v1.PersistentVolumeClaim, pv *v1.PersistentVolume, _ *v1.Pod) {
			pv.Spec.VolumeMode = ptr.To(v1.PersistentVolumeBlock)
		}, err: "volume v0 has volumeMode Block, but is specified in volumeMounts"},
		"files, as a device": {source: local(dir), change: func(_ *v1.PersistentVolumeClaim, _ *v1.PersistentVolume, pod *v1.Pod) {
			pod.Spec.Containers[0].VolumeMounts, pod.Spec.Containers[0].VolumeDevices = nil, []v1.VolumeDevice{{Name: "v0", DevicePath: "/dev/x"}}
		}, err: "volume v0 has volumeMode Filesystem, but is specified in volumeDevices"},
		"ephemeral, its own": {source: local(dir), change: func(c *v1.PersistentVolumeClaim, _ *v1.PersistentVolume, pod *v1.Pod) {
			c.Name, c.OwnerReferences = "p-v0", []metav1.OwnerReference{*metav1.NewControllerRef(pod, v1.SchemeGroupVersion.WithKind("Pod"))}
			pod.Spec.Volumes[0].VolumeSource = v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}
		}, path: dir},
		"ephemeral, another's": {source: local(dir), change: func(c *v1.PersistentVolumeClaim, _ *v1.PersistentVolume, pod *v1.Pod) {
			c.Name = "p-v0"
			pod.Spec.Volumes[0].VolumeSource = v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}
		}, err: "PVC ns/p-v0 was not created for pod ns/p (pod is not owner)"},
	} {
		t.Run(name, func(t *testing.T) {
			claim, pv := bound(test.source)
			pod := podOfClaim()
			if test.change != nil {
				test.change(claim, pv, pod)
			}
			host := &fakeHost{claims: map[string]*v1.PersistentVolumeClaim{claim.Name: claim}, volumes: map[string]*v1.PersistentVolume{"pv": pv}}
			m := newTestManager(t, host)
			err := m.SetUpPod(context.Background(), pod, 0)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(strings.Replace(err.Error(), "context deadline exceeded: ", "", 1), test.err)) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if path := m.Mounted("u")["v0"].Path; path != test.path {
				t.Errorf("path %q, want %q", path, test.path)
			}
			if messages := strings.Join(m.setUpOnce(context.Background(), pod).messages(), "; "); messages != test.event {
				t.Errorf("event %q, want %q", messages, test.event)
			}
		})
	}
}

// What a claim is bound to does not change: a running pod's sync asks no apiserver, and a claim that
// is deleted under it does no harm.
func TestBoundClaimsAreAskedForOnce(t *testing.T) {
	claim, pv := bound(local(t.TempDir()))
	host := &fakeHost{claims: map[string]*v1.PersistentVolumeClaim{"c": claim}, volumes: map[string]*v1.PersistentVolume{"pv": pv}}
	m, pod := newTestManager(t, host), podOfClaim()
	pod.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
	for range 3 {
		if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
			t.Fatal(err)
		}
	}
	if host.asked != 1 {
		t.Errorf("asked for the claim %d times", host.asked)
	}
	if !m.Mounted("u")["v0"].ReadOnly {
		t.Error("a claim of readOnly is mounted writable")
	}
	if err := m.TearDownPod(context.Background(), "u"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(pv.Spec.Local.Path); err != nil {
		t.Errorf("the volume did not outlive its pod: %v", err)
	}
}

// The authorizer may learn of a pod a moment after its kubelet: being refused is tried again, unlike what is the claim's own fault.
func TestForbiddenIsTriedAgain(t *testing.T) {
	claim, pv := bound(local(t.TempDir()))
	refusals := 5
	host := &fakeHost{claims: map[string]*v1.PersistentVolumeClaim{"c": claim}, volumes: map[string]*v1.PersistentVolume{"pv": pv}}
	host.refuse = func() error {
		if refusals--; refusals >= 0 {
			return apierrors.NewForbidden(v1.Resource("persistentvolumeclaims"), "c", nil)
		}
		return nil
	}
	if err := newTestManager(t, host).SetUpPod(context.Background(), podOfClaim(), time.Minute); err != nil {
		t.Error(err)
	}
}

// A local volume on a block device: as a device it is the container's as it is; else its file system is mounted in the pod's own
// directory, of the type that the volume names, read-only if the pod wants no more.
func TestBlockDevices(t *testing.T) {
	device := blockDevice(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	block := func(_ *v1.PersistentVolumeClaim, pv *v1.PersistentVolume, pod *v1.Pod) {
		pv.Spec.VolumeMode = ptr.To(v1.PersistentVolumeBlock)
		c := &pod.Spec.Containers[0]
		c.VolumeMounts, c.VolumeDevices = nil, []v1.VolumeDevice{{Name: "v0", DevicePath: "/dev/data"}}
	}
	for name, test := range map[string]struct {
		source  v1.PersistentVolumeSource
		change  func(*v1.PersistentVolumeClaim, *v1.PersistentVolume, *v1.Pod)
		device  bool   // the device itself is the volume
		mounted string // else this was mounted
		err     string
	}{
		"as a device":     {source: local(device), change: block, device: true},
		"its file system": {source: local(device), mounted: device + " ext4 []"},
		"of another type, read-only": {source: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: device, FSType: ptr.To("xfs")}},
			change: func(_ *v1.PersistentVolumeClaim, pv *v1.PersistentVolume, pod *v1.Pod) {
				pv.Spec.MountOptions = []string{"noatime"}
				pod.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
			}, mounted: device + " xfs [noatime ro]"},
		"not a device":         {source: local(file), change: block, err: file + " is not a block device"},
		"a hostPath as device": {source: v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: device}}, change: block, err: "only local volumes can"},
	} {
		t.Run(name, func(t *testing.T) {
			claim, pv := bound(test.source)
			pod := podOfClaim()
			if test.change != nil {
				test.change(claim, pv, pod)
			}
			m := newTestManager(t, &fakeHost{claims: map[string]*v1.PersistentVolumeClaim{"c": claim}, volumes: map[string]*v1.PersistentVolume{"pv": pv}})
			mounts := &deviceMounts{}
			m.plugins = plugins(m.Host, mounts, m.Recorder)
			err := m.SetUpPod(context.Background(), pod, 0)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			got := m.Mounted(pod.UID)["v0"]
			if err != nil || got.Device != test.device || mounts.last != test.mounted || test.device && got.Path != device || !test.device && got.Path != got.Spec.Dir {
				t.Errorf("%+v, mounted %q, %v", got, mounts.last, err)
			}
		})
	}
}

// deviceMounts notes what is mounted.
type deviceMounts struct {
	noMounts
	last string
}

func (d *deviceMounts) device(source, _, fsType string, options []string) error {
	d.last = fmt.Sprintf("%s %s %v", source, fsType, options)
	return nil
}

// blockDevice is some block device of this machine, of which only the type matters; nothing opens it.
func blockDevice(t *testing.T) string {
	t.Helper()
	nodes, _ := os.ReadDir("/dev")
	for _, node := range nodes {
		if info, err := node.Info(); err == nil && isType(info.Mode(), v1.HostPathBlockDev) {
			return filepath.Join("/dev", node.Name())
		}
	}
	t.Skip("no block device in /dev")
	return ""
}

// fsGroup: the group owns and may write all files of a local volume; OnRootMismatch looks at the root only. A hostPath
// is the node's own: nobody else gets it.
func TestVolumeOwnership(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	dir := t.TempDir()
	file, link := filepath.Join(dir, "sub", "file"), filepath.Join(dir, "link")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	of := func(path string) (os.FileMode, uint32) {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode() & (os.ModePerm | os.ModeSetgid), info.Sys().(*syscall.Stat_t).Gid
	}
	setUp := func(source v1.PersistentVolumeSource, group int64, policy v1.PodFSGroupChangePolicy) {
		claim, pv := bound(source)
		pod := podOfClaim()
		pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group, FSGroupChangePolicy: &policy}
		m := newTestManager(t, &fakeHost{claims: map[string]*v1.PersistentVolumeClaim{"c": claim}, volumes: map[string]*v1.PersistentVolume{"pv": pv}})
		if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
			t.Fatal(err)
		}
	}
	setUp(v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}}, 1000, v1.FSGroupChangeAlways)
	if _, gid := of(dir); gid != 0 {
		t.Errorf("a hostPath was given to group %d", gid)
	}
	setUp(local(dir), 1000, v1.FSGroupChangeOnRootMismatch)
	for path, want := range map[string]os.FileMode{dir: 0o775 | os.ModeSetgid, filepath.Dir(file): 0o770 | os.ModeSetgid, file: 0o660} {
		if mode, gid := of(path); mode|0o005 != want|0o005 || gid != 1000 {
			t.Errorf("%s: mode %v, group %d; want %v, 1000", path, mode, gid, want)
		}
	}
	if mode, gid := of(outside); mode != 0o600 || gid != 0 {
		t.Errorf("a symlink led to a file outside: mode %v, group %d", mode, gid)
	}
	if err := os.Chown(file, 0, 7); err != nil {
		t.Fatal(err)
	}
	link = filepath.Join(t.TempDir(), "to-the-volume")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	setUp(local(link), 2000, v1.FSGroupChangeAlways)
	if _, gid := of(dir); gid != 2000 {
		t.Errorf("a volume that a symlink leads to has group %d", gid)
	}
	setUp(local(dir), 1000, v1.FSGroupChangeAlways)
	if err := os.Chown(file, 0, 7); err != nil {
		t.Fatal(err)
	}
	setUp(local(dir), 1000, v1.FSGroupChangeOnRootMismatch)
	if _, gid := of(file); gid != 7 {
		t.Error("OnRootMismatch changed a file though the root was right")
	}
	setUp(local(dir), 1000, v1.FSGroupChangeAlways)
	if _, gid := of(file); gid != 1000 {
		t.Errorf("Always left a file of group %d", gid)
	}
}
