package pod

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
)

// good is a pod that is right; each test makes it wrong in one way.
func good() *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "web", Image: "hyperkube.local/demo"}}},
	}
	SetDefaultsPod(pod)
	return pod
}

type podTest struct {
	change func(p *v1.Pod)
	want   []string
}

func runCreate(t *testing.T, tests map[string]podTest) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pod := good()
			test.change(pod)
			SetDefaultsPod(pod)
			before := pod.DeepCopy()
			ruletest.Expect(t, ValidatePodCreate(pod), test.want...)
			if pod.String() != before.String() {
				t.Error("validation changed the pod")
			}
		})
	}
}

func first(p *v1.Pod) *v1.Container { return &p.Spec.Containers[0] }

func TestValidateContainers(t *testing.T) {
	sidecar := v1.Container{Name: "log", Image: "i", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways), ReadinessProbe: &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}}}
	runCreate(t, map[string]podTest{
		"good":                 {func(p *v1.Pod) {}, nil},
		"none":                 {func(p *v1.Pod) { p.Spec.Containers = nil }, []string{"spec.containers: Required value"}},
		"no name":              {func(p *v1.Pod) { first(p).Name = "" }, []string{"spec.containers[0].name: Required value"}},
		"bad name":             {func(p *v1.Pod) { first(p).Name = "Web_1" }, []string{"spec.containers[0].name: Invalid value … a lowercase RFC 1123 label"}},
		"no image":             {func(p *v1.Pod) { first(p).Image = "" }, []string{"spec.containers[0].image: Required value"}},
		"space in image":       {func(p *v1.Pod) { first(p).Image = " demo" }, []string{"spec.containers[0].image: Invalid value … must not have leading or trailing whitespace"}},
		"pull policy":          {func(p *v1.Pod) { first(p).ImagePullPolicy = "Sometimes" }, []string{`spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"`}},
		"message policy":       {func(p *v1.Pod) { first(p).TerminationMessagePolicy = "x" }, []string{"spec.containers[0].terminationMessagePolicy: Unsupported value"}},
		"a name twice":         {func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, *first(p)) }, []string{"spec.containers[1].name: Duplicate value"}},
		"a name in both lists": {func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{*first(p)} }, []string{"spec.initContainers[0].name: Duplicate value"}},
		"sidecar":              {func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{sidecar} }, nil},
		"init container, a probe": {func(p *v1.Pod) {
			p.Spec.InitContainers = []v1.Container{sidecar}
			p.Spec.InitContainers[0].RestartPolicy = nil
		}, []string{"spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"}},
		"ephemeral on create": {func(p *v1.Pod) {
			p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", Image: "i"}}}
		}, []string{"spec.ephemeralContainers: Forbidden: cannot be set on create"}},
		"port":        {func(p *v1.Pod) { first(p).Ports = []v1.ContainerPort{{}} }, []string{"spec.containers[0].ports[0].containerPort: Required value"}},
		"port number": {func(p *v1.Pod) { first(p).Ports = []v1.ContainerPort{{ContainerPort: 70000}} }, []string{"spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"}},
		"port name": {func(p *v1.Pod) {
			first(p).Ports = []v1.ContainerPort{{ContainerPort: 80, Name: "a-very-long-port-name"}}
		}, []string{"spec.containers[0].ports[0].name: Invalid value … must be no more than 15 characters"}},
		"port name twice": {func(p *v1.Pod) {
			first(p).Ports = []v1.ContainerPort{{ContainerPort: 80, Name: "a"}, {ContainerPort: 81, Name: "a"}}
		}, []string{"spec.containers[0].ports[1].name: Duplicate value"}},
		"protocol": {func(p *v1.Pod) { first(p).Ports = []v1.ContainerPort{{ContainerPort: 80, Protocol: "ICMP"}} }, []string{`spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"`}},
		"host port twice": {func(p *v1.Pod) {
			first(p).Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 80}, {ContainerPort: 81, HostPort: 80}}
		}, []string{`spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"`}},
		"host network, other port": {func(p *v1.Pod) {
			p.Spec.HostNetwork = true
			first(p).Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 81}}
		}, []string{"spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"}},
	})
}

func restartOn(action v1.ContainerRestartRuleAction, operator v1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []v1.ContainerRestartRule {
	return []v1.ContainerRestartRule{{Action: action, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: operator, Values: codes}}}
}

