package serviceaccount

import (
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func newPlugin(accounts ...*corev1.ServiceAccount) plugin.Plugin {
	return New(lister.Slice(schema.GroupResource{Resource: "serviceaccounts"}, accounts...), testingclock.NewFakeClock(time.Now()))
}

func account(name string, change func(*corev1.ServiceAccount)) *corev1.ServiceAccount {
	a := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	if change != nil {
		change(a)
	}
	return a
}

func create(t *testing.T, p plugin.Plugin, pod *corev1.Pod) error {
	a := &request.AdmissionAttributes{
		Operation: request.Create, Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespace: "ns", Name: pod.Name, Object: pod,
	}
	if err := p.Admit(t.Context(), a); err != nil {
		return err
	}
	return p.Validate(t.Context(), a)
}

func pod(change func(*corev1.PodSpec)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "c"}},
	}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

// S0-09: each pod has a service account and finds its token, the CA and its namespace.
func TestTokenIsMounted(t *testing.T) {
	p := pod(nil)
	if err := create(t, newPlugin(account("default", func(a *corev1.ServiceAccount) {
		a.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
	})), p); err != nil {
		t.Fatal(err)
	}
	if p.Spec.ServiceAccountName != "default" || p.Spec.DeprecatedServiceAccount != "default" || len(p.Spec.ImagePullSecrets) != 1 {
		t.Errorf("%+v", p.Spec)
	}
	volume := p.Spec.Volumes[0]
	if !strings.HasPrefix(volume.Name, "kube-api-access-") || len(volume.Name) != len("kube-api-access-")+5 {
		t.Errorf("volume %q", volume.Name)
	}
	sources := volume.Projected.Sources
	if *sources[0].ServiceAccountToken.ExpirationSeconds != 3607 || sources[1].ConfigMap.Name != "kube-root-ca.crt" || sources[2].DownwardAPI.Items[0].Path != "namespace" || *volume.Projected.DefaultMode != 0o644 {
		t.Errorf("%+v", sources)
	}
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		if len(c.VolumeMounts) != 1 || c.VolumeMounts[0].MountPath != DefaultAPITokenMountPath || !c.VolumeMounts[0].ReadOnly || c.VolumeMounts[0].Name != volume.Name {
			t.Errorf("%s mounts %+v", c.Name, c.VolumeMounts)
		}
	}
}

func TestMounts(t *testing.T) {
	off := account("off", func(a *corev1.ServiceAccount) { a.AutomountServiceAccountToken = ptr.To(false) })
	for name, test := range map[string]struct {
		change          func(*corev1.PodSpec)
		volumes, mounts int
	}{
		"the account says no":              {func(s *corev1.PodSpec) { s.ServiceAccountName = "off" }, 0, 0},
		"the pod says yes":                 {func(s *corev1.PodSpec) { s.ServiceAccountName, s.AutomountServiceAccountToken = "off", ptr.To(true) }, 1, 1},
		"the pod says no":                  {func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = ptr.To(false) }, 0, 0},
		"something is mounted there":       {func(s *corev1.PodSpec) { s.InitContainers = nil; s.Containers[0].VolumeMounts = at("mine") }, 0, 1},
		"a volume of the kind exists":      {func(s *corev1.PodSpec) { s.Volumes = []corev1.Volume{{Name: "kube-api-access-abcde"}} }, 1, 1},
		"a volume of another name is left": {func(s *corev1.PodSpec) { s.Volumes = []corev1.Volume{{Name: "kube-api-accessory"}} }, 2, 1},
	} {
		p := pod(test.change)
		if err := create(t, newPlugin(account("default", nil), off), p); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(p.Spec.Volumes) != test.volumes || len(p.Spec.Containers[0].VolumeMounts) != test.mounts {
			t.Errorf("%s: %d volumes, mounts %+v", name, len(p.Spec.Volumes), p.Spec.Containers[0].VolumeMounts)
		}
	}
}

func at(volume string) []corev1.VolumeMount {
	return []corev1.VolumeMount{{Name: volume, MountPath: DefaultAPITokenMountPath}}
}

func TestRefusals(t *testing.T) {
	strict := account("strict", func(a *corev1.ServiceAccount) {
		a.Annotations = map[string]string{EnforceMountableSecretsAnnotation: "true"}
		a.Secrets = []corev1.ObjectReference{{Name: "allowed"}}
	})
	secret := func(name string) []corev1.Volume {
		return []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}}
	}
	mirror := func(p *corev1.Pod) *corev1.Pod {
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		return p
	}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"missing account": {pod(func(s *corev1.PodSpec) { s.ServiceAccountName = "none" }),
			`pods "web" is forbidden: error looking up service account ns/none: serviceaccount "none" not found`},
		"an allowed secret":      {pod(func(s *corev1.PodSpec) { s.ServiceAccountName, s.Volumes = "strict", secret("allowed") }), ""},
		"another secret":         {pod(func(s *corev1.PodSpec) { s.ServiceAccountName, s.Volumes = "strict", secret("other") }), "service account strict does not reference that secret"},
		"mirror":                 {mirror(pod(nil)), ""},
		"mirror with a secret":   {mirror(pod(func(s *corev1.PodSpec) { s.Volumes = secret("x") })), "a mirror pod may not reference secrets"},
		"mirror with an account": {mirror(pod(func(s *corev1.PodSpec) { s.ServiceAccountName = "default" })), "a mirror pod may not reference service accounts"},
		"mirror with a token volume": {mirror(pod(func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: TokenVolumeSource()}}}
		})), "a mirror pod may not use ServiceAccountToken volume projections"},
	} {
		err := create(t, newPlugin(account("default", nil), strict), test.pod)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// A pod may be created right after its namespace, before the controller has made the default account.
func TestDefaultAccountIsAwaited(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	accounts := &late{Lister: lister.Slice[*corev1.ServiceAccount](schema.GroupResource{Resource: "serviceaccounts"})}
	done := make(chan error)
	p := New(accounts, clock)
	go func() { done <- create(t, p, pod(nil)) }()
	for n := 0; n < 3; n++ {
		for !clock.HasWaiters() {
			runtime.Gosched()
		}
		clock.Step(retryInterval)
	}
	if err := <-done; err != nil || accounts.asked != 5 {
		t.Errorf("%v after %d looks", err, accounts.asked)
	}
}

// late has the account from the fourth look on.
type late struct {
	lister.Lister[*corev1.ServiceAccount]
	asked int
}

func (l *late) Get(namespace, name string) (*corev1.ServiceAccount, error) {
	if l.asked++; l.asked >= 4 {
		return account("default", nil), nil
	}
	return l.Lister.Get(namespace, name)
}
