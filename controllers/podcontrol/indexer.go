package podcontrol

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// PodControllerIndex finds a controller's pods by its UID, and the orphans of a
// namespace, without walking over all pods.
const PodControllerIndex = "podController"

func orphansOf(namespace string) string { return "orphans of " + namespace }

// AddPodControllerIndexer adds the index to the pod informer, once.
func AddPodControllerIndexer(informer cache.SharedIndexInformer) error {
	if _, exists := informer.GetIndexer().GetIndexers()[PodControllerIndex]; exists {
		return nil
	}
	return informer.AddIndexers(cache.Indexers{PodControllerIndex: IndexByController})
}

// IndexByController is the index function of PodControllerIndex.
func IndexByController(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	if ref := metav1.GetControllerOf(pod); ref != nil {
		return []string{string(ref.UID)}, nil
	}
	return []string{orphansOf(pod.Namespace)}, nil
}

// FilterPodsByOwner returns the owner's pods and, when orphans is set, those of
// its namespace that nobody owns.
func FilterPodsByOwner(indexer cache.Indexer, owner metav1.Object, orphans bool) ([]*corev1.Pod, error) {
	values := []string{string(owner.GetUID())}
	if orphans {
		values = append(values, orphansOf(owner.GetNamespace()))
	}
	var pods []*corev1.Pod
	for _, value := range values {
		objects, err := indexer.ByIndex(PodControllerIndex, value)
		if err != nil {
			return nil, err
		}
		for _, object := range objects {
			if pod, ok := object.(*corev1.Pod); ok {
				pods = append(pods, pod)
			}
		}
	}
	return pods, nil
}

// PodKey names a pod in expectations. The UID tells it from its successor of the
// same name.
func PodKey(pod *corev1.Pod) string {
	return pod.Namespace + "/" + pod.Name + "/" + string(pod.UID)
}

// NodeNameIndex finds the pods of a node.
const NodeNameIndex = "spec.nodeName"

// AddPodNodeNameIndexer adds the index to the pod informer, once.
func AddPodNodeNameIndexer(informer cache.SharedIndexInformer) error {
	if _, exists := informer.GetIndexer().GetIndexers()[NodeNameIndex]; exists {
		return nil
	}
	return informer.AddIndexers(cache.Indexers{NodeNameIndex: func(object any) ([]string, error) {
		pod, ok := object.(*corev1.Pod)
		if !ok || pod.Spec.NodeName == "" {
			return nil, nil
		}
		return []string{pod.Spec.NodeName}, nil
	}})
}

// PodsOnNode returns the node's pods, as the cache has them.
func PodsOnNode(indexer cache.Indexer, node string) ([]*corev1.Pod, error) {
	objects, err := indexer.ByIndex(NodeNameIndex, node)
	if err != nil {
		return nil, err
	}
	pods := make([]*corev1.Pod, 0, len(objects))
	for _, object := range objects {
		if pod, ok := object.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}