// KEP-5307, KEP-5532.
func TestValidateContainerRestart(t *testing.T) {
	never := ptr.To(v1.ContainerRestartPolicyNever)
	rules := func(policy *v1.ContainerRestartPolicy, rules []v1.ContainerRestartRule) func(*v1.Pod) {
		return func(p *v1.Pod) { first(p).RestartPolicy, first(p).RestartPolicyRules = policy, rules }
	}
	good := restartOn(v1.ContainerRestartRuleActionRestart, "In", 1)
	at := "spec.containers[0].restartPolicyRules"
	runCreate(t, map[string]podTest{
		"policy alone":   {rules(never, nil), nil},
		"unknown policy": {rules(ptr.To(v1.ContainerRestartPolicy("x")), nil), []string{`spec.containers[0].restartPolicy: Unsupported value: "x": supported values: "Always", "Never", "OnFailure"`}},
		"a rule":         {rules(never, good), nil},
		"rules alone":    {rules(nil, good), []string{"spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"}},
		"all containers": {rules(never, restartOn("RestartAllContainers", "NotIn", 0)), nil},
		"no action":      {rules(never, restartOn("", "In", 1)), []string{at + `[0].action: Unsupported value: "": supported values: "Restart", "RestartAllContainers"`}},
		"no operator":    {rules(never, restartOn("Restart", "")), []string{at + `[0].exitCodes.operator: Unsupported value: "": supported values: "In", "NotIn"`}},
		"no exit codes":  {rules(never, []v1.ContainerRestartRule{{Action: "Restart"}}), []string{at + "[0].exitCodes: Required value: must be specified"}},
		"too many rules": {rules(never, slices.Repeat(good, 21)), []string{at + ": Too many: 21: must have at most 20 items"}},
		"too many codes": {rules(never, restartOn("Restart", "In", make([]int32, 256)...)), []string{at + "[0].exitCodes.values: Too many: 256: must have at most 255 items"}},
		"of an init container": {func(p *v1.Pod) {
			p.Spec.InitContainers = []v1.Container{{Name: "i", Image: "i", RestartPolicy: never, RestartPolicyRules: good}}
		}, nil},
	})
}

// KEP-3721.
func TestValidateFileKeyRef(t *testing.T) {
	ref := func(volume, path, key string) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "e", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}, {Name: "h", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/x"}}}}
			first(p).Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{FileKeyRef: &v1.FileKeySelector{VolumeName: volume, Path: path, Key: key}}}}
		}
	}
	at := "spec.containers[0].env[0].valueFrom.fileKeyRef."
	runCreate(t, map[string]podTest{
		"good":            {ref("e", "a/b.env", "KEY"), nil},
		"no key":          {ref("e", "a", ""), []string{at + "key: Required value"}},
		"a key with =":    {ref("e", "a", "A=B"), []string{at + "key: Invalid value"}},
		"no path":         {ref("e", "", "A"), []string{at + "path: Required value"}},
		"a path upwards":  {ref("e", "../a", "A"), []string{at + "path: Invalid value … must not contain '..'"}},
		"no volume":       {ref("", "a", "A"), []string{at + "volumeName: Required value", at + "volumeName: Not found"}},
		"not its volume":  {ref("x", "a", "A"), []string{at + `volumeName: Not found: "x"`}},
		"not an emptyDir": {ref("h", "a", "A"), []string{at + `volumeName: Invalid value: "h": referenced volume must be of type emptyDir`}},
	})
}

