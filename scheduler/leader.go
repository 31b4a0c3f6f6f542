package scheduler

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// The Lease is upstream's, so that an upstream kube-scheduler beside this one
// stands by, and takes over when this one ends.
const (
	leaseNamespace = "kube-system"
	leaseName      = "kube-scheduler"
	// expiryTolerance: a Lease that ran out longer ago while the loop goes on is unhealthy.
	expiryTolerance = 15 * time.Second
)

// runWhileLeading runs the loop whenever this process holds the Lease, until ctx is
// done.
//
// Upstream ends the process when the Lease is lost. That suits a replica that
// somebody restarts; here it would end a whole cluster because a laptop slept
// (R74). Instead the loop stops, and competes for the Lease again. Stopping comes
// first: two loops at once could put two pods into the same gap.
func (sched *Scheduler) runWhileLeading(ctx context.Context) {
	if !sched.cfg.LeaderElect {
		sched.loop(ctx)
		return
	}
	for ctx.Err() == nil {
		if err := sched.leadOnce(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Leader election failed to start")
			return
		}
	}
}

// leadOnce waits for the Lease, runs the loop, and returns when the Lease is lost
// and the loop has stopped.
func (sched *Scheduler) leadOnce(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	// The elector starts OnStartedLeading in a goroutine and does not wait for it.
	// Whoever is first to swap entered decides whether the loop runs at all.
	var entered atomic.Bool
	loopDone := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: leaseNamespace, Name: leaseName},
			Client:     sched.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: sched.cfg.Identity},
		},
		Name: leaseName, LeaseDuration: sched.cfg.LeaseDuration, RenewDeadline: sched.cfg.RenewDeadline, RetryPeriod: sched.cfg.RetryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				if !entered.CompareAndSwap(false, true) {
					return
				}
				defer close(loopDone)
				logger.Info("Holding the lease", "lease", leaseNamespace+"/"+leaseName, "identity", sched.cfg.Identity)
				sched.leading.set(true)
				sched.loop(ctx)
				sched.leading.set(false)
			},
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
	elector.Run(ctx)
	if !entered.CompareAndSwap(false, true) {
		<-loopDone
	}
	if ctx.Err() == nil {
		logger.Info("The lease was lost, the loop has stopped; competing for it again")
	}
	return nil
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
		return fmt.Errorf("lease %s/%s: %w", leaseNamespace, leaseName, err)
	}
	return nil
}
