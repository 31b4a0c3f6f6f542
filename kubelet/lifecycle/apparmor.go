package lifecycle

import (
	"bytes"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
)

// AppArmor is the host's, below a root: "/", but for tests.
type AppArmor struct{ Root string }

// Admit refuses a pod that counts on a profile on a host that would not enforce it: it would run, without the protection.
func (a AppArmor) Admit(pod *v1.Pod) *Rejection {
	if !wantsAppArmor(pod) || a.enabled() {
		return nil
	}
	return &Rejection{"AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
}

func (a AppArmor) enabled() bool {
	if _, err := os.Stat(filepath.Join(a.Root, "sys/kernel/security/apparmor")); err != nil {
		return false
	}
	state, err := os.ReadFile(filepath.Join(a.Root, "sys/module/apparmor/parameters/enabled"))
	return err == nil && bytes.HasPrefix(state, []byte("Y"))
}

func wantsAppArmor(pod *v1.Pod) bool {
	wants := func(p *v1.AppArmorProfile) bool { return p != nil && p.Type != v1.AppArmorProfileTypeUnconfined }
	if sc := pod.Spec.SecurityContext; sc != nil && wants(sc.AppArmorProfile) {
		return true
	}
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range containers {
			if c.SecurityContext != nil && wants(c.SecurityContext.AppArmorProfile) {
				return true
			}
		}
	}
	return false
}