func TestValidateEnv(t *testing.T) {
	env := func(e v1.EnvVar) func(*v1.Pod) { return func(p *v1.Pod) { first(p).Env = []v1.EnvVar{e} } }
	from := func(s *v1.EnvVarSource) func(*v1.Pod) { return env(v1.EnvVar{Name: "A", ValueFrom: s}) }
	fieldRef := func(path string) func(*v1.Pod) {
		return from(&v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: path}})
	}
	runCreate(t, map[string]podTest{
		"value":            {env(v1.EnvVar{Name: "A", Value: "x"}), nil},
		"no name":          {env(v1.EnvVar{Value: "x"}), []string{"spec.containers[0].env[0].name: Required value"}},
		"bad name":         {env(v1.EnvVar{Name: "a=b"}), []string{"spec.containers[0].env[0].name: Invalid value"}},
		"field":            {fieldRef("status.podIP"), nil},
		"label":            {fieldRef("metadata.labels['app']"), nil},
		"all labels":       {fieldRef("metadata.labels"), []string{`spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels"`}},
		"unknown field":    {fieldRef("spec.containers"), []string{"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value … error converting fieldPath"}},
		"nothing":          {from(&v1.EnvVarSource{}), []string{"spec.containers[0].env[0].valueFrom: Invalid value … must specify one of"}},
		"value and source": {env(v1.EnvVar{Name: "A", Value: "x", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.name"}}}), []string{"spec.containers[0].env[0].valueFrom: Invalid value … may not be specified when `value` is not empty"}},
		"config map key":   {from(&v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "c"}, Key: "a/b"}}), []string{"spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Invalid value"}},
		"secret, no key":   {from(&v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "c"}}}), []string{"spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value"}},
		"resource":         {from(&v1.EnvVarSource{ResourceFieldRef: &v1.ResourceFieldSelector{Resource: "limits.cpu"}}), nil},
		"unknown resource": {from(&v1.EnvVarSource{ResourceFieldRef: &v1.ResourceFieldSelector{Resource: "limits.gpu"}}), []string{"spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value"}},
		"divisor":          {from(&v1.EnvVarSource{ResourceFieldRef: &v1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("10m")}}), []string{"spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value … only divisor's values 1m and 1 are supported with the cpu resource"}},
		"envFrom, nothing": {func(p *v1.Pod) { first(p).EnvFrom = []v1.EnvFromSource{{}} }, []string{"spec.containers[0].envFrom: Invalid value … must specify one of: `configMapRef` or `secretRef`"}},
		"envFrom, no name": {func(p *v1.Pod) { first(p).EnvFrom = []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{}}} }, []string{"spec.containers[0].envFrom[0].secretRef.name: Required value"}},
	})
}

func TestValidateResources(t *testing.T) {
	list := func(pairs ...string) v1.ResourceList {
		l := v1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			l[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return l
	}
	set := func(requests, limits v1.ResourceList) func(*v1.Pod) {
		return func(p *v1.Pod) { first(p).Resources = v1.ResourceRequirements{Requests: requests, Limits: limits} }
	}
	runCreate(t, map[string]podTest{
		"good":               {set(list("cpu", "100m"), list("cpu", "1", "memory", "1Gi")), nil},
		"more than limited":  {set(list("cpu", "2"), list("cpu", "1")), []string{`spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`}},
		"negative":           {set(list("cpu", "-1"), nil), []string{`spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0`}},
		"unknown":            {set(list("gpu", "1"), nil), []string{"spec.containers[0].resources.requests[gpu]: Invalid value … must be a standard resource type or fully qualified", "spec.containers[0].resources.requests[gpu]: Invalid value … must be a standard resource for containers"}},
		"extended":           {set(list("example.com/gpu", "1"), list("example.com/gpu", "1")), nil},
		"extended, no limit": {set(list("example.com/gpu", "1"), nil), []string{"spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"}},
		"half a device":      {set(nil, list("example.com/gpu", "500m")), []string{"spec.containers[0].resources.limits[example.com/gpu]: Invalid value … must be an integer", "spec.containers[0].resources.requests[example.com/gpu]: Invalid value … must be an integer"}},
		"lonely huge pages":  {set(nil, list("hugepages-2Mi", "2Mi")), []string{"spec.containers[0].resources: Forbidden: HugePages require cpu or memory"}},
	})
}

func TestValidateProbesAndHooks(t *testing.T) {
	live := func(p v1.Probe) func(*v1.Pod) { return func(pod *v1.Pod) { first(pod).LivenessProbe = &p } }
	get := v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Port: intstr.FromInt32(80)}}
	both := v1.ProbeHandler{HTTPGet: get.HTTPGet, Exec: &v1.ExecAction{Command: []string{"true"}}}
	runCreate(t, map[string]podTest{
		"http":            {live(v1.Probe{ProbeHandler: get}), nil},
		"nothing to do":   {live(v1.Probe{}), []string{"spec.containers[0].livenessProbe: Required value: must specify a handler type"}},
		"two things":      {live(v1.Probe{ProbeHandler: both}), []string{"spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type"}},
		"port":            {live(v1.Probe{ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{}}}), []string{"spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: 0"}},
		"threshold":       {live(v1.Probe{ProbeHandler: get, SuccessThreshold: 2}), []string{"spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"}},
		"negative period": {live(v1.Probe{ProbeHandler: get, PeriodSeconds: -1}), []string{"spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1"}},
		"scheme":          {live(v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Port: intstr.FromInt32(80), Scheme: "FTP"}}}), []string{"spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value"}},
		"readiness, grace": {func(p *v1.Pod) {
			first(p).ReadinessProbe = &v1.Probe{ProbeHandler: get, TerminationGracePeriodSeconds: ptr.To[int64](1)}
		}, []string{"spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value … must not be set for readinessProbes"}},
		"hook, no command": {func(p *v1.Pod) {
			first(p).Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{}}}
		}, []string{"spec.containers[0].lifecycle.preStop.exec.command: Required value"}},
		"hook sleeps long": {func(p *v1.Pod) {
			first(p).Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 31}}}
		}, []string{"spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31"}},
	})
}

