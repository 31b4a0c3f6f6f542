package kuberuntime

import (
	"testing"

	v1 "k8s.io/api/core/v1"
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
