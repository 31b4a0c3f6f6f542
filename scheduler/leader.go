package scheduler

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"hyperkube/client"
	"hyperkube/component"
)

// expiryTolerance: a Lease that ran out longer ago while the loop goes on is unhealthy.
const expiryTolerance = 15 * time.Second

// runWhileLeading runs the loop whenever this process holds the Lease, until ctx is
// done.
//
// Upstream ends the process when the Lease is lost. That suits a replica that
// somebody restarts; here it would end a whole cluster because a laptop slept
// (R74). Instead the loop stops, and competes for the Lease again. Stopping comes
// first: two loops at once could put two pods into the same gap. Until the loop has noticed, its
// Bindings do not go out: `client/fence.go:WithFence`.
func (sched *Scheduler) runWhileLeading(ctx context.Context) {
	if !sched.cfg.LeaderElect {
		sched.loop(ctx)
		return
	}
	// It outlives ctx: that the leader stepped down is the last event.
	events := client.NewEventBroadcaster(record.WithContext(component.Outliving(ctx)))
	defer events.Shutdown()
	events.StartRecording(sched.client)
	lock := &client.LeaseLock{Duration: sched.cfg.LeaseDuration, Interface: &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: sched.cfg.LeaseNamespace, Name: sched.cfg.LeaseName},
		Client:    sched.client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{
			Identity:      sched.cfg.Identity,
			EventRecorder: events.NewRecorder(scheme.Scheme, v1.EventSource{Component: sched.cfg.Profiles[0].SchedulerName}),
		},
	}}
	for ctx.Err() == nil {
		if err := sched.leadOnce(ctx, lock); err != nil {
			klog.FromContext(ctx).Error(err, "Leader election failed to start")
			return
		}
	}
}

// leadOnce waits for the Lease, and runs the loop while it is held. It returns after
// the loop has stopped; only then is the Lease given back.
//
// The obvious way is to run the elector until ctx is done. It gives the Lease back at
// that moment, while the loop still finishes its turn beside the next leader's.
func (sched *Scheduler) leadOnce(ctx context.Context, lock *client.LeaseLock) error {
	logger := klog.FromContext(ctx)
	// The elector outlives ctx: it must hold the Lease until the loop has ended.
	electorCtx, stopElector := context.WithCancel(context.WithoutCancel(ctx))
	defer stopElector()
	won := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: sched.cfg.LeaseName, LeaseDuration: sched.cfg.LeaseDuration, RenewDeadline: sched.cfg.RenewDeadline, RetryPeriod: sched.cfg.RetryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) { won <- held },
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				if identity != sched.cfg.Identity {
					logger.Info("Standing by: another scheduler holds the lease", "holder", identity)
				}
			},
		},
	})
	if err != nil {
		return err
	}
	sched.leading.follow(elector)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		elector.Run(electorCtx)
	}()
	select {
	case held := <-won:
		logger.Info("Holding the lease", "lease", lock.Describe(), "identity", sched.cfg.Identity)
		sched.leading.set(true)
		sched.loop(whileBoth(client.WithFence(ctx, lock.Held), held))
		sched.leading.set(false)
	case <-ctx.Done():
	case <-ended:
	}
	stopElector()
	<-ended
	if ctx.Err() == nil {
		logger.Info("The lease was lost, the loop has stopped; competing for it again")
	}
	return nil
}

// whileBoth has ctx's values and ends when either ends.
func whileBoth(ctx, held context.Context) context.Context {
	both, cancel := context.WithCancel(ctx)
	context.AfterFunc(held, cancel)
	return both
}

// leaderState is what health checks ask.
type leaderState struct {
	mu      sync.Mutex
	elector *leaderelection.LeaderElector
	leading bool
}

func (l *leaderState) follow(elector *leaderelection.LeaderElector) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.elector = elector
}

func (l *leaderState) set(leading bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leading = leading
}

func (l *leaderState) isLeading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leading
}

// check fails when the process believes it leads while its Lease has run out.
func (l *leaderState) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.elector == nil || !l.leading {
		return nil
	}
	if err := l.elector.Check(expiryTolerance); err != nil {
		return fmt.Errorf("the lease is not held: %w", err)
	}
	return nil
}
