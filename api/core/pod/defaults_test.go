package pod

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// The least a client must say of a pod, and what the rest becomes.
func TestSetDefaultsPod(t *testing.T) {
	get := &v1.HTTPGetAction{Port: intstr.FromInt32(80)}
	pod := &v1.Pod{Spec: v1.PodSpec{
		DeprecatedServiceAccount: "robot",
		HostNetwork:              true,
		Volumes:                  []v1.Volume{{Name: "a"}, {Name: "b", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}}},
		Containers: []v1.Container{{
			Name: "web", Image: "web", Ports: []v1.ContainerPort{{ContainerPort: 80}},
			ReadinessProbe: &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: get}},
			Env:            []v1.EnvVar{{Name: "IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}}}},
			Resources:      v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}},
		}},
	}}
	want := &v1.Pod{
		Spec: v1.PodSpec{
			ServiceAccountName: "robot", DeprecatedServiceAccount: "robot", HostNetwork: true,
			DNSPolicy: v1.DNSClusterFirst, RestartPolicy: v1.RestartPolicyAlways, SchedulerName: "default-scheduler",
			SecurityContext: &v1.PodSecurityContext{}, TerminationGracePeriodSeconds: ptr.To[int64](30), EnableServiceLinks: ptr.To(true),
			Volumes: []v1.Volume{
				{Name: "a", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
				{Name: "b", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{DefaultMode: ptr.To[int32](0644)}}},
			},
			Containers: []v1.Container{{
				Name: "web", Image: "web", Ports: []v1.ContainerPort{{ContainerPort: 80, HostPort: 80, Protocol: v1.ProtocolTCP}},
				ImagePullPolicy: v1.PullAlways, TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: v1.TerminationMessageReadFile,
				ReadinessProbe: &v1.Probe{
					ProbeHandler:   v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Port: intstr.FromInt32(80), Path: "/", Scheme: v1.URISchemeHTTP}},
					TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3,
				},
				Env:       []v1.EnvVar{{Name: "IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}}},
				Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}, Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}},
			}},
		},
	}
	for range 2 { // once more changes nothing
		SetDefaultsPod(pod)
		if !equality.Semantic.DeepEqual(pod, want) {
			t.Fatal(diff.Diff(want, pod))
		}
	}
}

// A template keeps its author's words: else a new default would look like a new revision.
func TestSetDefaultsPodTemplateKeepsWhatOnlyPodsGet(t *testing.T) {
	template := &v1.PodTemplateSpec{Spec: v1.PodSpec{HostNetwork: true, Containers: []v1.Container{{
		Ports:     []v1.ContainerPort{{ContainerPort: 80}},
		Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}},
	}}}}
	SetDefaultsPodTemplate(template)
	if c := template.Spec.Containers[0]; template.Spec.EnableServiceLinks != nil || c.Resources.Requests != nil || c.Ports[0].HostPort != 0 {
		t.Errorf("the template became %+v", template.Spec)
	}
}

func TestDefaultPullPolicy(t *testing.T) {
	for image, want := range map[string]v1.PullPolicy{
		"web": v1.PullAlways, "web:latest": v1.PullAlways, "host:5000/web": v1.PullAlways,
		"web:1": v1.PullIfNotPresent, "host:5000/web:1": v1.PullIfNotPresent,
		"web@sha256:" + strings.Repeat("0", 64): v1.PullIfNotPresent, "web:latest@sha256:" + strings.Repeat("0", 64): v1.PullAlways,
		// These are no references, so they have no tag either.
		"Web": v1.PullIfNotPresent, "web!": v1.PullIfNotPresent, strings.Repeat("a", 256): v1.PullIfNotPresent, strings.Repeat("0", 64): v1.PullIfNotPresent,
	} {
		if got := defaultPullPolicy(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestComputePodQOS(t *testing.T) {
	list := func(cpu, memory string) v1.ResourceList {
		l := v1.ResourceList{}
		if cpu != "" {
			l[v1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[v1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	for name, test := range map[string]struct {
		requests, limits v1.ResourceList
		want             v1.PodQOSClass
	}{
		"nothing":       {nil, nil, v1.PodQOSBestEffort},
		"requests":      {list("1", ""), nil, v1.PodQOSBurstable},
		"limits":        {nil, list("1", "1Gi"), v1.PodQOSGuaranteed},
		"one limit":     {nil, list("1", ""), v1.PodQOSBurstable},
		"less reserved": {list("500m", "1Gi"), list("1", "1Gi"), v1.PodQOSBurstable},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Resources: v1.ResourceRequirements{Requests: test.requests, Limits: test.limits}}}}}
		SetDefaultsPod(pod)
		if got := ComputePodQOS(&pod.Spec); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
