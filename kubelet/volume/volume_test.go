package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"hyperkube/kubelet/envvars"
)

// fakeHost holds one config map and one secret, named after their data.
type fakeHost struct {
	configMaps map[string]map[string]string
	secrets    map[string]map[string][]byte
	requests   []*authenticationv1.TokenRequest
	claims     map[string]*v1.PersistentVolumeClaim
	volumes    map[string]*v1.PersistentVolume
	asked      int // for claims
	refuse     func() error
}

func (h *fakeHost) GetConfigMap(_ context.Context, _, name string) (*v1.ConfigMap, error) {
	if data, ok := h.configMaps[name]; ok {
		return &v1.ConfigMap{Data: data}, nil
	}
	return nil, fmt.Errorf("configmap: %w", apierrors.NewNotFound(v1.Resource("configmaps"), name))
}

func (h *fakeHost) GetSecret(_ context.Context, _, name string) (*v1.Secret, error) {
	if data, ok := h.secrets[name]; ok {
		return &v1.Secret{Data: data}, nil
	}
	return nil, apierrors.NewNotFound(v1.Resource("secrets"), name)
}

func (h *fakeHost) GetServiceAccountToken(_ context.Context, _, name string, r *authenticationv1.TokenRequest) (string, error) {
	h.requests = append(h.requests, r)
	return "token of " + name, nil
}

func (h *fakeHost) TrustAnchors(source *v1.ClusterTrustBundleProjection) ([]byte, error) {
	return []byte("anchors of " + *source.Name), nil
}

func (h *fakeHost) PodCertificate(_ context.Context, pod *v1.Pod, volume string, source int) (key, chain []byte, err error) {
	return fmt.Appendf(nil, "key of %s, %s %d;", pod.Name, volume, source), []byte("chain"), nil
}

func (h *fakeHost) GetPersistentVolumeClaim(_ context.Context, _, name string) (*v1.PersistentVolumeClaim, error) {
	h.asked++
	if h.refuse != nil {
		if err := h.refuse(); err != nil {
			return nil, err
		}
	}
	if claim, ok := h.claims[name]; ok {
		return claim, nil
	}
	return nil, apierrors.NewNotFound(v1.Resource("persistentvolumeclaims"), name)
}

func (h *fakeHost) GetPersistentVolume(_ context.Context, name string) (*v1.PersistentVolume, error) {
	if volume, ok := h.volumes[name]; ok {
		return volume, nil
	}
	return nil, apierrors.NewNotFound(v1.Resource("persistentvolumes"), name)
}

func (h *fakeHost) UpdatePersistentVolumeClaimStatus(_ context.Context, claim *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error) {
	h.claims["c"] = claim
	return claim, nil
}

func (h *fakeHost) NodeLabels() map[string]string {
	return map[string]string{"kubernetes.io/hostname": "n1"}
}

func (h *fakeHost) NodeInfo() envvars.Node { return envvars.Node{Name: "n1"} }

func newTestManager(t *testing.T, host Host) *Manager {
	return NewManager(Config{PodsDir: t.TempDir(), Host: host, Recorder: record.NewFakeRecorder(100), NoMounts: true})
}

func podWith(sources ...v1.VolumeSource) *v1.Pod {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u", Labels: map[string]string{"a": "b"}}}
	for i, s := range sources {
		pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: fmt.Sprintf("v%d", i), VolumeSource: s})
	}
	return pod
}

func read(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, e.Name()+"="+string(data))
	}
	sort.Strings(parts)
	return strings.Join(parts, " ")
}

// Certificates: a bundle of authorities, and the pod's own with its key, in one file or in two, for those who run there alone.
func TestProjectedCertificates(t *testing.T) {
	m := newTestManager(t, &fakeHost{})
	name, group := "all", int64(os.Getgid())
	pod := podWith(v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
		{ClusterTrustBundle: &v1.ClusterTrustBundleProjection{Name: &name, Path: "ca"}},
		{PodCertificate: &v1.PodCertificateProjection{CredentialBundlePath: "both"}},
		{PodCertificate: &v1.PodCertificateProjection{KeyPath: "key", CertificateChainPath: "leaf"}},
	}}})
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group}
	if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
		t.Fatal(err)
	}
	dir := m.Mounted("u")["v0"].Path
	if got, want := read(t, dir), "both=key of p, v0 1;chain ca=anchors of all key=key of p, v0 2; leaf=chain"; got != want {
		t.Errorf("files %q, want %q", got, want)
	}
	for _, file := range []string{"both", "ca", "key", "leaf"} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s: %v, %v: others may read it", file, info.Mode(), err)
		}
	}
}

