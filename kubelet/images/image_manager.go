// Package images brings the image of a container onto the node before the
// container is made: pull policy, credentials, back-off, and the events that
// `kubectl describe pod` shows about it.
//
// In Kubernetes: pkg/kubelet/images. Left out: serial pulls (pulls here are
// parallel), and the record of which pod may use which privately pulled image.
package images

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/remote"
)

// Image is one that is on the node.
type Image struct {
	Ref      string // what the runtime calls it
	UID      *int64 // its user, if a number
	Username string // its user, if a name
}

// PullError says why there is no image. Reason is the word for the container's
// waiting state; RetryAt, if set, is when the back-off lapses.
type PullError struct {
	Reason  error
	Message string
	RetryAt time.Time
}

func (e *PullError) Error() string { return e.Reason.Error() + ": " + e.Message }

// ImageManager pulls images. It is safe for concurrent use.
type ImageManager struct {
	runtime  runtimeapi.ImageServiceClient
	recorder record.EventRecorder
	clock    clock.Clock
	backOff  *flowcontrol.Backoff
	retryAt  sync.Map // back-off key → time.Time at which its back-off lapses
	// turns has room for the pulls that may go on at a time; nil: any number. rate is of those that begin; nil: any.
	turns chan struct{}
	rate  flowcontrol.RateLimiter
}

// Limits of pulls. Zero is none.
type Limits struct {
	// AtATime is how many pulls go on at a time. The others wait for their turn.
	AtATime int
	// QPS is how many pulls begin a second, Burst how many at once after a pause. What is above fails, and is tried again later.
	QPS, Burst int
}

// NewImageManager makes a manager whose back-off doubles from 10 s to 5 min, per
// pod and image.
func NewImageManager(runtime runtimeapi.ImageServiceClient, recorder record.EventRecorder, c clock.Clock, limits Limits) *ImageManager {
	backOff := flowcontrol.NewBackOff(10*time.Second, 5*time.Minute)
	backOff.Clock = c
	m := &ImageManager{runtime: runtime, recorder: recorder, clock: c, backOff: backOff}
	if limits.AtATime > 0 {
		m.turns = make(chan struct{}, limits.AtATime)
	}
	if limits.QPS > 0 {
		m.rate = flowcontrol.NewTokenBucketRateLimiterWithClock(float32(limits.QPS), limits.Burst, c)
	}
	return m
}

// localRegistry begins the names of images that exist only on nodes. Our own runtime
// answers a pull with what is there; another one would ask for a host of that name,
// and `kubectl create deployment`, whose policy is Always, could not use the demo image.
const localRegistry = "hyperkube.local/"

// Request is one image that a pod needs, for a container or as a volume.
type Request struct {
	Pod        *v1.Pod
	Ref        *v1.ObjectReference // whom the events are about: the container, or the pod for a volume
	Image      string              // as the pod names it
	PullPolicy v1.PullPolicy
	Secrets    []v1.Secret
	Sandbox    *runtimeapi.PodSandboxConfig
}

