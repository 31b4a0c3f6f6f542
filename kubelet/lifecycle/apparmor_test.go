package lifecycle

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// A pod that counts on an AppArmor profile does not run where none is enforced; one that wants none, or is unconfined, does.
func TestAppArmorIsThereOrThePodIsRefused(t *testing.T) {
	host := func(enabled string) AppArmor {
		root := t.TempDir()
		for _, dir := range []string{"sys/kernel/security/apparmor", "sys/module/apparmor/parameters"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(root, "sys/module/apparmor/parameters/enabled"), []byte(enabled), 0o644); err != nil {
			t.Fatal(err)
		}
		return AppArmor{root}
	}
	profile := func(kind v1.AppArmorProfileType) *v1.AppArmorProfile { return &v1.AppArmorProfile{Type: kind} }
	ofPod := func(kind v1.AppArmorProfileType) *v1.Pod {
		return &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{AppArmorProfile: profile(kind)}, Containers: []v1.Container{{}}}}
	}
	ofContainer := func(kind v1.AppArmorProfileType) *v1.Pod {
		return &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{}, {SecurityContext: &v1.SecurityContext{AppArmorProfile: profile(kind)}}}}}
	}
	for name, test := range map[string]struct {
		host    AppArmor
		pod     *v1.Pod
		refused bool
	}{
		"no wish":                         {AppArmor{t.TempDir()}, &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{}}}}, false},
		"unconfined":                      {AppArmor{t.TempDir()}, ofPod(v1.AppArmorProfileTypeUnconfined), false},
		"a profile":                       {AppArmor{t.TempDir()}, ofPod(v1.AppArmorProfileTypeLocalhost), true},
		"a container's":                   {AppArmor{t.TempDir()}, ofContainer(v1.AppArmorProfileTypeRuntimeDefault), true},
		"in the kernel, but switched off": {host("N\n"), ofPod(v1.AppArmorProfileTypeRuntimeDefault), true},
		"enabled":                         {host("Y\n"), ofContainer(v1.AppArmorProfileTypeLocalhost), false},
	} {
		got := test.host.Admit(test.pod)
		if (got != nil) != test.refused || got != nil && (got.Reason != "AppArmor" || got.Message != "Cannot enforce AppArmor: AppArmor is not enabled on the host") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