func TestValidateVolumes(t *testing.T) {
	volume := func(s v1.VolumeSource) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.ServiceAccountName = "default" // whose token a volume may show
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: s}}
		}
	}
	mount := func(m v1.VolumeMount) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "v"}}
			first(p).VolumeMounts = []v1.VolumeMount{m}
		}
	}
	secret := func(items ...v1.KeyToPath) v1.VolumeSource {
		return v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "s", Items: items}}
	}
	projected := func(sources ...v1.VolumeProjection) v1.VolumeSource {
		return v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: sources}}
	}
	trust := func(p v1.ClusterTrustBundleProjection) v1.VolumeProjection {
		p.Path = "ca.pem"
		return v1.VolumeProjection{ClusterTrustBundle: &p}
	}
	certificate := func(keyType, key, chain string) v1.VolumeProjection {
		return v1.VolumeProjection{PodCertificate: &v1.PodCertificateProjection{SignerName: "example.com/s", KeyType: keyType, KeyPath: key, CertificateChainPath: chain}}
	}
	token := func(seconds int64) v1.VolumeProjection {
		return v1.VolumeProjection{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}}
	}
	runCreate(t, map[string]podTest{
		"no source is an emptyDir": {volume(v1.VolumeSource{}), nil},
		"two sources":              {volume(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}, Secret: &v1.SecretVolumeSource{SecretName: "s"}}), []string{"spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"}},
		"name twice":               {func(p *v1.Pod) { p.Spec.Volumes = []v1.Volume{{Name: "v"}, {Name: "v"}} }, []string{"spec.volumes[1].name: Duplicate value"}},
		"host path":                {volume(v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/a/../b"}}), []string{"spec.volumes[0].hostPath.path: Invalid value … must not contain '..'"}},
		"secret, no name":          {volume(v1.VolumeSource{Secret: &v1.SecretVolumeSource{}}), []string{"spec.volumes[0].secret.secretName: Required value"}},
		"item, absolute":           {volume(secret(v1.KeyToPath{Key: "k", Path: "/p"})), []string{"spec.volumes[0].secret.items[0].path: Invalid value … must be a relative path"}},
		"item, reserved":           {volume(secret(v1.KeyToPath{Key: "k", Path: "..p"})), []string{"spec.volumes[0].secret.items[0].path: Invalid value … must not start with '..'"}},
		"item, mode":               {volume(secret(v1.KeyToPath{Key: "k", Path: "p", Mode: ptr.To[int32](01000)})), []string{"spec.volumes[0].secret.items[0].mode: Invalid value: 512: must be a number between 0 and 0777"}},
		"token":                    {volume(projected(token(600))), nil},
		"token, short":             {volume(projected(token(60))), []string{"spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"}},
		"one path twice":           {volume(projected(certificate("ED25519", "a", "b"), certificate("ED25519", "a", "c"))), []string{"spec.volumes[0].projected: Invalid value … conflicting duplicate paths"}},
		"trust":                    {volume(projected(trust(v1.ClusterTrustBundleProjection{Name: ptr.To("example.com:s:a")}))), nil},
		"trust of a signer":        {volume(projected(trust(v1.ClusterTrustBundleProjection{SignerName: ptr.To("example.com/s"), LabelSelector: &metav1.LabelSelector{}}))), nil},
		"trust, name and signer":   {volume(projected(trust(v1.ClusterTrustBundleProjection{Name: ptr.To("a"), SignerName: ptr.To("example.com/s")}))), []string{"spec.volumes[0].projected.sources[0].clusterTrustBundle: Invalid value … only one of name and signerName may be used"}},
		"trust in nobody":          {volume(projected(trust(v1.ClusterTrustBundleProjection{}))), []string{"spec.volumes[0].projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified"}},
		"trust, name and labels":   {volume(projected(trust(v1.ClusterTrustBundleProjection{Name: ptr.To("a"), LabelSelector: &metav1.LabelSelector{}}))), []string{"spec.volumes[0].projected.sources[0].clusterTrustBundle.labelSelector: Invalid value … labelSelector must be unset if name is specified"}},
		"certificate":              {volume(projected(certificate("ED25519", "a", "b"))), nil},
		"certificate, no such key": {volume(projected(certificate("DSA", "a", "b"))), []string{"spec.volumes[0].projected.sources[0].podCertificate.keyType: Unsupported value"}},
		"certificate, no file":     {volume(projected(certificate("ED25519", "", ""))), []string{"spec.volumes[0].projected.sources[0].podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath"}},
		"certificate, one file":    {volume(projected(certificate("ED25519", "a", "a"))), []string{`spec.volumes[0].projected: Invalid value: "a": conflicting duplicate paths`}},
		"claim":                    {volume(v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{}}), []string{"spec.volumes[0].persistentVolumeClaim.claimName: Required value"}},
		"downward":                 {volume(v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{Items: []v1.DownwardAPIVolumeFile{{Path: "l", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}}), nil},
		"mount":                    {mount(v1.VolumeMount{Name: "v", MountPath: "/v"}), nil},
		"mount of nothing":         {mount(v1.VolumeMount{Name: "w", MountPath: "/v"}), []string{`spec.containers[0].volumeMounts[0].name: Not found: "w"`}},
		"mount, no path":           {mount(v1.VolumeMount{Name: "v"}), []string{"spec.containers[0].volumeMounts[0].mountPath: Required value"}},
		"mount, sub path":          {mount(v1.VolumeMount{Name: "v", MountPath: "/v", SubPath: "../x"}), []string{"spec.containers[0].volumeMounts.subPath: Invalid value … must not contain '..'"}},
		"mount, two sub paths":     {mount(v1.VolumeMount{Name: "v", MountPath: "/v", SubPath: "x", SubPathExpr: "y"}), []string{"spec.containers[0].volumeMounts[0].subPathExpr: Invalid value … mutually exclusive"}},
		"mount, propagation":       {mount(v1.VolumeMount{Name: "v", MountPath: "/v", MountPropagation: ptr.To(v1.MountPropagationBidirectional)}), []string{"spec.containers[0].volumeMounts.mountPropagation: Forbidden"}},
	})
}

