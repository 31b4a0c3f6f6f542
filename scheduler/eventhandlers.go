package scheduler

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	clientcache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"hyperkube/client/informers"
	"hyperkube/scheduler/framework"
)

// notTerminal leaves finished pods to others: they take no place on a node. When a
// pod finishes, the watch reports it as deleted.
var notTerminal = fmt.Sprintf("status.phase!=%v,status.phase!=%v", v1.PodSucceeded, v1.PodFailed)

// newInformerFactory makes the informers' factory. Its pod informer is the filtered
// one for plugins as well.
func newInformerFactory(client kubernetes.Interface) informers.SharedInformerFactory {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(dropManagedFields))
	factory.InformerFor(&v1.Pod{}, func(client kubernetes.Interface, resync time.Duration) clientcache.SharedIndexInformer {
		informer := coreinformers.NewFilteredPodInformer(client, metav1.NamespaceAll, resync, clientcache.Indexers{},
			func(o *metav1.ListOptions) { o.FieldSelector = notTerminal })
		_ = informer.SetTransform(dropManagedFields) // fails only after a start
		return informer
	})
	return factory
}

// dropManagedFields saves about half of an object's memory; nothing here reads them.
func dropManagedFields(obj any) (any, error) {
	if accessor, ok := obj.(metav1.Object); ok && accessor.GetManagedFields() != nil {
		accessor.SetManagedFields(nil)
	}
	return obj, nil
}

// addAllEventHandlers connects the informers with cache and queue: pods and nodes
// always, other kinds when a plugin has registered events of them. The returned
// functions tell when each handler has seen what was there at the start.
func (sched *Scheduler) addAllEventHandlers(ctx context.Context) ([]clientcache.InformerSynced, error) {
	logger := klog.FromContext(ctx)
	var synced []clientcache.InformerSynced
	add := func(informer clientcache.SharedIndexInformer, handler clientcache.ResourceEventHandler) error {
		registration, err := informer.AddEventHandler(handler)
		if err == nil {
			synced = append(synced, registration.HasSynced)
		}
		return err
	}
	err := add(sched.informers.Core().V1().Nodes().Informer(), clientcache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { sched.addNodeToCache(logger, obj.(*v1.Node)) },
		UpdateFunc: func(old, obj any) { sched.updateNodeInCache(logger, old.(*v1.Node), obj.(*v1.Node)) },
		DeleteFunc: func(obj any) { sched.deleteNodeFromCache(logger, obj) },
	})
	if err != nil {
		return nil, err
	}
	err = add(sched.informers.Core().V1().Pods().Informer(), clientcache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { sched.addPod(logger, obj.(*v1.Pod)) },
		UpdateFunc: func(old, obj any) { sched.updatePod(logger, old.(*v1.Pod), obj.(*v1.Pod)) },
		DeleteFunc: func(obj any) { sched.deletePod(logger, obj) },
	})
	if err != nil {
		return nil, err
	}
	wanted, err := sched.resourcesOfPlugins(ctx)
	if err != nil {
		return nil, err
	}
	for resource, informer := range otherInformers(sched.informers) {
		if wanted[resource] {
			if err := add(informer(), sched.moveOnAnyChange(resource)); err != nil {
				return nil, err
			}
		}
	}
	return synced, nil
}

// resourcesOfPlugins are the kinds that some plugin has registered events of.
func (sched *Scheduler) resourcesOfPlugins(ctx context.Context) (map[framework.EventResource]bool, error) {
	wanted := map[framework.EventResource]bool{}
	for _, fw := range sched.frameworks {
		hints, err := fw.EventsToRegister(ctx)
		if err != nil {
			return nil, err
		}
		for _, registered := range hints {
			for _, r := range registered {
				wanted[r.Event.Resource] = true
			}
		}
	}
	return wanted, nil
}

// otherInformers are the kinds besides pods and nodes that plugins may register for.
func otherInformers(f informers.SharedInformerFactory) map[framework.EventResource]func() clientcache.SharedIndexInformer {
	return map[framework.EventResource]func() clientcache.SharedIndexInformer{
		framework.PersistentVolume:      f.Core().V1().PersistentVolumes().Informer,
		framework.PersistentVolumeClaim: f.Core().V1().PersistentVolumeClaims().Informer,
		framework.Namespace:             f.Core().V1().Namespaces().Informer,
		framework.StorageClass:          f.Storage().V1().StorageClasses().Informer,
		framework.CSINode:               f.Storage().V1().CSINodes().Informer,
		framework.CSIDriver:             f.Storage().V1().CSIDrivers().Informer,
		framework.CSIStorageCapacity:    f.Storage().V1().CSIStorageCapacities().Informer,
		framework.VolumeAttachment:      f.Storage().V1().VolumeAttachments().Informer,
	}
}

// moveOnAnyChange puts every change of a kind to the queueing hints.
func (sched *Scheduler) moveOnAnyChange(resource framework.EventResource) clientcache.ResourceEventHandler {
	move := func(action framework.ActionType, name string, old, obj any) {
		event := framework.ClusterEvent{Resource: resource, ActionType: action, Label: string(resource) + name}
		sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(event, old, obj, nil)
	}
	return clientcache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { move(framework.Add, "Add", nil, obj) },
		UpdateFunc: func(old, obj any) { move(framework.Update, "Update", old, obj) },
		DeleteFunc: func(obj any) { move(framework.Delete, "Delete", lastKnown(obj), nil) },
	}
}

