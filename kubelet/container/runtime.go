// Package container holds the nouns that the kubelet's parts share when they
// speak of what really runs: Pod, Container, PodStatus, ContainerID. They are
// the runtime's view; v1.Pod is the wish. Nothing here calls anything.
//
// In Kubernetes: pkg/kubelet/container. Its Runtime interface is left out (there
// is one runtime, kuberuntime), and its status cache: here the pod worker asks
// the runtime about its one pod before each sync, so that a sync never starts
// from a stale view.
package container

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// State is where a container is in its one-way life: created, running, exited.
type State string

const (
	StateCreated State = "created"
	StateRunning State = "running"
	StateExited  State = "exited"
	StateUnknown State = "unknown"
)

// ToState translates the runtime's state.
func ToState(state runtimeapi.ContainerState) State {
	switch state {
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		return StateCreated
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return StateRunning
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		return StateExited
	}
	return StateUnknown
}

// ContainerID is "type://id" in a pod's status; the runtime knows the id alone.
type ContainerID struct {
	Type string
	ID   string
}

func (c ContainerID) String() string {
	if c.ID == "" {
		return ""
	}
	return c.Type + "://" + c.ID
}

// ParseContainerID reads what String wrote.
func ParseContainerID(s string) ContainerID {
	kind, id, found := strings.Cut(s, "://")
	if !found {
		return ContainerID{ID: s}
	}
	return ContainerID{Type: kind, ID: id}
}

// Container is one line of the runtime's list of containers, or of sandboxes.
type Container struct {
	ID           ContainerID
	Name         string
	State        State
	Hash         uint64
	PodSandboxID string
	CreatedAt    time.Time
}

// Pod is what the runtime has of one pod.
type Pod struct {
	ID         types.UID
	Name       string
	Namespace  string
	Containers []*Container
	Sandboxes  []*Container
}

// IsRunning tells whether anything of the pod is alive.
func (p *Pod) IsRunning() bool {
	for _, c := range append(append([]*Container{}, p.Containers...), p.Sandboxes...) {
		if c.State == StateRunning {
			return true
		}
	}
	return false
}

// ToAPIPod makes the little of a v1.Pod that killing needs, for a pod whose
// wish is gone.
func (p *Pod) ToAPIPod() *v1.Pod {
	pod := &v1.Pod{}
	pod.UID, pod.Name, pod.Namespace = p.ID, p.Name, p.Namespace
	seen := map[string]bool{}
	for _, c := range p.Containers {
		if !seen[c.Name] {
			seen[c.Name] = true
			pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: c.Name})
		}
	}
	return pod
}

// Status is all the runtime knows of one container.
type Status struct {
	ID           ContainerID
	Name         string
	State        State
	PodSandboxID string
	CreatedAt    time.Time
	StartedAt    time.Time
	FinishedAt   time.Time
	ExitCode     int
	// Image is the name the container was made from; ImageRef identifies its content.
	Image        string
	ImageRef     string
	Hash         uint64
	RestartCount int
	Reason       string
	Message      string
	User         *runtimeapi.ContainerUser
	Mounts       []*runtimeapi.Mount
	LogPath      string
	// Resources are the limits in force, as the runtime tells them; nil if it does not.
	Resources *runtimeapi.LinuxContainerResources
	// MemoryRequest is what the container had, in bytes, when it was made; nil if it is not written on it.
	MemoryRequest *int64
	StopSignal    runtimeapi.Signal
}

// PodStatus is the runtime's view of one pod at one moment.
//
// Invariant: ContainerStatuses and SandboxStatuses are sorted newest first, so
// that the first match by name is the current one.
type PodStatus struct {
	ID                types.UID
	Name              string
	Namespace         string
	IPs               []string
	ContainerStatuses []*Status
	SandboxStatuses   []*runtimeapi.PodSandboxStatus
}

