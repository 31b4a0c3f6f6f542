package kubelet

import (
	"context"
	"sort"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"hyperkube/kubelet/config"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/eviction"
	"hyperkube/kubelet/kuberuntime"
	"hyperkube/kubelet/lifecycle"
	"hyperkube/kubelet/nodeshutdown"
	kubepod "hyperkube/kubelet/pod"
	"hyperkube/kubelet/prober"

	apipod "hyperkube/api/core/pod"
)

// runSources starts everything that brings pods, and returns when all have ended.
func (kl *Kubelet) runSources(ctx context.Context) {
	var group sync.WaitGroup
	static := config.Static{Node: kl.NodeName, Clock: kl.Clock, Period: kl.FileCheckFrequency, SetDefaults: apipod.SetDefaultsPod, Validate: validateStatic}
	if kl.Client != nil {
		group.Go(func() { config.RunApiserver(ctx, kl.Client, kl.NodeName, kl.mux) })
	}
	if kl.StaticPodPath != "" {
		group.Go(func() { config.RunFile(ctx, kl.StaticPodPath, static, kl.mux) })
	}
	if kl.StaticPodURL != "" {
		slow := static
		slow.Period = 20 * time.Second
		group.Go(func() { config.RunHTTP(ctx, kl.StaticPodURL, slow, kl.mux) })
	}
	group.Wait()
}

func validateStatic(pod *v1.Pod) error { return apipod.ValidatePod(pod).ToAggregate() }

// HandlePodAdditions takes pods that are new to this node, the oldest first, and
// refuses what the node has no room for.
func (kl *Kubelet) HandlePodAdditions(ctx context.Context, pods []*v1.Pod) {
	sort.SliceStable(pods, func(i, j int) bool { return pods[i].CreationTimestamp.Before(&pods[j].CreationTimestamp) })
	for _, pod := range pods {
		if kubepod.IsMirror(pod) {
			kl.pods.Set(pod)
			kl.syncStaticOf(pod)
			continue
		}
		others := kl.activePods()
		kl.pods.Set(pod)
		if pod.DeletionTimestamp == nil && !apipod.IsPodTerminal(pod) {
			rejection, err := kl.allocation.AddPod(pod, others, func(pod *v1.Pod, others []*v1.Pod) *lifecycle.Rejection { return kl.admit(ctx, pod, others) })
			if err != nil {
				// A disk that is full now may have room in a minute; a refusal would be for ever.
				klog.FromContext(ctx).Error(err, "A restart of the kubelet will not know what the pod was allocated", "pod", klog.KObj(pod))
			}
			if rejection != nil {
				kl.rejectPod(ctx, pod, rejection)
				continue
			}
		}
		kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodCreate, Pod: pod})
	}
}

// admit asks the node whether it takes the pod. A pod that already runs here
// (after a restart of the kubelet) was taken once, and is not put out.
func (kl *Kubelet) admit(ctx context.Context, pod *v1.Pod, others []*v1.Pod) *lifecycle.Rejection {
	if pod.Status.Phase == v1.PodRunning || pod.Status.StartTime != nil {
		return nil
	}
	logger := klog.FromContext(ctx)
	if why := kl.eviction.Admit(logger, pod); why != "" {
		return &lifecycle.Rejection{Reason: eviction.Reason, Message: why}
	}
	if kl.shutdown.Err() != nil {
		return &lifecycle.Rejection{Reason: nodeshutdown.RejectedReason, Message: nodeshutdown.RejectedMessage}
	}
	if rejection := lifecycle.Admit(logger, pod, kl.node(), others, kl.AllowedUnsafeSysctls); rejection != nil {
		return rejection
	}
	return lifecycle.AppArmor{Root: "/"}.Admit(pod)
}

func (kl *Kubelet) rejectPod(ctx context.Context, pod *v1.Pod, rejection *lifecycle.Rejection) {
	klog.FromContext(ctx).V(1).Info("Pod refused", "pod", klog.KObj(pod), "reason", rejection.Reason, "message", rejection.Message)
	kl.recorder.Event(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, rejection.Reason, rejection.Message)
	kl.status.SetPodStatus(pod, v1.PodStatus{
		ObservedGeneration: pod.Generation, QOSClass: apipod.GetPodQOS(pod), Phase: v1.PodFailed,
		Reason: rejection.Reason, Message: "Pod was rejected: " + rejection.Message, Conditions: pod.Status.Conditions,
	})
}