// lastKnown unwraps what an informer delivers for a deletion it did not see itself.
func lastKnown(obj any) any {
	if tombstone, ok := obj.(clientcache.DeletedFinalStateUnknown); ok {
		return tombstone.Obj
	}
	return obj
}

// Nodes.

func (sched *Scheduler) addNodeToCache(logger klog.Logger, node *v1.Node) {
	logger.V(3).Info("Add event for node", "node", klog.KObj(node))
	sched.Cache.AddNode(node)
	sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(framework.EventNodeAdd, nil, node, nil)
}

func (sched *Scheduler) updateNodeInCache(logger klog.Logger, oldNode, newNode *v1.Node) {
	sched.Cache.UpdateNode(newNode)
	for _, event := range framework.NodeSchedulingPropertiesChange(newNode, oldNode) {
		logger.V(4).Info("Node changed", "node", klog.KObj(newNode), "event", event.Label)
		sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(event, oldNode, newNode, nil)
	}
}

func (sched *Scheduler) deleteNodeFromCache(logger klog.Logger, obj any) {
	node, ok := lastKnown(obj).(*v1.Node)
	if !ok {
		return
	}
	logger.V(3).Info("Delete event for node", "node", klog.KObj(node))
	sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(framework.EventNodeDelete, node, nil, nil)
	if err := sched.Cache.RemoveNode(node); err != nil {
		logger.Error(err, "Removing a node from the cache", "node", klog.KObj(node))
	}
}

// Pods. One with a node belongs to the cache, one without, if it is ours, to the
// queue; being bound is the step from one to the other.

func assigned(pod *v1.Pod) bool { return pod.Spec.NodeName != "" }

func (sched *Scheduler) responsibleForPod(pod *v1.Pod) bool {
	return sched.frameworks[pod.Spec.SchedulerName] != nil
}

func (sched *Scheduler) addPod(logger klog.Logger, pod *v1.Pod) {
	switch {
	case assigned(pod):
		sched.addAssignedPodToCache(logger, pod)
	case sched.responsibleForPod(pod):
		logger.V(3).Info("Add event for unscheduled pod", "pod", klog.KObj(pod))
		sched.SchedulingQueue.Add(pod)
		sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(framework.EventUnscheduledPodAdd, nil, pod, nil)
	}
}

func (sched *Scheduler) updatePod(logger klog.Logger, oldPod, newPod *v1.Pod) {
	switch {
	case oldPod.UID != newPod.UID:
		// A deletion and a new pod of the same name, seen as one event.
		sched.deletePod(logger, oldPod)
		sched.addPod(logger, newPod)
	case assigned(oldPod):
		sched.updateAssignedPodInCache(logger, oldPod, newPod)
	case assigned(newPod):
		sched.SchedulingQueue.Delete(oldPod)
		sched.addAssignedPodToCache(logger, newPod)
	case sched.responsibleForPod(newPod) && oldPod.ResourceVersion != newPod.ResourceVersion:
		sched.updatePodInSchedulingQueue(oldPod, newPod)
	}
}

func (sched *Scheduler) deletePod(logger klog.Logger, obj any) {
	pod, ok := lastKnown(obj).(*v1.Pod)
	if !ok {
		return
	}
	switch {
	case assigned(pod):
		if err := sched.Cache.RemovePod(pod); err != nil {
			logger.Error(err, "Removing a pod from the cache", "pod", klog.KObj(pod))
		}
		sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(framework.EventAssignedPodDelete, pod, nil, nil)
	case sched.responsibleForPod(pod):
		sched.SchedulingQueue.Delete(pod)
		sched.Cache.UnboundPodGone(pod)
		// If Permit holds it, its place is free from now on.
		sched.frameworkForPod(pod).RejectWaitingPod(pod.UID)
		sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(framework.EventUnscheduledPodDelete, pod, nil, nil)
	}
}

func (sched *Scheduler) addAssignedPodToCache(logger klog.Logger, pod *v1.Pod) {
	if err := sched.Cache.AddPod(logger, pod); err != nil {
		logger.Error(err, "Adding a pod to the cache", "pod", klog.KObj(pod))
	}
	sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(framework.EventAssignedPodAdd, nil, pod, nil)
}

func (sched *Scheduler) updateAssignedPodInCache(logger klog.Logger, oldPod, newPod *v1.Pod) {
	if err := sched.Cache.UpdatePod(logger, newPod); err != nil {
		logger.Error(err, "Updating a pod in the cache", "pod", klog.KObj(newPod))
	}
	for _, event := range framework.PodSchedulingPropertiesChange(newPod, oldPod) {
		sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(event, oldPod, newPod, nil)
	}
}

// updatePodInSchedulingQueue: an assumed pod is on its way to a node; putting it
// back would place it twice.
func (sched *Scheduler) updatePodInSchedulingQueue(oldPod, newPod *v1.Pod) {
	if sched.Cache.IsAssumedPod(newPod) {
		return
	}
	sched.SchedulingQueue.Update(oldPod, newPod)
}
