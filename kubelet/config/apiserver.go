package config

import (
	"context"
	"sync"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	kubepod "hyperkube/kubelet/pod"
)

// RunApiserver watches the pods bound to this node until ctx ends. The apiserver
// calls nobody: the kubelet opens this watch, and the field selector is why it
// hears of its own pods only (S0-18, R26).
func RunApiserver(ctx context.Context, client kubernetes.Interface, node string, mux *Mux) {
	selector := fields.OneTermEqualSelector("spec.nodeName", node).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return client.CoreV1().Pods(metav1.NamespaceAll).Watch(ctx, o)
		},
	}
	store := &apiStore{ctx: ctx, mux: mux, pods: map[types.UID]*v1.Pod{}}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, client), &v1.Pod{}, store, cache.ReflectorOptions{Name: "kubelet pods of " + node}).RunWithContext(ctx)
}

// apiStore turns the single changes of a watch into the whole list that the mux compares.
type apiStore struct {
	ctx  context.Context
	mux  *Mux
	mu   sync.Mutex
	pods map[types.UID]*v1.Pod
}

func (s *apiStore) Add(object any) error {
	pod := object.(*v1.Pod)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[pod.UID] = fromAPI(pod)
	s.send()
	return nil
}

func (s *apiStore) Update(object any) error { return s.Add(object) }

func (s *apiStore) Delete(object any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, object.(*v1.Pod).UID)
	s.send()
	return nil
}

func (s *apiStore) Replace(list []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods = map[types.UID]*v1.Pod{}
	for _, object := range list {
		pod := object.(*v1.Pod)
		s.pods[pod.UID] = fromAPI(pod)
	}
	s.send()
	return nil
}

func (s *apiStore) Resync() error { return nil }

func (s *apiStore) send() {
	list := make([]*v1.Pod, 0, len(s.pods))
	for _, pod := range s.pods {
		list = append(list, pod)
	}
	s.mux.Set(s.ctx, ApiserverSource, list)
}

// fromAPI marks where the pod comes from. A mirror keeps the mark of its static
// pod, which it is recognized by.
func fromAPI(pod *v1.Pod) *v1.Pod {
	if kubepod.IsMirror(pod) {
		return pod
	}
	marked := *pod // the reflector's object is shared: only the map is copied and changed
	marked.Annotations = map[string]string{}
	for k, v := range pod.Annotations {
		marked.Annotations[k] = v
	}
	marked.Annotations[kubepod.ConfigSourceAnnotation] = kubepod.APISource
	return &marked
}
