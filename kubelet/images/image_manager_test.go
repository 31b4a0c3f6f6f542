package images

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	clocktesting "k8s.io/utils/clock/testing"

	kubecontainer "hyperkube/kubelet/container"
)

const patience = 60 * time.Second

// registry is an image service whose pulls end when the test lets them.
type registry struct {
	runtimeapi.ImageServiceClient
	begun, end chan struct{}

	mu     sync.Mutex
	pulled map[string]bool
}

func (r *registry) PullImage(_ context.Context, in *runtimeapi.PullImageRequest, _ ...grpc.CallOption) (*runtimeapi.PullImageResponse, error) {
	r.begun <- struct{}{}
	<-r.end
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulled[in.Image.Image] = true
	return &runtimeapi.PullImageResponse{}, nil
}

func (r *registry) ImageStatus(_ context.Context, in *runtimeapi.ImageStatusRequest, _ ...grpc.CallOption) (*runtimeapi.ImageStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.pulled[in.Image.Image] {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: in.Image.Image}}, nil
}

func newRegistry() *registry {
	return &registry{begun: make(chan struct{}, 10), end: make(chan struct{}), pulled: map[string]bool{}}
}

func request(name string) Request {
	return Request{Pod: &v1.Pod{}, Ref: &v1.ObjectReference{}, Image: name, PullPolicy: v1.PullIfNotPresent}
}

// serializeImagePulls, maxParallelImagePulls: the pulls above wait, and none of them is lost.
func TestPullsAtATime(t *testing.T) {
	r := newRegistry()
	m := NewImageManager(r, record.NewFakeRecorder(100), clocktesting.NewFakeClock(time.Unix(0, 0)), Limits{AtATime: 2})
	done := make(chan error, 5)
	for i := range 5 {
		go func() {
			_, _, err := m.EnsureImageExists(t.Context(), request(fmt.Sprintf("image%d:1", i)))
			done <- err
		}()
	}
	begun := 0
	for ended := range 5 {
		for ; begun < min(ended+2, 5); begun++ {
			select {
			case <-r.begun:
			case <-time.After(patience):
				t.Fatalf("only %d pulls began after %d had ended", begun, ended)
			}
		}
		select {
		case <-r.begun:
			t.Fatalf("%d pulls at a time", begun+1-ended)
		default:
		}
		r.end <- struct{}{}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A pull that waits for its turn ends with its pod.
func TestPullWaitsNoLongerThanItsPod(t *testing.T) {
	r := newRegistry()
	m := NewImageManager(r, record.NewFakeRecorder(100), clocktesting.NewFakeClock(time.Unix(0, 0)), Limits{AtATime: 1})
	first := make(chan error, 1)
	go func() {
		_, _, err := m.EnsureImageExists(context.Background(), request("first:1"))
		first <- err
	}()
	<-r.begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := m.EnsureImageExists(ctx, request("second:1")); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("waiting: %v", err)
	}
	r.end <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// registryPullQPS and registryBurst: what is too much fails, and is tried again when its back-off is over.
func TestPullsPerSecond(t *testing.T) {
	r, clock := newRegistry(), clocktesting.NewFakeClock(time.Unix(1000, 0))
	close(r.end)
	m := NewImageManager(r, record.NewFakeRecorder(100), clock, Limits{QPS: 1, Burst: 2})
	pull := func(name string) error {
		_, _, err := m.EnsureImageExists(t.Context(), request(name))
		return err
	}
	for _, name := range []string{"a:1", "b:1", "a:1"} { // the third is there already
		if err := pull(name); err != nil {
			t.Error(err)
		}
	}
	var refused *PullError
	if err := pull("c:1"); !errors.As(err, &refused) || refused.Reason != kubecontainer.ErrImagePull || refused.Message != "pull QPS exceeded" {
		t.Errorf("the third pull: %v", err)
	}
	clock.Step(11 * time.Second)
	if err := pull("c:1"); err != nil {
		t.Errorf("later: %v", err)
	}
}

// Whatever the cause, the image that is not there is also told as the container's failure, and gRPC's "unknown" is not.
func TestRefusedImagesAreTold(t *testing.T) {
	for name, test := range map[string]struct {
		request Request
		events  []string
		message string
	}{
		"a bad name": {request("Upper Case"), []string{"Warning InspectFailed Failed to apply default image tag \"Upper Case\": couldn't parse image name \"Upper Case\": invalid reference format: repository name (library/Upper Case) must be lowercase",
			"Warning Failed Error: InvalidImageName"}, "must be lowercase"},
		"never pulled": {Request{Pod: &v1.Pod{}, Ref: &v1.ObjectReference{}, Image: "a", PullPolicy: v1.PullNever}, []string{"Warning ErrImageNeverPull Container image \"a\" is not present with pull policy of Never",
			"Warning Failed Error: ErrImageNeverPull"}, "pull policy of Never"},
		"not to be had": {request("a"), []string{"Normal Pulling Pulling image \"a\"", "Warning Failed Failed to pull image \"a\": connection refused", "Warning Failed Error: ErrImagePull"}, "connection refused"},
	} {
		recorder := record.NewFakeRecorder(10)
		m := NewImageManager(refusing{newRegistry()}, recorder, clocktesting.NewFakeClock(time.Unix(0, 0)), Limits{})
		_, message, err := m.EnsureImageExists(t.Context(), test.request)
		if err == nil || !strings.Contains(message, test.message) || strings.Contains(message, "rpc error") {
			t.Errorf("%s: %q, %v", name, message, err)
		}
		for _, want := range test.events {
			if got := <-recorder.Events; got != want {
				t.Errorf("%s: event %q, want %q", name, got, want)
			}
		}
	}
}

// refusing cannot reach its registry.
type refusing struct{ *registry }

func (refusing) PullImage(context.Context, *runtimeapi.PullImageRequest, ...grpc.CallOption) (*runtimeapi.PullImageResponse, error) {
	return nil, status.Error(codes.Unknown, "connection refused")
}

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
