// Package userns gives each pod with hostUsers: false users of its own (KEP-127): a
// range of 65,536 numbers of the node, or of as many as IDsPerPod says, that no other pod has, under which the
// pod's 0 to 65,535 run.
//
//	pod ──GetOrCreateUserNamespaceMappings──► DIR/pods/<uid>/userns ──► CRI: RunPodSandbox, mounts
//	                                                │
//	                          its directory goes ───┴──Release──► the range is free
//
// Invariants: two pods never have a number in common, also across restarts of the
// kubelet: what is given is on disk before it is used. The first range, to which
// the node's own root belongs, is never given.
//
// Read first: Manager.GetOrCreateUserNamespaceMappings.
//
// In Kubernetes: pkg/kubelet/userns. Left out: ranges from /etc/subuid for a
// kubelet user (getsubids). Without the file, a restarted kubelet could give a range to a second pod while the first runs.
package userns

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// length is how many numbers a pod has by default. All ranges begin at multiples of it.
const length = 65536

// mappingsFile lies in a pod's directory.
const mappingsFile = "userns"

// Config of the manager. All fields are needed but IDsPerPod.
type Config struct {
	PodsDir string
	// IDsPerPod is how many numbers a pod has, a multiple of 65536; default 65536.
	IDsPerPod uint32
	// MaxPods is how many ranges there are: the node runs no more pods.
	MaxPods int
	// Supported says whether the runtime's handler makes user namespaces.
	Supported func(handler string) bool
}

// Manager gives ranges to pods.
type Manager struct {
	Config

	mu     sync.Mutex
	loaded bool
	usedBy map[uint32]types.UID // by the first number of the range
}

// NewManager makes a manager. It reads what is on disk when it is first asked.
func NewManager(cfg Config) *Manager {
	cfg.IDsPerPod = cmp.Or(cfg.IDsPerPod, length)
	return &Manager{Config: cfg, usedBy: map[uint32]types.UID{}}
}

// mappings is what the file holds.
type mappings struct {
	UIDs []mapping `json:"uidMappings"`
	GIDs []mapping `json:"gidMappings"`
}

type mapping struct {
	HostID      uint32 `json:"hostId"`
	ContainerID uint32 `json:"containerId"`
	Length      uint32 `json:"length"`
}

// GetOrCreateUserNamespaceMappings returns the pod's range; the node's own users if
// it does not ask for others. A pod keeps its range for its life.
func (m *Manager) GetOrCreateUserNamespaceMappings(pod *v1.Pod, handler string) (*runtimeapi.UserNamespace, error) {
	if pod.Spec.HostUsers == nil || *pod.Spec.HostUsers {
		return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE}, nil
	}
	if !m.Supported(handler) {
		if handler != "" {
			return nil, fmt.Errorf("can't set `spec.hostUsers: false`, RuntimeClass handler %q does not support user namespaces", handler)
		}
		return nil, errors.New("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.load(); err != nil {
		return nil, err
	}
	first, err := m.read(pod.UID)
	if errors.Is(err, fs.ErrNotExist) {
		first, err = m.allocate(pod.UID)
	}
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	ids := []*runtimeapi.IDMapping{{HostId: first, ContainerId: 0, Length: m.IDsPerPod}}
	return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}, nil
}

// load learns, once, what a former kubelet has given. A file that cannot be read
// stops everything: its range is not known, and must not be given again.
func (m *Manager) load() error {
	if m.loaded {
		return nil
	}
	entries, err := os.ReadDir(m.PodsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		uid := types.UID(entry.Name())
		first, err := m.read(uid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("user namespace of pod %s: %w", uid, err)
		}
		m.usedBy[first] = uid
	}
	m.loaded = true
	return nil
}

func (m *Manager) file(uid types.UID) string {
	return filepath.Join(m.PodsDir, string(uid), mappingsFile)
}

// read returns the first number of a pod's range.
func (m *Manager) read(uid types.UID) (first uint32, err error) {
	data, err := os.ReadFile(m.file(uid))
	if err != nil {
		return 0, err
	}
	var found mappings
	if err := json.Unmarshal(data, &found); err != nil {
		return 0, fmt.Errorf("invalid user namespace mappings file: %w", err)
	}
	if len(found.UIDs) != 1 || len(found.GIDs) != 1 || found.UIDs[0] != found.GIDs[0] {
		return 0, errors.New("invalid user namespace configuration: GID and UID mapping should be identical")
	}
	if ids := found.UIDs[0]; ids.ContainerID != 0 || ids.Length != m.IDsPerPod || ids.HostID%length != 0 || ids.HostID == 0 {
		return 0, fmt.Errorf("invalid user namespace configuration: %d numbers from %d on", ids.Length, ids.HostID)
	}
	return found.UIDs[0].HostID, nil
}

// allocate finds a free range, and writes it down before anyone hears of it.
func (m *Manager) allocate(uid types.UID) (first uint32, err error) {
	for slot := 1; slot <= m.MaxPods; slot++ {
		first := uint32(slot) * m.IDsPerPod
		if _, used := m.usedBy[first]; used {
			continue
		}
		ids := []mapping{{HostID: first, Length: m.IDsPerPod}}
		data, err := json.Marshal(mappings{UIDs: ids, GIDs: ids})
		if err != nil {
			return 0, err
		}
		if err := write(m.file(uid), data); err != nil {
			return 0, err
		}
		m.usedBy[first] = uid
		return first, nil
	}
	return 0, errors.New("could not find an empty slot to allocate a user namespace")
}

// write makes a file that is there as a whole, also after a loss of power.
func write(path string, data []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Release frees the range of a pod that is gone, with its directory, from the node.
func (m *Manager) Release(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for first, by := range m.usedBy {
		if by == uid {
			delete(m.usedBy, first)
		}
	}
	os.Remove(m.file(uid))
}
