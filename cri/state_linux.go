package cri

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/images"
	"hyperkube/cri/podparent"
)

// The files in which a sandbox and a container outlive us.
const (
	sandboxFile   = "sandbox.json"
	containerFile = "container.json"
)

// sandbox is one pod's surroundings: its directory, parent process, cgroup and network.
type sandbox struct {
	id     string
	dir    string
	parent podparent.Client

	// op is held by the calls that change the sandbox, one at a time.
	op sync.Mutex
	// mu guards what follows.
	mu       sync.Mutex
	rec      sandboxRecord
	stopping bool // the parent's end is our doing
	usage    usageSample
}

// sandboxRecord is what sandbox.json holds.
type sandboxRecord struct {
	Config     *runtimeapi.PodSandboxConfig `json:"-"`
	RawConfig  json.RawMessage              `json:"config"`
	Handler    string                       `json:"runtimeHandler,omitempty"`
	CreatedAt  int64                        `json:"createdAt"` // Unix nanoseconds
	Phase      phase                        `json:"phase"`
	Cgroup     string                       `json:"cgroup"`               // the pod's cgroup
	OwnCgroup  bool                         `json:"ownCgroup,omitempty"`  // made by us, and so removed by us
	IPs        []string                     `json:"ips,omitempty"`        // the first is the pod's main one
	ParentPid  int                          `json:"parentPid,omitempty"`  // for inspection; state.json is what counts
	DiedReason string                       `json:"diedReason,omitempty"` // why it is not ready although nobody stopped it
}

// phase is how far a sandbox has come. It only moves forward.
type phase string

const (
	creating phase = "creating" // RunPodSandbox has not answered: after a crash it is taken apart
	ready    phase = "ready"
	broken   phase = "broken"  // the parent has died; StopPodSandbox still has to clean up
	stopped  phase = "stopped" // nothing of it is left but the directory
)

// container is one container.
type container struct {
	id  string
	dir string
	sb  *sandbox

	op sync.Mutex // held by start, stop and remove
	// mu guards what follows.
	mu     sync.Mutex
	rec    containerRecord
	spec   *podparent.ContainerSpec
	status podparent.ContainerStatus // as the parent last told
	ended  chan struct{}             // closed when status has an end
	usage  usageSample
}

// containerRecord is what container.json holds.
type containerRecord struct {
	Config    *runtimeapi.ContainerConfig `json:"-"`
	RawConfig json.RawMessage             `json:"config"`
	CreatedAt int64                       `json:"createdAt"` // Unix nanoseconds
	ImageID   string                      `json:"imageID"`
	ImageRef  string                      `json:"imageRef"`
	Signal    string                      `json:"stopSignal"`
	Cgroup    string                      `json:"cgroup"`
	// ImageVolumes are the images that are mounted in it, as they were when it was made.
	ImageVolumes []imageVolume `json:"imageVolumes,omitempty"`
}

// imageVolume is an image that a container has as a volume.
type imageVolume struct {
	ContainerPath string `json:"containerPath"`
	ImageRef      string `json:"imageRef"`
}

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// save writes the sandbox's record; with mu held or before others know it.
func (s *sandbox) save() (err error) {
	if s.rec.RawConfig, err = protojson.Marshal(s.rec.Config); err != nil {
		return err
	}
	return saveJSON(filepath.Join(s.dir, sandboxFile), &s.rec)
}

func (k *container) save() (err error) {
	if k.rec.RawConfig, err = protojson.Marshal(k.rec.Config); err != nil {
		return err
	}
	return saveJSON(filepath.Join(k.dir, containerFile), &k.rec)
}

// phase returns how far the sandbox has come.
func (s *sandbox) phase() phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Phase
}

// expectEnd says whether the parent's end will be our doing.
func (s *sandbox) expectEnd(expected bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = expected
}

// wanted says whether the sandbox is there to stay.
func (s *sandbox) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Phase == ready && !s.stopping
}

// update changes the record, and writes it.
func (s *sandbox) update(change func(*sandboxRecord)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.rec)
	return s.save()
}

// record returns a copy.
func (s *sandbox) record() sandboxRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec
}

// snapshot returns copies of a container's record and status.
func (k *container) snapshot() (containerRecord, podparent.ContainerStatus) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rec, k.status
}

func loadSandbox(dir string) (*sandbox, error) {
	s := &sandbox{id: filepath.Base(dir), dir: dir, parent: podparent.Client{Dir: dir}}
	s.rec.Config = &runtimeapi.PodSandboxConfig{}
	return s, loadJSON(filepath.Join(dir, sandboxFile), &s.rec, &s.rec.RawConfig, s.rec.Config)
}

func loadContainer(sb *sandbox, dir string) (*container, error) {
	k := &container{id: filepath.Base(dir), dir: dir, sb: sb, ended: make(chan struct{})}
	k.rec.Config = &runtimeapi.ContainerConfig{}
	if err := loadJSON(filepath.Join(dir, containerFile), &k.rec, &k.rec.RawConfig, k.rec.Config); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, podparent.SpecName))
	if err != nil {
		return nil, err
	}
	k.spec = &podparent.ContainerSpec{}
	return k, json.Unmarshal(data, k.spec)
}

func loadJSON(path string, record any, raw *json.RawMessage, config proto.Message) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, record); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	// Unknown fields are those of a newer version's record.
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(*raw, config)
}

func saveJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600)
}

// writeFile replaces a file as a whole: after a crash there is the old content or the new.
func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// findSandbox finds a sandbox by its id, or the beginning of one.
func (c *CRI) findSandbox(id string) (*sandbox, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return find(c.sandboxes, id, "pod sandbox")
}

func (c *CRI) findContainer(id string) (*container, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return find(c.containers, id, "container")
}

func find[T any](all map[string]*T, id, kind string) (*T, error) {
	if found := all[id]; found != nil {
		return found, nil
	}
	var match *T
	for full, candidate := range all {
		if id != "" && strings.HasPrefix(full, id) {
			if match != nil {
				return nil, status.Errorf(codes.InvalidArgument, "%s %q is ambiguous", kind, id)
			}
			match = candidate
		}
	}
	if match == nil {
		return nil, status.Errorf(codes.NotFound, "%s %q not found", kind, id)
	}
	return match, nil
}

// containersOf lists a sandbox's containers.
func (c *CRI) containersOf(s *sandbox) (list []*container) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, k := range c.containers {
		if k.sb == s {
			list = append(list, k)
		}
	}
	return list
}

// layersInUse names the image layers that containers stand on.
func (c *CRI) layersInUse() map[string]bool {
	layers := map[string]bool{}
	specs, _ := filepath.Glob(filepath.Join(c.podsDir(), "*", podparent.ContainersDir, "*", podparent.SpecName))
	for _, path := range specs {
		var spec podparent.ContainerSpec
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &spec) == nil {
			for _, layer := range spec.Root.Layers {
				layers[layer] = true
			}
			for _, m := range spec.Mounts {
				if m.Image == nil {
					continue
				}
				for _, layer := range m.Image.Layers {
					layers[layer] = true
				}
			}
		}
	}
	return layers
}

// grpcError gives an error the code by which clients tell kinds apart.
func grpcError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, images.ErrNotFound) {
		return status.Error(codes.NotFound, err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}
