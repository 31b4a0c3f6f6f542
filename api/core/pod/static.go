package pod

import v1 "k8s.io/api/core/v1"

// IsStaticPod reports whether a kubelet runs the pod from a source of its own
// (a manifest file) rather than from the apiserver.
func IsStaticPod(pod *v1.Pod) bool {
	source, ok := pod.Annotations["kubernetes.io/config.source"]
	return ok && source != "api"
}

// IsMirrorPod reports whether the object is the apiserver's picture of a static pod.
func IsMirrorPod(pod *v1.Pod) bool {
	_, ok := pod.Annotations[v1.MirrorPodAnnotationKey]
	return ok
}