// A projected volume has all its sources' files; changes arrive at the next sync.
func TestProjectedVolumeAndItsUpdate(t *testing.T) {
	expires := int64(600)
	host := &fakeHost{configMaps: map[string]map[string]string{"cm": {"k": "1"}}, secrets: map[string]map[string][]byte{"s": {"p": []byte("x")}}}
	m := newTestManager(t, host)
	pod := podWith(v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
		{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}},
		{Secret: &v1.SecretProjection{LocalObjectReference: v1.LocalObjectReference{Name: "s"}, Items: []v1.KeyToPath{{Key: "p", Path: "pass"}}}},
		{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
		{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &expires, Audience: "me"}},
	}}})
	if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
		t.Fatal(err)
	}
	dir := m.Mounted("u")["v0"].Path
	if got, want := read(t, dir), `k=1 labels=a="b" pass=x token=token of default`; got != want {
		t.Errorf("files %q, want %q", got, want)
	}
	if r := host.requests[0].Spec; r.BoundObjectRef.UID != "u" || r.Audiences[0] != "me" || *r.ExpirationSeconds != 600 {
		t.Errorf("token request %+v", r)
	}
	host.configMaps["cm"] = map[string]string{"other": "2"}
	if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, dir), `labels=a="b" other=2 pass=x token=token of default`; got != want {
		t.Errorf("files after a change %q, want %q", got, want)
	}
	if err := m.TearDownPod(context.Background(), "u"); err != nil {
		t.Fatal(err)
	}
	if left, _ := m.PodsOnDisk(); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}

// What is missing holds the pod up, unless it is optional.
func TestMissingReferences(t *testing.T) {
	yes := true
	m := newTestManager(t, &fakeHost{configMaps: map[string]map[string]string{"cm": {}}})
	for _, c := range []struct {
		source v1.VolumeSource
		want   string // in the error; empty for none
	}{
		{v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "no"}}}, `configmaps "no" not found`},
		{v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "no"}, Optional: &yes}}, ""},
		{v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}, Items: []v1.KeyToPath{{Key: "k", Path: "k"}}}}, "configmap references non-existent config key: k"},
		{v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "no"}}, `secrets "no" not found`},
		{v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "no"}}}, {Secret: &v1.SecretProjection{LocalObjectReference: v1.LocalObjectReference{Name: "no"}}},
		}}}, `secrets "no" not found]`},
		{v1.VolumeSource{GitRepo: &v1.GitRepoVolumeSource{}}, "git-repo volume plugin has been disabled"},
		{v1.VolumeSource{NFS: &v1.NFSVolumeSource{}}, "no volume plugin matched"},
	} {
		err := m.SetUpPod(context.Background(), podWith(c.source), 0)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.source, err, c.want)
		}
	}
}

// A reader sees all of the old or all of the new: ..data moves in one rename, and
// what is unchanged is not touched.
func TestAtomicWriter(t *testing.T) {
	dir := t.TempDir()
	w := &AtomicWriter{dir: dir}
	link := func() string {
		target, err := os.Readlink(filepath.Join(dir, "..data"))
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	write := func(files map[string]string) {
		payload := map[string]FileProjection{}
		for name, data := range files {
			payload[name] = FileProjection{Data: []byte(data), Mode: 0o440}
		}
		if err := w.Write(payload); err != nil {
			t.Fatal(err)
		}
	}
	write(map[string]string{"a": "1", "d/e": "2"})
	first := link()
	write(map[string]string{"a": "1", "d/e": "2"})
	if link() != first {
		t.Error("the same content was written again")
	}
	write(map[string]string{"a": "1"})
	if link() == first {
		t.Error("a removed file did not make a new version")
	}
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, strings.SplitN(e.Name(), "_", 2)[0])
	}
	if len(names) != 3 || !reflect.DeepEqual(names[1:], []string{"..data", "a"}) { // the first is the version
		t.Errorf("left in the volume: %v", names)
	}
	for _, bad := range []string{"../x", "/x", "..data", "a/../b", ""} {
		if err := w.Write(map[string]FileProjection{bad: {}}); err == nil {
			t.Errorf("path %q was written", bad)
		}
	}
}

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		kind v1.HostPathType
		ok   bool
	}{
		{filepath.Join(dir, "absent"), v1.HostPathUnset, true},
		{dir, v1.HostPathDirectory, true}, {file, v1.HostPathDirectory, false}, {filepath.Join(dir, "no"), v1.HostPathDirectory, false},
		{file, v1.HostPathFile, true}, {dir, v1.HostPathFile, false}, {file, v1.HostPathSocket, false},
		{filepath.Join(dir, "new"), v1.HostPathDirectoryOrCreate, true}, {filepath.Join(dir, "newfile"), v1.HostPathFileOrCreate, true}, {dir, v1.HostPathFileOrCreate, false},
		{"/dev/null", v1.HostPathCharDev, true}, {"/dev/null", v1.HostPathBlockDev, false},
	} {
		if err := checkType(c.path, c.kind); (err == nil) != c.ok {
			t.Errorf("%s as %q: %v", c.path, c.kind, err)
		}
	}
	for _, c := range []struct {
		path string
		kind v1.HostPathType
		want string
	}{
		{file, v1.HostPathDirectory, "hostPath type check failed: " + file + " is not a directory, it's a File"},
		{dir, v1.HostPathBlockDev, "hostPath type check failed: " + dir + " is not a block device, it's a Directory"},
		{dir + "/no", v1.HostPathFile, "hostPath type check failed, " + dir + "/no is not a file, unable to determine its type: path \"" + dir + "/no\" does not exist"},
		{dir + "/no/such", v1.HostPathFileOrCreate, "open " + dir + "/no/such: no such file or directory"},
	} {
		if err := checkType(c.path, c.kind); err == nil || err.Error() != c.want {
			t.Errorf("%s as %q: %v, want %s", c.path, c.kind, err, c.want)
		}
	}
}