func TestValidatePodSpec(t *testing.T) {
	runCreate(t, map[string]podTest{
		"restart policy": {func(p *v1.Pod) { p.Spec.RestartPolicy = "Sometimes" }, []string{"spec.restartPolicy: Unsupported value"}},
		"deadline":       {func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](0) }, []string{"spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"}},
		"grace":          {func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](-1) }, nil}, // as if it were 1
		"dns policy":     {func(p *v1.Pod) { p.Spec.DNSPolicy = "x" }, []string{"spec.dnsPolicy: Unsupported value"}},
		"dns none":       {func(p *v1.Pod) { p.Spec.DNSPolicy = v1.DNSNone }, []string{"spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"}},
		"nameserver":     {func(p *v1.Pod) { p.Spec.DNSConfig = &v1.PodDNSConfig{Nameservers: []string{"x"}} }, []string{"spec.dnsConfig.nameservers[0]: Invalid value … must be a valid IP address"}},
		"host alias":     {func(p *v1.Pod) { p.Spec.HostAliases = []v1.HostAlias{{IP: "x", Hostnames: []string{"a"}}} }, []string{"spec.hostAliases[0].ip: Invalid value"}},
		"hostname":       {func(p *v1.Pod) { p.Spec.Hostname = "a.b" }, []string{"spec.hostname: Invalid value"}},
		"node selector":  {func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"/a": "b"} }, []string{"spec.nodeSelector: Invalid value"}},
		"toleration":     {func(p *v1.Pod) { p.Spec.Tolerations = []v1.Toleration{{Operator: v1.TolerationOpEqual}} }, []string{"spec.tolerations[0].operator: Invalid value"}},
		"toleration seconds": {func(p *v1.Pod) {
			p.Spec.Tolerations = []v1.Toleration{{Key: "a", Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule, TolerationSeconds: ptr.To[int64](1)}}
		}, []string{"spec.tolerations[0].effect: Invalid value … effect must be 'NoExecute' when `tolerationSeconds` is set"}},
		"affinity, no terms": {func(p *v1.Pod) {
			p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &v1.NodeSelector{}}}
		}, []string{"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value"}},
		"affinity, topology": {func(p *v1.Pod) {
			p.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{{}}}}
		}, []string{"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value", "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value … name part must be non-empty", "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value … name part must consist"}},
		"spread": {func(p *v1.Pod) {
			p.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{TopologyKey: "zone", WhenUnsatisfiable: v1.DoNotSchedule}}
		}, []string{"spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"}},
		"gate and node": {func(p *v1.Pod) { p.Spec.NodeName = "n"; p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "a"}} }, []string{"spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"}},
		"pull secret":   {func(p *v1.Pod) { p.Spec.ImagePullSecrets = []v1.LocalObjectReference{{}} }, nil}, // of which a warning tells
		"user":          {func(p *v1.Pod) { p.Spec.SecurityContext.RunAsUser = ptr.To[int64](-1) }, []string{"spec.securityContext.runAsUser: Invalid value: -1"}},
		"sysctl":        {func(p *v1.Pod) { p.Spec.SecurityContext.Sysctls = []v1.Sysctl{{Name: "A B"}} }, []string{"spec.securityContext.sysctls[0].name: Invalid value"}},
		"seccomp": {func(p *v1.Pod) {
			first(p).SecurityContext = &v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost}}
		}, []string{"spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value"}},
		"privileged": {func(p *v1.Pod) {
			first(p).SecurityContext = &v1.SecurityContext{Privileged: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false)}
		}, []string{"spec.containers[0].securityContext: Invalid value … cannot set `allowPrivilegeEscalation` to false and `privileged` to true"}},
		"mirror": {func(p *v1.Pod) { p.Annotations = map[string]string{v1.MirrorPodAnnotationKey: "x"} }, []string{"metadata.annotations[kubernetes.io/config.mirror]: Invalid value"}},
	})
}

