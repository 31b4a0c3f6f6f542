package controllers

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// order is what has been seen of a StatefulSet of policy OrderedReady. It holds two rules
// against the events, exactly: whatever the controller has decided, it decided by what the
// pods were at some moment, and sees these moments in the order in which they are seen here.
//
//  1. A pod comes only if, at some moment since the last of its ordinal has gone, all of
//     lower ordinals were ready.
//  2. The controller deletes no pod while one of a higher ordinal, of the same revision, goes
//     by its doing. (Of another revision it may: it has not heard yet of that deletion when
//     the template changes back.)
type order struct {
	seen map[types.UID]bool
	// may are the ordinals of which a pod may come.
	may map[int]bool
	// gone are the pods whose deletion was seen; going those of them that the controller deleted.
	gone, going map[types.UID]bool
	// excused are pods that somebody else deletes.
	excused map[types.UID]bool
}

// mostOrdinals is more than the model scales to.
const mostOrdinals = 10

// orderly says that the set is OrderedReady from now on; unruly that it is deleted, and its
// pods go as they like.
func (w *world) orderly(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[name] = &order{seen: map[types.UID]bool{}, may: map[int]bool{0: true},
		gone: map[types.UID]bool{}, going: map[types.UID]bool{}, excused: map[types.UID]bool{}}
}

func (w *world) unruly(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.orders, name)
}

// excuse says that the pod is about to be deleted by the model.
func (w *world) excuse(pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.orders[pod.Labels[modelLabel]]; o != nil {
		o.excused[pod.UID] = true
	}
}

func ordinalOf(pod *corev1.Pod) int {
	ordinal, err := strconv.Atoi(pod.Name[strings.LastIndexByte(pod.Name, '-')+1:])
	if err != nil {
		return -1
	}
	return ordinal
}

// observeOrder is called with the lock held, when w.pods has the pod as it is now.
func (w *world) observeOrder(kind watch.EventType, pod *corev1.Pod) {
	name := pod.Labels[modelLabel]
	o := w.orders[name]
	if o == nil {
		return
	}
	at := [mostOrdinals]*corev1.Pod{}
	for _, p := range w.pods {
		if i := ordinalOf(p); p.Labels[modelLabel] == name && i >= 0 && i < mostOrdinals {
			at[i] = p
		}
	}
	i := ordinalOf(pod)
	if !o.seen[pod.UID] {
		o.seen[pod.UID] = true
		if !o.may[i] {
			w.violations = append(w.violations, fmt.Sprintf("%s came at %s before those below it were ready", pod.Name, pod.ResourceVersion))
		}
		o.may[i] = false
	}
	if goes := kind == watch.Deleted || pod.DeletionTimestamp != nil; goes && !o.gone[pod.UID] {
		o.gone[pod.UID] = true
		if !o.excused[pod.UID] && byTheController(pod) {
			o.going[pod.UID] = true
			for _, higher := range at[i+1:] {
				if higher != nil && o.going[higher.UID] && higher.Labels[appsv1.StatefulSetRevisionLabel] == pod.Labels[appsv1.StatefulSetRevisionLabel] {
					w.violations = append(w.violations, fmt.Sprintf("%s was deleted at %s while %s was going", pod.Name, pod.ResourceVersion, higher.Name))
				}
			}
		}
	}
	for n := 0; n < mostOrdinals; n++ {
		if at[n] == nil {
			o.may[n] = true
		}
		if at[n] == nil || !ready(at[n]) {
			break
		}
	}
}

// byTheController: neither did it end by itself, nor does a taint drive it away.
func byTheController(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget {
			return false
		}
	}
	return pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded
}
