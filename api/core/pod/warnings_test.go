package pod

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// kubectl prints these word for word, so the words are upstream's (pkg/api/pod/warnings.go).
func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct {
		change func(p *v1.Pod)
		want   []string
	}{
		"none":  {func(p *v1.Pod) {}, nil},
		"label": {func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"beta.kubernetes.io/os": "linux"} }, []string{`spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`}},
		"spread": {func(p *v1.Pod) {
			p.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{TopologyKey: "failure-domain.beta.kubernetes.io/zone"}}
		}, []string{`spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
			"spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"}},
		"annotation": {func(p *v1.Pod) { p.Annotations = map[string]string{"scheduler.alpha.kubernetes.io/critical-pod": ""} }, []string{`metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead`}},
		"seccomp": {func(p *v1.Pod) {
			p.Annotations = map[string]string{"container.seccomp.security.alpha.kubernetes.io/a": "runtime/default"}
		}, []string{`metadata.annotations[container.seccomp.security.alpha.kubernetes.io/a]: non-functional in v1.27+; use the "seccompProfile" field instead`}},
		"volume": {func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{GitRepo: &v1.GitRepoVolumeSource{}}}}
		}, []string{"spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"}},
		"overlap": {func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "m"},
				Items: []v1.KeyToPath{{Path: "a"}, {Path: "ab"}, {Path: "a/b"}}}}}}
		}, []string{`volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a"`}},
		"projected": {func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
				{Secret: &v1.SecretProjection{LocalObjectReference: v1.LocalObjectReference{Name: "s"}, Items: []v1.KeyToPath{{Path: "token"}}}},
				{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token"}}, {},
			}}}}}
		}, []string{`volume "v" (Projected) has no sources provided`, `volume "v" (Projected): overlapping paths: "token" (ServiceAccountToken) with "token" (Secret "s")`}},
		"aliases": {func(p *v1.Pod) { p.Spec.HostAliases = []v1.HostAlias{{IP: "1.2.3.4"}, {IP: "1.2.3.4"}} }, []string{`spec.hostAliases[1].ip: duplicate ip "1.2.3.4"`}},
		"pull secrets": {func(p *v1.Pod) { p.Spec.ImagePullSecrets = []v1.LocalObjectReference{{Name: "a"}, {Name: "a"}, {}} }, []string{
			`spec.imagePullSecrets[1].name: duplicate name "a"`, `spec.imagePullSecrets[2].name: invalid empty name ""`}},
		"half a byte": {func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("100m")}
		}, []string{`spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer`}},
		"env": {func(p *v1.Pod) {
			p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "$(A)2"}, {Name: "A", Value: "3"}}
		}, []string{`spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply`}},
		"ports": {func(p *v1.Pod) {
			p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, Protocol: v1.ProtocolTCP}, {ContainerPort: 80, Protocol: v1.ProtocolTCP}, {ContainerPort: 80, Protocol: v1.ProtocolUDP}}
		}, []string{"spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"}},
		"host ports": {func(p *v1.Pod) {
			p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 81}, {ContainerPort: 80, HostPort: 81, HostIP: "1.2.3.4"}}
		}, []string{"spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]"}},
		"name": {func(p *v1.Pod) { p.Name = "a.b" }, []string{"metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"}},
		"port names": {func(p *v1.Pod) {
			p.Spec.Containers[0].Ports = []v1.ContainerPort{{Name: "a", ContainerPort: 80}, {Name: "a", ContainerPort: 81}}
		}, []string{`spec.containers[0].ports[1]: duplicate port name "a" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]`}},
		"idle preference": {func(p *v1.Pod) {
			p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []v1.PreferredSchedulingTerm{{
				Preference: v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{{Key: "a", Operator: v1.NodeSelectorOpIn, Values: []string{strings.Repeat("a", 64)}}}}}}}}
		}, []string{"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]: " + strings.Repeat("a", 64) + " is invalid, must be no more than 63 bytes"}},
		"grace": {func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](-1) }, []string{"spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"}},
		"affinity": {func(p *v1.Pod) {
			p.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []v1.WeightedPodAffinityTerm{{}}}}
		}, []string{"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "a", Image: "i"}}}}
			test.change(p)
			if got := Warnings(p); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// In a template paths begin at the workload, and an AppArmor annotation counts, since nobody makes a field of it.
func TestWarningsForTemplate(t *testing.T) {
	template := &v1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "a", Image: "i"}}},
	}
	want := []string{`spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: deprecated since v1.30; use the "appArmorProfile" field instead`}
	if got := WarningsForTemplate(template, field.NewPath("spec", "template")); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
