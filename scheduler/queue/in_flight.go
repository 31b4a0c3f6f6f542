package queue

import (
	"container/list"

	"k8s.io/apimachinery/pkg/types"

	"hyperkube/scheduler/framework"
)

// clusterEvent is an event that came while pods were in flight.
type clusterEvent struct {
	event          framework.ClusterEvent
	oldObj, newObj any
}

// inFlight is the list described in doc.go: pods in the order they were popped,
// and between them the events, in the order they came. Finding the events of a pod
// and dropping old ones are steps along the list; nothing is searched.
type inFlight struct {
	pods map[types.UID]*list.Element
	list *list.List // of types.UID or *clusterEvent
}

func newInFlight() *inFlight {
	return &inFlight{pods: map[types.UID]*list.Element{}, list: list.New()}
}

func (f *inFlight) len() int { return len(f.pods) }

func (f *inFlight) has(uid types.UID) bool {
	_, ok := f.pods[uid]
	return ok
}

func (f *inFlight) add(uid types.UID) { f.pods[uid] = f.list.PushBack(uid) }

// addEvent keeps an event, if any pod could ask for it.
func (f *inFlight) addEvent(event framework.ClusterEvent, oldObj, newObj any) {
	if len(f.pods) > 0 {
		f.list.PushBack(&clusterEvent{event, oldObj, newObj})
	}
}

// eventsSince returns the events that came after the pod was popped.
func (f *inFlight) eventsSince(uid types.UID) []*clusterEvent {
	element, ok := f.pods[uid]
	if !ok {
		return nil
	}
	var events []*clusterEvent
	for e := element.Next(); e != nil; e = e.Next() {
		if event, ok := e.Value.(*clusterEvent); ok {
			events = append(events, event)
		}
	}
	return events
}

// done removes the pod, and the events that are now older than all pods.
func (f *inFlight) done(uid types.UID) {
	element, ok := f.pods[uid]
	if !ok {
		return
	}
	delete(f.pods, uid)
	f.list.Remove(element)
	for e := f.list.Front(); e != nil; e = f.list.Front() {
		if _, isPod := e.Value.(types.UID); isPod {
			return
		}
		f.list.Remove(e)
	}
}
