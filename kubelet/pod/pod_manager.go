// Package pod keeps the pods that this node should run, as their sources last
// said, and knows which mirror pod in the API stands for which static pod.
//
// A static pod comes from a file or a URL; the API cannot delete it. So that
// kubectl can see it, the kubelet writes a mirror pod of the same name to the API
// and carries its status there.
//
// In Kubernetes: pkg/kubelet/pod.
package pod

import (
	"context"
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Annotations that say where a pod comes from.
const (
	ConfigSourceAnnotation    = "kubernetes.io/config.source"
	ConfigMirrorAnnotation    = v1.MirrorPodAnnotationKey
	ConfigFirstSeenAnnotation = "kubernetes.io/config.seen"
	ConfigHashAnnotation      = "kubernetes.io/config.hash"
	// APISource is the value of ConfigSourceAnnotation for pods of the API.
	APISource = "api"
)

// IsStatic tells whether a pod comes from elsewhere than the API.
func IsStatic(pod *v1.Pod) bool {
	source, ok := pod.Annotations[ConfigSourceAnnotation]
	return ok && source != APISource
}

// IsMirror tells whether a pod of the API stands for a static one.
func IsMirror(pod *v1.Pod) bool {
	_, ok := pod.Annotations[ConfigMirrorAnnotation]
	return ok
}

// FullName names a pod across sources: name_namespace.
func FullName(pod *v1.Pod) string { return pod.Name + "_" + pod.Namespace }

// Manager holds the pods. It is safe for concurrent use; what it returns must
// not be changed.
type Manager struct {
	mu      sync.RWMutex
	pods    map[types.UID]*v1.Pod
	byName  map[string]*v1.Pod
	mirrors map[string]*v1.Pod // by full name
}

// NewManager makes an empty one.
func NewManager() *Manager {
	return &Manager{pods: map[types.UID]*v1.Pod{}, byName: map[string]*v1.Pod{}, mirrors: map[string]*v1.Pod{}}
}

// Set adds or replaces a pod.
func (m *Manager) Set(pod *v1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if IsMirror(pod) {
		m.mirrors[FullName(pod)] = pod
		return
	}
	m.pods[pod.UID] = pod
	m.byName[FullName(pod)] = pod
}

// Remove forgets a pod.
func (m *Manager) Remove(pod *v1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := FullName(pod)
	if IsMirror(pod) {
		if current := m.mirrors[name]; current != nil && current.UID == pod.UID {
			delete(m.mirrors, name)
		}
		return
	}
	delete(m.pods, pod.UID)
	if current := m.byName[name]; current != nil && current.UID == pod.UID {
		delete(m.byName, name)
	}
}

// GetPods returns all pods but mirrors.
func (m *Manager) GetPods() []*v1.Pod {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := make([]*v1.Pod, 0, len(m.pods))
	for _, pod := range m.pods {
		list = append(list, pod)
	}
	return list
}

// GetPodByUID finds a pod; not a mirror.
func (m *Manager) GetPodByUID(uid types.UID) (*v1.Pod, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	pod, ok := m.pods[uid]
	return pod, ok
}

// GetPodByName finds a pod; not a mirror.
func (m *Manager) GetPodByName(namespace, name string) (*v1.Pod, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	pod, ok := m.byName[name+"_"+namespace]
	return pod, ok
}

// MirrorOf returns the mirror of a static pod, or nil.
func (m *Manager) MirrorOf(pod *v1.Pod) *v1.Pod {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mirrors[FullName(pod)]
}

// StaticOf returns the static pod that a mirror stands for, or nil.
func (m *Manager) StaticOf(mirror *v1.Pod) *v1.Pod {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.byName[FullName(mirror)]
}

// APIPod is the pod of the API that carries this pod's status.
func (m *Manager) APIPod(pod *v1.Pod) *v1.Pod {
	if IsStatic(pod) {
		return m.MirrorOf(pod)
	}
	return pod
}

// OrphanedMirrors are mirrors whose static pod is gone.
func (m *Manager) OrphanedMirrors() []*v1.Pod {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []*v1.Pod
	for name, mirror := range m.mirrors {
		if m.byName[name] == nil {
			list = append(list, mirror)
		}
	}
	return list
}

// IsMirrorOf tells whether mirror is of this version of the static pod.
func IsMirrorOf(mirror, pod *v1.Pod) bool {
	return mirror.Name == pod.Name && mirror.Namespace == pod.Namespace &&
		mirror.Annotations[ConfigMirrorAnnotation] == pod.Annotations[ConfigHashAnnotation]
}

// CreateMirror writes the mirror of a static pod to the API.
func CreateMirror(ctx context.Context, client kubernetes.Interface, pod *v1.Pod, node *v1.Node) error {
	mirror := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, Annotations: map[string]string{}},
		Spec:       *pod.Spec.DeepCopy(),
	}
	for k, v := range pod.Annotations {
		mirror.Annotations[k] = v
	}
	mirror.Annotations[ConfigMirrorAnnotation] = pod.Annotations[ConfigHashAnnotation]
	if node != nil {
		controller := true
		mirror.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: &controller}}
	}
	_, err := client.CoreV1().Pods(pod.Namespace).Create(ctx, mirror, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // of a former life; the watch brings it
	}
	if err != nil {
		return fmt.Errorf("creating the mirror pod: %w", err)
	}
	return nil
}

// DeleteMirror removes a mirror from the API.
func DeleteMirror(ctx context.Context, client kubernetes.Interface, mirror *v1.Pod) error {
	now := int64(0)
	err := client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &mirror.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