func TestValidatePodUpdate(t *testing.T) {
	const fixed = "spec: Forbidden: pod updates may not change fields other than"
	toleration := v1.Toleration{Key: "a", Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute}
	gated := func(p *v1.Pod) { p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "gate"}} }
	for name, test := range map[string]struct {
		old, change func(p *v1.Pod)
		want        []string
	}{
		"image":               {nil, func(p *v1.Pod) { first(p).Image = "other" }, nil},
		"command":             {nil, func(p *v1.Pod) { first(p).Command = []string{"sh"} }, []string{fixed}},
		"more containers":     {nil, func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "b", Image: "i"}) }, []string{"spec.containers: Forbidden: pod updates may not add or remove containers"}},
		"deadline set":        {nil, func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }, nil},
		"deadline later":      {func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }, func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](6) }, []string{"spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"}},
		"toleration added":    {nil, func(p *v1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, toleration) }, nil},
		"toleration removed":  {func(p *v1.Pod) { p.Spec.Tolerations = []v1.Toleration{toleration} }, func(p *v1.Pod) { p.Spec.Tolerations = nil }, []string{"spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"}},
		"node":                {nil, func(p *v1.Pod) { p.Spec.NodeName = "n" }, []string{fixed}},
		"gate removed":        {gated, func(p *v1.Pod) { p.Spec.SchedulingGates = nil }, nil},
		"gate added":          {nil, gated, []string{"spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'gate'"}},
		"gated, narrowed":     {gated, func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, nil},
		"not gated, selector": {nil, func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, []string{fixed}},
	} {
		t.Run(name, func(t *testing.T) {
			old := good()
			if test.old != nil {
				test.old(old)
			}
			pod := old.DeepCopy()
			test.change(pod)
			SetDefaultsPod(pod)
			ruletest.Expect(t, ValidatePodUpdate(pod, old), test.want...)
		})
	}
}

