package images

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestApplyDefaultImageTag(t *testing.T) {
	for name, want := range map[string]string{
		"busybox": "busybox:latest", "busybox:1": "busybox:1", "localhost:5000/a": "localhost:5000/a:latest", "localhost:5000/a:1": "localhost:5000/a:1",
		"a@sha256:00": "a@sha256:00", "example.com/A": "", "": "", "a b": "", "Example.com/a": "Example.com/a:latest",
	} {
		got, err := applyDefaultImageTag(name)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestShouldPullImage(t *testing.T) {
	for _, c := range []struct {
		policy  v1.PullPolicy
		present bool
		want    bool
	}{{v1.PullAlways, true, true}, {v1.PullIfNotPresent, true, false}, {v1.PullIfNotPresent, false, true}, {v1.PullNever, false, false}} {
		if got := shouldPullImage(c.policy, c.present); got != c.want {
			t.Errorf("%s, present %v: %v", c.policy, c.present, got)
		}
	}
}

// imagePullSecrets: only those of the image's registry are sent to it.
func TestCredentials(t *testing.T) {
	secret := v1.Secret{Data: map[string][]byte{v1.DockerConfigJsonKey: []byte(`{"auths":{"https://example.com/v1/":{"auth":"dTpw"},"other.org":{"username":"x","password":"y"},"https://index.docker.io/v1/":{"username":"h"}}}`)}}
	for image, want := range map[string]string{"example.com/app:1": "u/p", "other.org/app": "x/y", "busybox": "h/", "library/busybox": "h/", "third.net/app": ""} {
		got := ""
		for _, auth := range credentials(image, []v1.Secret{secret}) {
			got += auth.Username + "/" + auth.Password
		}
		if got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}

// An image that names no user is root's, whether or not the runtime says so: runAsNonRoot goes by it.
func TestImageWithoutUserIsRoots(t *testing.T) {
	if got := toImage(&runtimeapi.Image{}); got.UID == nil || *got.UID != 0 {
		t.Errorf("no user: %v", got.UID)
	}
	if got := toImage(&runtimeapi.Image{Username: "web"}); got.UID != nil {
		t.Errorf("a user by name: %v", *got.UID)
	}
	if got := toImage(&runtimeapi.Image{Uid: &runtimeapi.Int64Value{Value: 7}}); got.UID == nil || *got.UID != 7 {
		t.Errorf("user 7: %v", got.UID)
	}
}