// CVE-2017-1002101: no subPath leads out of its volume, by name or by symlink.
func TestSubPathStaysInItsVolume(t *testing.T) {
	m := newTestManager(t, &fakeHost{})
	pod := podWith(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}})
	if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
		t.Fatal(err)
	}
	volume := m.Mounted("u")["v0"]
	if err := os.Symlink("/", filepath.Join(volume.Path, "out")); err != nil {
		t.Fatal(err)
	}
	if path, err := m.SubPath(pod, "c", 0, volume, "a/b"); err != nil || path != filepath.Join(volume.Path, "a", "b") {
		t.Errorf("a/b: %q, %v", path, err)
	}
	for _, bad := range []string{"out/etc", "out", "../..", "/etc"} {
		if path, err := m.SubPath(pod, "c", 0, volume, bad); err == nil {
			t.Errorf("subPath %q led to %q", bad, path)
		}
	}
	// Who made the pod learns nothing of the node's files by it.
	for bad, want := range map[string]string{"out/passwd": "failed to prepare subPath", "out/no-such": "failed to create subPath directory"} {
		if err := os.Remove(filepath.Join(volume.Path, "out")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc", filepath.Join(volume.Path, "out")); err != nil {
			t.Fatal(err)
		}
		if _, err := m.SubPath(pod, "c", 0, volume, bad); err == nil || err.Error() != want+` for volumeMount "v0" of container "c"` {
			t.Errorf("%s: %v, want %s", bad, err, want)
		}
	}
}

// A directory made for a subPath has all of its volume's mode: setgid, so that new files belong to the fsGroup, and a tmpfs' sticky bit.
func TestSubPathTakesTheVolumesMode(t *testing.T) {
	m := newTestManager(t, &fakeHost{})
	pod := podWith(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}})
	if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
		t.Fatal(err)
	}
	volume := m.Mounted("u")["v0"]
	want := os.ModeDir | os.ModeSetgid | os.ModeSticky | 0o777
	if err := os.Chmod(volume.Path, want); err != nil {
		t.Fatal(err)
	}
	if _, err := m.SubPath(pod, "c", 0, volume, "a/b"); err != nil {
		t.Fatal(err)
	}
	for _, made := range []string{"a", "a/b"} {
		if info, err := os.Stat(filepath.Join(volume.Path, made)); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", made, info.Mode(), err, want)
		}
	}
}

// A subPath that a volume of files does not have is made, and stays when the files change.
func TestSubPathThatIsNoKey(t *testing.T) {
	host := &fakeHost{configMaps: map[string]map[string]string{"cm": {"k": "v"}}}
	m := newTestManager(t, host)
	pod := podWith(v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}})
	if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
		t.Fatal(err)
	}
	path, err := m.SubPath(pod, "c", 0, m.Mounted("u")["v0"], "nokey")
	if err != nil {
		t.Fatal(err)
	}
	host.configMaps["cm"] = map[string]string{"other": "v"}
	if err := m.SetUpPod(context.Background(), pod, 0); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
}