// What ended and is not to be restarted cannot run again in a report.
func TestValidatePodStatusUpdate(t *testing.T) {
	old := good()
	old.Spec.RestartPolicy = v1.RestartPolicyNever
	old.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "web", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: 1}}}}
	pod := old.DeepCopy()
	pod.Status.ContainerStatuses[0].State = v1.ContainerState{Running: &v1.ContainerStateRunning{}}
	const wrong = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
	ruletest.Expect(t, ValidatePodStatusUpdate(pod, old), wrong)
	old.Spec.RestartPolicy = v1.RestartPolicyOnFailure
	ruletest.Expect(t, ValidatePodStatusUpdate(pod, old))
	// A container's own policy and rules come first (KEP-5307), and who may restart all may restart any (KEP-5532).
	container := &old.Spec.Containers[0]
	container.RestartPolicy = ptr.To(v1.ContainerRestartPolicyNever)
	ruletest.Expect(t, ValidatePodStatusUpdate(pod, old), wrong)
	container.RestartPolicyRules = restartOn(v1.ContainerRestartRuleActionRestart, "In", 2)
	ruletest.Expect(t, ValidatePodStatusUpdate(pod, old), wrong)
	container.RestartPolicyRules = restartOn(v1.ContainerRestartRuleActionRestart, "In", 1)
	ruletest.Expect(t, ValidatePodStatusUpdate(pod, old))
	container.RestartPolicyRules = restartOn(v1.ContainerRestartRuleActionRestartAllContainers, "In", 2)
	ruletest.Expect(t, ValidatePodStatusUpdate(pod, old))
	container.RestartPolicyRules = nil
	old.Spec.InitContainers, old.Status.ContainerStatuses, old.Status.InitContainerStatuses = old.Spec.Containers, nil, old.Status.ContainerStatuses
	pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses = nil, pod.Status.ContainerStatuses
	ruletest.Expect(t, ValidatePodStatusUpdate(pod, old), strings.Replace(wrong, "containerStatuses", "initContainerStatuses", 1))
}

func TestValidateEphemeralContainers(t *testing.T) {
	debug := v1.EphemeralContainer{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", Image: "i"}}
	for name, test := range map[string]struct {
		change func(*v1.EphemeralContainer)
		want   []string
	}{
		"good":     {func(c *v1.EphemeralContainer) { c.TargetContainerName = "web" }, nil},
		"ports":    {func(c *v1.EphemeralContainer) { c.Ports = []v1.ContainerPort{{ContainerPort: 80}} }, []string{"spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"}},
		"target":   {func(c *v1.EphemeralContainer) { c.TargetContainerName = "db" }, []string{`spec.ephemeralContainers[0].targetContainerName: Not found: "db"`}},
		"its name": {func(c *v1.EphemeralContainer) { c.Name = "web" }, []string{"spec.ephemeralContainers[0].name: Duplicate value"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod, c := good(), debug
			test.change(&c)
			pod.Spec.EphemeralContainers = []v1.EphemeralContainer{c}
			SetDefaultsPod(pod)
			ruletest.Expect(t, ValidatePodEphemeralContainersUpdate(pod, good()), test.want...)
		})
	}
}

func TestValidateSelectorAndTemplate(t *testing.T) {
	app := map[string]string{"app": "web"}
	for name, test := range map[string]struct {
		selector *metav1.LabelSelector
		change   func(*v1.PodTemplateSpec)
		want     []string
	}{
		"good":        {&metav1.LabelSelector{MatchLabels: app}, nil, nil},
		"none":        {nil, nil, []string{"spec.selector: Required value", "spec.template.metadata.labels: Invalid value"}},
		"empty":       {&metav1.LabelSelector{}, nil, []string{"spec.selector: Invalid value … empty selector is invalid for deployment"}},
		"other":       {&metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, nil, []string{"spec.template.metadata.labels: Invalid value … `selector` does not match template `labels`"}},
		"not forever": {&metav1.LabelSelector{MatchLabels: app}, func(t *v1.PodTemplateSpec) { t.Spec.RestartPolicy = v1.RestartPolicyNever }, []string{`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
	} {
		t.Run(name, func(t *testing.T) {
			template := &v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: good().Spec}
			if test.change != nil {
				test.change(template)
			}
			ruletest.Expect(t, ValidateSelectorAndTemplate(test.selector, template, field.NewPath("spec")), test.want...)
		})
	}
}