// activePods are those that use the node's room.
func (kl *Kubelet) activePods() []*v1.Pod {
	var active []*v1.Pod
	for _, pod := range kl.pods.GetPods() {
		if status, known := kl.status.GetPodStatus(pod.UID); known && (status.Phase == v1.PodFailed || status.Phase == v1.PodSucceeded) || apipod.IsPodTerminal(pod) {
			continue
		}
		if kl.workers.state(pod.UID).terminated {
			continue
		}
		active = append(active, pod)
	}
	return active
}

// HandlePodUpdates takes pods that changed, deletions among them.
func (kl *Kubelet) HandlePodUpdates(_ context.Context, pods []*v1.Pod) {
	for _, pod := range pods {
		kl.pods.Set(pod)
		if kubepod.IsMirror(pod) {
			kl.syncStaticOf(pod)
			continue
		}
		kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodUpdate, Pod: pod})
	}
}

// HandlePodRemoves takes pods that are gone from their source; what runs of them ends.
func (kl *Kubelet) HandlePodRemoves(_ context.Context, pods []*v1.Pod) {
	for _, pod := range pods {
		kl.pods.Remove(pod)
		if kubepod.IsMirror(pod) {
			kl.syncStaticOf(pod)
			continue
		}
		if kl.workers.state(pod.UID).known {
			kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodKill, Pod: pod, Kill: &KillPodOptions{}})
		}
	}
}

// HandlePodReconcile takes pods whose status in the API is another than before:
// usually the kubelet's own writing coming back. Only a readiness gate matters.
func (kl *Kubelet) HandlePodReconcile(_ context.Context, pods []*v1.Pod) {
	for _, pod := range pods {
		kl.pods.Set(pod)
		if kubepod.IsMirror(pod) {
			kl.syncStaticOf(pod)
			continue
		}
		if len(pod.Spec.ReadinessGates) > 0 {
			kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodSync, Pod: pod})
		}
	}
}

// syncStaticOf has the static pod looked at whose mirror changed.
func (kl *Kubelet) syncStaticOf(mirror *v1.Pod) {
	if static := kl.pods.StaticOf(mirror); static != nil {
		kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodUpdate, Pod: static})
	}
}

// HandlePodSyncs has pods looked at that did not change themselves.
func (kl *Kubelet) HandlePodSyncs(_ context.Context, uids []types.UID) {
	for _, uid := range uids {
		if pod, ok := kl.pods.GetPodByUID(uid); ok {
			kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodSync, Pod: pod})
		} else {
			kl.workers.poke(uid)
		}
	}
}

// HandleProbe takes a probe's result: readiness and startup go to the status at
// once; the worker does the rest.
func (kl *Kubelet) HandleProbe(ctx context.Context, update prober.Update) {
	pod, ok := kl.pods.GetPodByUID(update.PodUID)
	if !ok {
		return
	}
	switch update.Type {
	case prober.Readiness:
		kl.status.SetContainerReadiness(pod, update.ContainerID.String(), update.Result == prober.Success)
	case prober.Startup:
		kl.status.SetContainerStartup(pod, update.ContainerID.String(), update.Result == prober.Success)
	case prober.Liveness:
		if update.Result == prober.Success {
			return
		}
	}
	kl.HandlePodSyncs(ctx, []types.UID{pod.UID})
}

// HandlePodCleanups brings everything the kubelet holds in line with which pods
// it should have:
//
//  1. workers: end pods that nobody wants, forget those that finished,
//  2. probes and statuses of pods that are gone,
//  3. containers that nobody asked for,
//  4. mirrors without a static pod,
//  5. volumes, cgroups and logs of pods that are gone,
//  6. static pods that came back.
func (kl *Kubelet) HandlePodCleanups(ctx context.Context) {
	logger := klog.FromContext(ctx)
	wanted := map[types.UID]bool{}
	for _, pod := range kl.pods.GetPods() {
		wanted[pod.UID] = true
	}
	// Step 1: workers.
	states := kl.workers.SyncKnownPods(wanted)
	// Step 2: probes and statuses.
	probed := map[types.UID]bool{}
	for uid, state := range states {
		probed[uid] = !state.terminated
	}
	kl.prober.CleanupPods(probed)
	known := map[types.UID]bool{}
	for uid := range states {
		known[uid] = true
	}
	for uid := range wanted {
		known[uid] = true
	}
	kl.status.RemoveOrphanedStatuses(known)
	// Step 3: containers that nobody asked for.
	running, err := kl.manager.GetPods(ctx, false)
	if err != nil {
		logger.Error(err, "Housekeeping cannot list running pods")
		return
	}
	alive := map[types.UID]bool{}
	for _, pod := range running {
		alive[pod.ID] = true
		if !known[pod.ID] {
			logger.V(1).Info("Ending what runs of a pod that nobody asked for", "pod", klog.KRef(pod.Namespace, pod.Name), "podUID", pod.ID)
			kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodKill, RunningPod: pod})
		}
	}
	// Step 4: mirrors.
	if kl.Client != nil {
		for _, mirror := range kl.pods.OrphanedMirrors() {
			logger.V(1).Info("Removing the mirror of a static pod that is gone", "pod", klog.KObj(mirror))
			if err := kubepod.DeleteMirror(ctx, kl.Client, mirror); err != nil {
				logger.Error(err, "Removing a mirror pod", "pod", klog.KObj(mirror))
			}
		}
	}
	// Step 5: what is left on the node.
	kl.cleanUpNode(ctx, func(uid types.UID) bool { return !known[uid] && !alive[uid] })
	// Step 6: static pods that came back.
	for uid, state := range states {
		if pod, ok := kl.pods.GetPodByUID(uid); ok && state.finished && state.restartRequested {
			kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodCreate, Pod: pod})
		}
	}
}

