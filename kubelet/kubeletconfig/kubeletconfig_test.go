package kubeletconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	configv1beta1 "k8s.io/kubelet/config/v1beta1"
)

const head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

// load reads files of the given contents: the first is the configuration, the others come in a directory.
func load(t *testing.T, text string, dropIns ...string) (*File, string, error) {
	t.Helper()
	dir := t.TempDir()
	path, conf := filepath.Join(dir, "kubelet.yaml"), filepath.Join(dir, "conf.d")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(conf, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, text := range dropIns {
		if err := os.WriteFile(filepath.Join(conf, fmt.Sprintf("%d.conf", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(conf, "README"), []byte("no configuration"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := Load(path, conf)
	return file, dir, err
}

func (f *File) value(field string) string {
	i := slices.IndexFunc(f.Settings, func(s Setting) bool { return s.Field == field })
	if i < 0 {
		return "unset"
	}
	return f.Settings[i].Flag + "=" + f.Settings[i].Value
}

func TestFieldsAreFlags(t *testing.T) {
	file, dir, err := load(t, head+`
maxPods: 20
podPidsLimit: 0
clusterDNS: [10.0.0.1, 10.0.0.2]
resolvConf: ""
staticPodPath: manifests
nodeStatusUpdateFrequency: 5s
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: ca.pem}, webhook: {cacheTTL: 0s}}
evictionHard: {memory.available: 5%, nodefs.available: 1Gi}
evictionSoft: {}
kubeReserved: {cpu: 100m, memory: 64Mi}
registerWithTaints: [{key: a, value: b, effect: NoSchedule}, {key: c, effect: NoExecute}]
shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 20}, {priority: 1000, shutdownGracePeriodSeconds: 5}]
crashLoopBackOff: {maxContainerRestartPeriod: 30s}
userNamespaces: {idsPerPod: 131072}
registryPullQPS: 0
maxParallelImagePulls: 3
cpuManagerReconcilePeriod: 0s
`)
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"maxPods": "max-pods=20", "podPidsLimit": "pod-max-pids=0", "clusterDNS": "cluster-dns=10.0.0.1,10.0.0.2", "resolvConf": "resolv-conf=",
		"staticPodPath": "pod-manifest-path=" + filepath.Join(dir, "manifests"), "nodeStatusUpdateFrequency": "node-status-update-frequency=5s",
		"nodeStatusReportFrequency": "node-status-report-frequency=5s", "authentication.anonymous.enabled": "anonymous-auth=false",
		"authentication.x509.clientCAFile": "client-ca-file=" + filepath.Join(dir, "ca.pem"), "authentication.webhook.cacheTTL": "authentication-token-webhook-cache-ttl=2m0s",
		"evictionHard": "eviction-hard=memory.available<5%,nodefs.available<1Gi", "evictionSoft": "eviction-soft=", "evictionMinimumReclaim": "unset",
		"kubeReserved": "kube-reserved=cpu=100m,memory=64Mi", "registerWithTaints": "register-with-taints=a=b:NoSchedule,c:NoExecute",
		"shutdownGracePeriodByPodPriority": "shutdown-grace-period-by-pod-priority=0=20s,1000=5s", "crashLoopBackOff.maxContainerRestartPeriod": "max-container-restart-period=30s",
		"userNamespaces.idsPerPod": "user-namespaces-ids-per-pod=131072", "registryPullQPS": "registry-qps=0", "registryBurst": "registry-burst=10",
		"serializeImagePulls": "serialize-image-pulls=false", "maxParallelImagePulls": "max-parallel-image-pulls=3", "imageGCHighThresholdPercent": "image-gc-high-threshold=85",
		"clusterDomain": "unset", "cpuManagerReconcilePeriod": "unset",
	} {
		if got := file.value(field); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
	if len(file.Ignored)+len(file.Warnings) > 0 {
		t.Errorf("ignored %q, warnings %v", file.Ignored, file.Warnings)
	}
}

func TestIgnoredAndUnknownAreSaid(t *testing.T) {
	file, _, err := load(t, head+"cgroupDriver: systemd\ncpuManagerPolicy: static\nlogging: {verbosity: 3}\nreadOnlyPort: 10255\nmergeDefaultEvictionSettings: true\nmaxpods: 5\nnonsense: 1\n")
	if err != nil {
		t.Fatal(err)
	}
	ignored := strings.Join(file.Ignored, "\n")
	for _, want := range []string{"cgroupDriver: the runtime", "cpuManagerPolicy: it has no counterpart", "logging.verbosity: the flag --log-level", "readOnlyPort: there is no port"} {
		if !strings.Contains(ignored, want) {
			t.Errorf("no %q in %s", want, ignored)
		}
	}
	if warnings := fmt.Sprint(file.Warnings); strings.Contains(ignored, "mergeDefault") || !strings.Contains(warnings, `unknown field "nonsense"`) || !strings.Contains(warnings, `unknown field "maxpods"`) {
		t.Errorf("%s\n%s", ignored, warnings)
	}
	if got := file.value("evictionHard"); !strings.Contains(got, "memory.available<100Mi") {
		t.Errorf("eviction by default: %s", got)
	}
}

// KEP-3983.
func TestDropIns(t *testing.T) {
	file, _, err := load(t, head+"maxPods: 1\nclusterDNS: [10.0.0.1]\nevictionHard: {memory.available: 1Gi}\nseccompDefault: true\n",
		head+"maxPods: 2\nclusterDNS: [10.0.0.2]\nevictionHard: {nodefs.available: 5%}\n", head+"maxPods: 3\nseccompDefault: null\n")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{file.value("maxPods"), file.value("clusterDNS"), file.value("evictionHard"), file.value("seccompDefault")}
	if want := []string{"max-pods=3", "cluster-dns=10.0.0.2", "eviction-hard=memory.available<1Gi,nodefs.available<5%", "unset"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if _, _, err = load(t, head, "maxPods: 3\n"); err == nil || !strings.Contains(err.Error(), "0.conf") {
		t.Errorf("a file without a kind: %v", err)
	}
}

func TestWrongFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                                        "must be a KubeletConfiguration",
		"apiVersion: v1\nkind: Pod\n":             "must be a KubeletConfiguration",
		head + "maxPods: many\n":                  "cannot unmarshal string",
		head + "maxPods: [1\n":                    "yaml",
		head + "maxPods: -1\n":                    "invalid configuration: maxPods (--max-pods) -1 must not be a negative number",
		head + "maxParallelImagePulls: 0\n":       "maxParallelImagePulls 0 must be a positive number",
		head + "imageGCLowThresholdPercent: 90\n": "imageGCLowThresholdPercent (--image-gc-low-threshold) 90 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 85",
		head + "maxParallelImagePulls: 2\nserializeImagePulls: true\n":          "maxParallelImagePulls cannot be larger than 1",
		head + "crashLoopBackOff: {maxContainerRestartPeriod: 301s}\n":          "CrashLoopBackOff.MaxContainerRestartPeriod (got: 301 seconds) must be set between 1s and 300s",
		head + "shutdownGracePeriod: 1s\nshutdownGracePeriodCriticalPods: 2s\n": "must be <= shutdownGracePeriod",
		head + "userNamespaces: {idsPerPod: 1000}\n":                            "multiple of 65536",
	} {
		if _, _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := Load("/nowhere/kubelet.yaml", ""); err == nil {
		t.Error("a file that is not there")
	}
}

// Otherwise a name that is misspelt in a table would never act.
func TestTablesNameFields(t *testing.T) {
	names := map[string]bool{}
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			field := t.Field(i).Type
			if field.Kind() == reflect.Pointer {
				field = field.Elem()
			}
			if names[prefix+name] = true; field.Kind() == reflect.Struct {
				walk(field, prefix+name+".")
			}
		}
	}
	walk(reflect.TypeFor[configv1beta1.KubeletConfiguration](), "")
	for _, table := range []map[string]string{flags, reasons} {
		for name := range table {
			if !names[name] {
				t.Errorf("%s is no field", name)
			}
		}
	}
}