// EnsureImageExists applies the pull policy. The error is a *PullError.
func (m *ImageManager) EnsureImageExists(ctx context.Context, r Request) (Image, string, error) {
	fail := func(kind, reason, eventMessage string, err *PullError) (Image, string, error) {
		m.recorder.Event(r.Ref, kind, reason, eventMessage)
		m.recorder.Event(r.Ref, v1.EventTypeWarning, "Failed", "Error: "+err.Reason.Error())
		return Image{}, err.Message, err
	}
	name, err := applyDefaultImageTag(r.Image)
	if err != nil {
		message := fmt.Sprintf("Failed to apply default image tag %q: %v", r.Image, err)
		return fail(v1.EventTypeWarning, "InspectFailed", message, &PullError{Reason: kubecontainer.ErrInvalidImageName, Message: message})
	}
	spec := &runtimeapi.ImageSpec{Image: name, UserSpecifiedImage: r.Image}
	present, err := m.imageStatus(ctx, spec)
	if err != nil {
		message := fmt.Sprintf("Failed to inspect image %q: %v", r.Image, err)
		return fail(v1.EventTypeWarning, "InspectFailed", message, &PullError{Reason: kubecontainer.ErrImageInspect, Message: message})
	}
	policy := r.PullPolicy
	if strings.HasPrefix(name, localRegistry) && present != nil {
		policy = v1.PullNever
	}
	if !shouldPullImage(policy, present != nil) {
		if present == nil {
			message := fmt.Sprintf("Container image %q is not present with pull policy of Never", r.Image)
			return fail(v1.EventTypeWarning, "ErrImageNeverPull", message, &PullError{Reason: kubecontainer.ErrImageNeverPull, Message: message})
		}
		m.recorder.Eventf(r.Ref, v1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", r.Image)
		return *present, "", nil
	}
	return m.pull(ctx, r, spec, credentials(name, r.Secrets))
}

// shouldPullImage is the pull policy. Always means asking the registry each time;
// the runtime transfers only what is missing.
func shouldPullImage(policy v1.PullPolicy, present bool) bool {
	switch policy {
	case v1.PullNever:
		return false
	case v1.PullAlways:
		return true
	}
	return !present
}

func (m *ImageManager) pull(ctx context.Context, r Request, spec *runtimeapi.ImageSpec, auths []*runtimeapi.AuthConfig) (Image, string, error) {
	key := string(r.Pod.UID) + "_" + r.Image
	image := r.Image
	if m.backOff.IsInBackOffSinceUpdate(key, m.clock.Now()) {
		message := fmt.Sprintf("Back-off pulling image %q", image)
		m.recorder.Event(r.Ref, v1.EventTypeNormal, "BackOff", message)
		m.recorder.Event(r.Ref, v1.EventTypeWarning, "Failed", "Error: "+kubecontainer.ErrImagePullBackOff.Error())
		return Image{}, message, &PullError{Reason: kubecontainer.ErrImagePullBackOff, Message: message, RetryAt: m.lapses(key)}
	}
	m.recorder.Eventf(r.Ref, v1.EventTypeNormal, "Pulling", "Pulling image %q", image)
	asked := m.clock.Now()
	done, err := m.turn(ctx)
	defer done()
	start := m.clock.Now()
	if err == nil {
		err = m.pullWithAny(ctx, &runtimeapi.PullImageRequest{Image: spec, SandboxConfig: r.Sandbox}, auths)
	}
	if err != nil {
		m.recorder.Eventf(r.Ref, v1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", image, err)
		m.recorder.Event(r.Ref, v1.EventTypeWarning, "Failed", "Error: "+kubecontainer.ErrImagePull.Error())
		m.backOff.Next(key, m.clock.Now())
		m.retryAt.Store(key, m.clock.Now().Add(m.backOff.Get(key)))
		return Image{}, err.Error(), &PullError{Reason: kubecontainer.ErrImagePull, Message: err.Error(), RetryAt: m.lapses(key)}
	}
	took, inAll := m.clock.Since(start).Truncate(time.Millisecond), m.clock.Since(asked).Truncate(time.Millisecond)
	response, err := m.runtime.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil || response.Image == nil {
		message := fmt.Sprintf("Failed to inspect image %q after pulling it: %v", image, err)
		return Image{}, message, &PullError{Reason: kubecontainer.ErrImageInspect, Message: message}
	}
	m.recorder.Eventf(r.Ref, v1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.", image, took, inAll, response.Image.Size)
	m.backOff.GC()
	m.retryAt.Delete(key)
	return toImage(response.Image), "", nil
}

// turn waits until one more pull may go on; done has to be called when it is over.
func (m *ImageManager) turn(ctx context.Context) (done func(), err error) {
	done = func() {}
	if m.turns != nil {
		select {
		case m.turns <- struct{}{}:
			done = func() { <-m.turns }
		case <-ctx.Done():
			return done, ctx.Err()
		}
	}
	if m.rate != nil && !m.rate.TryAccept() {
		err = errors.New("pull QPS exceeded")
	}
	return done, err
}

func (m *ImageManager) lapses(key string) time.Time {
	at, _ := m.retryAt.Load(key)
	t, _ := at.(time.Time)
	return t
}

// pullWithAny tries each credential that fits, or none at all if none does.
func (m *ImageManager) pullWithAny(ctx context.Context, request *runtimeapi.PullImageRequest, auths []*runtimeapi.AuthConfig) error {
	if len(auths) == 0 {
		auths = []*runtimeapi.AuthConfig{nil}
	}
	var last error
	for _, request.Auth = range auths {
		if _, last = m.runtime.PullImage(ctx, request); last == nil {
			return nil
		}
	}
	if status.Code(last) == codes.Unknown {
		last = errors.New(remote.Message(last)) // "unknown" says nothing of why
	}
	return last
}

func (m *ImageManager) imageStatus(ctx context.Context, spec *runtimeapi.ImageSpec) (*Image, error) {
	response, err := m.runtime.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil || response.Image == nil || response.Image.Id == "" {
		return nil, err
	}
	image := toImage(response.Image)
	return &image, nil
}

func toImage(i *runtimeapi.Image) Image {
	image := Image{Ref: i.Id, Username: i.Username}
	switch {
	case i.Uid != nil:
		image.UID = &i.Uid.Value
	case i.Username == "":
		image.UID = new(int64) // it names nobody: root (containerd leaves it at that)
	}
	return image
}

// applyDefaultImageTag adds ":latest" where neither tag nor digest is given.
func applyDefaultImageTag(image string) (string, error) {
	path := image[strings.LastIndexByte(image, '/')+1:]
	repository, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository = repository[:i]
	}
	host, rest, found := strings.Cut(repository, "/")
	if found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		repository = rest
	} else if !found {
		repository = "library/" + repository // of docker.io
	}
	if strings.ToLower(repository) != repository {
		return "", fmt.Errorf("couldn't parse image name %q: invalid reference format: repository name (%s) must be lowercase", image, repository)
	}
	if path == "" || strings.ContainsAny(image, " \t\n") || strings.Contains(image, "//") {
		return "", fmt.Errorf("couldn't parse image name %q: invalid reference format", image)
	}
	if strings.ContainsAny(path, ":@") {
		return image, nil
	}
	return image + ":latest", nil
}

// dockerConfig is what a secret of type kubernetes.io/dockerconfigjson holds.
type dockerConfig struct {
	Auths map[string]struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Auth     string `json:"auth"`
		Token    string `json:"identitytoken"`
	} `json:"auths"`
}