// gcPeriod is the time between two searches for dead containers.
const gcPeriod = time.Minute

func (kl *Kubelet) cleanUpNode(ctx context.Context, gone func(types.UID) bool) {
	logger := klog.FromContext(ctx)
	uids, err := kl.volumes.PodsOnDisk()
	if err != nil {
		logger.Error(err, "Housekeeping cannot list the directories of pods")
	}
	for _, uid := range uids {
		if gone(uid) {
			logger.V(2).Info("Removing the directory of a pod that is gone", "podUID", uid)
			if err := kl.volumes.TearDownPod(ctx, uid); err != nil {
				logger.Error(err, "Removing the directory of a pod that is gone", "podUID", uid)
				continue
			}
			kl.users.Release(uid)
		}
	}
	kl.cgroups.RemoveOrphans(gone)
	if err := kl.allocation.RemoveOrphanedPods(gone); err != nil {
		logger.Error(err, "Forgetting what pods that are gone were allocated")
	}
	if kl.state.gcDue(kl.Clock.Now(), gcPeriod) {
		if err := kl.manager.GarbageCollect(ctx, kuberuntime.GCPolicy{Gone: gone, LogsRoot: kl.dirs.logs}); err != nil && ctx.Err() == nil {
			kl.recorder.Event(kl.nodeRef(), v1.EventTypeWarning, "ContainerGCFailed", err.Error())
			logger.Error(err, "Removing dead containers")
		}
	}
}

// stopPods ends all pods within the time given, and removes their sandboxes, so
// that nothing of them is left on the node.
func (kl *Kubelet) stopPods(ctx context.Context) {
	logger := klog.FromContext(ctx)
	ctx, cancel := context.WithTimeout(ctx, kl.StopTimeout+5*time.Second)
	defer cancel()
	running, err := kl.manager.GetPods(ctx, false)
	if err != nil {
		logger.Error(err, "Cannot list the pods to stop")
		return
	}
	logger.Info("Stopping the node's pods", "pods", len(running), "within", kl.StopTimeout)
	var group sync.WaitGroup
	for _, pod := range running {
		group.Go(func() { kl.stopPod(ctx, pod) })
	}
	group.Wait()
	kl.status.Flush(ctx)
	if err := kl.manager.GarbageCollect(ctx, kuberuntime.GCPolicy{Gone: func(types.UID) bool { return true }}); err != nil {
		logger.Error(err, "Removing the sandboxes of stopped pods")
	}
	uids, err := kl.volumes.PodsOnDisk()
	if err != nil {
		logger.Error(err, "Listing the volumes of stopped pods")
	}
	for _, uid := range uids {
		if err := kl.volumes.UnmountPod(uid); err != nil {
			logger.Error(err, "Unmounting the volumes of a stopped pod", "podUID", uid)
		}
	}
	kl.cgroups.RemoveOrphans(func(types.UID) bool { return true })
	kl.cgroups.RemoveRoot()
}

// stopPod ends one pod without a word to the API: it is still wanted, and starts
// again with the node.
func (kl *Kubelet) stopPod(ctx context.Context, running *kubecontainer.Pod) {
	pod, ok := kl.pods.GetPodByUID(running.ID)
	if !ok {
		pod = running.ToAPIPod()
	}
	grace := int64(kl.StopTimeout / time.Second)
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil && *own < grace {
		grace = *own
	}
	if err := kl.manager.KillPod(ctx, pod, running, &grace); err != nil {
		klog.FromContext(ctx).Error(err, "Stopping the pod", "pod", klog.KObj(pod))
	}
}
