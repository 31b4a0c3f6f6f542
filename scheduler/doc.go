// Package scheduler chooses a node for each pod that has none. It starts nothing
// and talks to no kubelet: all it ever writes for a pod it places is a Binding.
//
//	informers                     scheduling cycle (one pod at a time)
//	 pods, nodes --> cache ------> snapshot
//	      |                           |
//	      '--> queue --> NextPod --> findNodesThatFitPod --> prioritizeNodes --> selectHost
//	             ^                    | (none)                                      |
//	             |     handleSchedulingFailure <----------------.               assume (cache)
//	             '---------- event, condition, retry            |                   |
//	                                                            '-- failed -- bindingCycle
//	                                                                 (one goroutine a pod)
//	                                                                      POST .../binding
//
// # The loop
//
// ScheduleOne, again and again:
//
//  1. take the next pod from the queue (waits while there is none);
//  2. scheduling cycle: snapshot the cache, filter the nodes, score those left,
//     take the best, assume the pod there;
//  3. binding cycle, in a goroutine of its own: wait if a Permit plugin says so,
//     then write the Binding;
//  4. if 2 or 3 failed: give back what was reserved, tell the world by an event and
//     the PodScheduled condition, and put the pod back into the queue.
//
// Since the pod is assumed in 2, the next pod's cycle sees it on its node and need
// not wait for the apiserver.
//
// # Nouns
//
//   - plugin, extension point, Status, CycleState: package scheduler/framework
//   - activeQ, backoffQ, queueing hint: package scheduler/queue
//   - assumed pod, snapshot: package scheduler/cache
//   - Attempt: what one turn of the loop found out, kept for `hyperkube why`
//
// # Invariants
//
//   - One scheduling cycle at a time; any number of binding cycles.
//   - Whoever takes a pod from the queue sees to it that Done is called for it once.
//   - A pod that was assumed is forgotten if its binding fails, before it is retried.
//   - Losing the leader's lease stops the loop, never the process: after a pause
//     (a laptop's sleep, a debugger) the loop goes on as soon as the lease is held
//     again.
//   - It knows nothing of kubelets, runtimes, or what a pod does; not even whether
//     it has started.
//
// Read first: `scheduler/schedule_one.go:Scheduler.ScheduleOne`, then
// `scheduler/framework/interface.go:FilterPlugin`, then the table of plugins,
// `scheduler/plugins/registry.go:NewInTreeRegistry`.
//
// # In Kubernetes
//
// pkg/scheduler: scheduler.go, schedule_one.go, eventhandlers.go; cmd/kube-scheduler
// for the leader election around it. Left out: pod groups, and
// asynchronous API calls. Without the nominator (`scheduler/queue/nominator.go:Nominator`), a
// pod that preemption made room for would have to race for the place.
package scheduler