// credentials are those of the secrets whose registry and path the image has.
func credentials(image string, secrets []v1.Secret) []*runtimeapi.AuthConfig {
	var found []*runtimeapi.AuthConfig
	for _, secret := range secrets {
		config := dockerConfig{}
		if raw, ok := secret.Data[v1.DockerConfigJsonKey]; ok {
			_ = json.Unmarshal(raw, &config) // a broken secret has no credentials; the pull says so
		} else if raw, ok := secret.Data[v1.DockerConfigKey]; ok {
			_ = json.Unmarshal(raw, &config.Auths)
		}
		for registry, entry := range config.Auths {
			if !registryMatches(registry, image) {
				continue
			}
			auth := &runtimeapi.AuthConfig{Username: entry.Username, Password: entry.Password, IdentityToken: entry.Token, ServerAddress: registry}
			if decoded, err := base64.StdEncoding.DecodeString(entry.Auth); err == nil && auth.Username == "" {
				auth.Username, auth.Password, _ = strings.Cut(string(decoded), ":")
			}
			found = append(found, auth)
		}
	}
	return found
}

func registryMatches(registry, image string) bool {
	registry = strings.TrimPrefix(strings.TrimPrefix(registry, "https://"), "http://")
	registry = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(registry, "/"), "/v1"), "/v2")
	if registry == "index.docker.io" || registry == "docker.io" {
		host, _, found := strings.Cut(image, "/")
		return !found || !strings.ContainsAny(host, ".:") && host != "localhost" || host == "docker.io"
	}
	return image == registry || strings.HasPrefix(image, registry+"/") || strings.HasPrefix(image, registry+":")
}
