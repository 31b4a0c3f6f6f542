package kuberuntime

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// seccompDefault is for containers of which neither they nor their pod say anything.
func TestSeccompProfile(t *testing.T) {
	profile := func(kind v1.SeccompProfileType) *v1.SeccompProfile { return &v1.SeccompProfile{Type: kind} }
	const unconfined, runtimeDefault = runtimeapi.SecurityProfile_Unconfined, runtimeapi.SecurityProfile_RuntimeDefault
	for _, c := range []struct {
		pod, container *v1.SeccompProfile
		off, on        runtimeapi.SecurityProfile_ProfileType
	}{
		{nil, nil, unconfined, runtimeDefault},
		{profile("Unconfined"), nil, unconfined, unconfined},
		{profile("RuntimeDefault"), nil, runtimeDefault, runtimeDefault},
		{profile("RuntimeDefault"), profile("Unconfined"), unconfined, unconfined},
		{nil, profile("RuntimeDefault"), runtimeDefault, runtimeDefault},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{SeccompProfile: c.pod}}}
		container := &v1.Container{SecurityContext: &v1.SecurityContext{SeccompProfile: c.container}}
		for on, want := range map[bool]runtimeapi.SecurityProfile_ProfileType{false: c.off, true: c.on} {
			m := &kubeGenericRuntimeManager{Config: Config{SeccompDefault: on}}
			if got, err := m.seccompProfile(pod, container); err != nil || got.ProfileType != want {
				t.Errorf("pod %v, container %v, by default %v: %v, %v", c.pod, c.container, on, got, err)
			}
		}
	}
}

func TestHugepageLimits(t *testing.T) {
	sizes := []int64{2 << 20, 1 << 30}
	list := func(name v1.ResourceName, amount string) v1.ResourceList {
		return v1.ResourceList{name: resource.MustParse(amount)}
	}
	for _, c := range []struct {
		container v1.ResourceList
		pod       *v1.ResourceRequirements
		want      string
	}{
		{nil, nil, "2MB:0 1GB:0 "},
		{list("hugepages-2Mi", "4Mi"), nil, "2MB:4194304 1GB:0 "},
		{list("hugepages-2Mi", "4Mi"), &v1.ResourceRequirements{Limits: list("hugepages-2Mi", "8Mi")}, "2MB:4194304 1GB:0 "},
		{nil, &v1.ResourceRequirements{Limits: list("hugepages-1Gi", "1Gi")}, "2MB:0 1GB:1073741824 "},
	} {
		got := ""
		for _, limit := range hugepageLimits(&v1.Pod{Spec: v1.PodSpec{Resources: c.pod}}, &v1.Container{Resources: v1.ResourceRequirements{Limits: c.container}}, sizes) {
			got += fmt.Sprintf("%s:%d ", limit.PageSize, limit.Limit)
		}
		if got != c.want {
			t.Errorf("%v in a pod of %v: %s, want %s", c.container, c.pod, got, c.want)
		}
	}
}