// FindContainerStatusByName returns the newest container of that name, or nil.
func (s *PodStatus) FindContainerStatusByName(name string) *Status {
	for _, status := range s.ContainerStatuses {
		if status.Name == name {
			return status
		}
	}
	return nil
}

// RunningContainerStatuses returns the containers that are alive.
func (s *PodStatus) RunningContainerStatuses() []*Status {
	var running []*Status
	for _, status := range s.ContainerStatuses {
		if status.State == StateRunning {
			running = append(running, status)
		}
	}
	return running
}

// RunningPod is the part of s that can still be killed.
func (s *PodStatus) RunningPod() *Pod {
	pod := &Pod{ID: s.ID, Name: s.Name, Namespace: s.Namespace}
	for _, c := range s.ContainerStatuses {
		if c.State == StateRunning || c.State == StateUnknown {
			pod.Containers = append(pod.Containers, &Container{ID: c.ID, Name: c.Name, State: c.State, Hash: c.Hash, PodSandboxID: c.PodSandboxID})
		}
	}
	for _, sandbox := range s.SandboxStatuses {
		state := StateExited
		if sandbox.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			state = StateRunning
		}
		pod.Sandboxes = append(pod.Sandboxes, &Container{ID: ContainerID{ID: sandbox.Id}, State: state})
	}
	return pod
}

// Lives: the pod has a container that runs, or a sandbox that is ready for one.
func (s *PodStatus) Lives() bool {
	pod := s.RunningPod()
	return len(pod.Containers) > 0 || slices.ContainsFunc(pod.Sandboxes, func(c *Container) bool { return c.State == StateRunning })
}

// HashContainer identifies the parts of a container whose change means that it
// must be started anew. A restarted kubelet computes the same number and so
// leaves running containers alone (R71); any other field would make it restart
// everything after an upgrade that adds a default.
func HashContainer(container *v1.Container) uint64 {
	picked, err := json.Marshal(map[string]string{"name": container.Name, "image": container.Image})
	if err != nil {
		panic(fmt.Sprintf("hashing container %s: %v", container.Name, err))
	}
	hash := fnv.New32a()
	hash.Write(picked)
	return uint64(hash.Sum32())
}

// IsRestartableInitContainer tells a sidecar from an ordinary init container (KEP-753).
func IsRestartableInitContainer(container *v1.Container) bool {
	return container.RestartPolicy != nil && *container.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// GetContainerSpec finds a container of any sort by its name.
func GetContainerSpec(pod *v1.Pod, name string) *v1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i]
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return (*v1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		}
	}
	return nil
}

// GenerateContainerRef points an event at one container of a pod.
func GenerateContainerRef(pod *v1.Pod, container *v1.Container) *v1.ObjectReference {
	ref := GeneratePodRef(pod)
	ref.FieldPath = fieldPath(pod, container.Name)
	return ref
}

// GeneratePodRef points an event at a pod.
func GeneratePodRef(pod *v1.Pod) *v1.ObjectReference {
	return &v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1",
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
}

func fieldPath(pod *v1.Pod, name string) string {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return "spec.initContainers{" + name + "}"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return "spec.ephemeralContainers{" + name + "}"
		}
	}
	return "spec.containers{" + name + "}"
}

// RunContainerInput is what the runtime manager knows when a container is to be made.
type RunContainerInput struct {
	PodIPs []string
	// ImageVolumes are the images that are the container's volumes, pulled, by the volumes' names.
	ImageVolumes map[string]*runtimeapi.ImageSpec
}

// RunContainerOptions is what the kubelet, not the pod spec, contributes to a container.
type RunContainerOptions struct {
	Envs     []*runtimeapi.KeyValue
	Mounts   []*runtimeapi.Mount
	Devices  []*runtimeapi.Device
	Hostname string
}

// ImageSpec says which image, as the pod names it and as the runtime knows it.
type ImageSpec struct {
	Image string
	Ref   string
}
