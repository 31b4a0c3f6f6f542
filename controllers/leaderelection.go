package controllers

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	corev1 "k8s.io/api/core/v1"

	"hyperkube/client"
	"hyperkube/component"
)

// leaseName is the Lease, in kube-system, that upstream's manager competes for
// too: of ours and an upstream one in the same cluster, one works.
const leaseName = "kube-controller-manager"

// runElected runs a term each time the Lease is won, until ctx ends. To lose it
// ends the term, not the process: a laptop that slept, a SIGSTOP, or a disk that
// stalled for ten seconds must not end a cluster of one node (R74). The next
// attempt follows at once, and finds our own name in the Lease. What a turn still
// writes of what it saw before the stop does not go out: `client/fence.go:WithFence`.
func (m *Manager) runElected(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	// It outlives ctx: that the leader stepped down is the last event.
	events := client.NewEventBroadcaster(record.WithContext(component.Outliving(ctx)))
	defer events.Shutdown()
	events.StartRecording(m.config.Client)
	lock := &client.LeaseLock{Duration: m.config.LeaseDuration, Interface: &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: leaseName},
		Client:    m.config.Client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{
			Identity:      m.config.Identity,
			EventRecorder: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: leaseName}),
		},
	}}
	for ctx.Err() == nil {
		if err := m.contend(ctx, lock); err != nil {
			return err
		}
		if ctx.Err() == nil {
			logger.Info("Lost the lease, will compete for it again", "lease", metav1.NamespaceSystem+"/"+leaseName)
		}
	}
	return nil
}

// contend waits for the Lease and runs one term while it is held. It returns
// after the term's last controller has stopped; only then is the Lease given back,
// so that no other manager begins before.
func (m *Manager) contend(ctx context.Context, lock *client.LeaseLock) error {
	// The elector outlives ctx: it must hold the Lease until the term has ended.
	electorCtx, stopElector := context.WithCancel(context.WithoutCancel(ctx))
	defer stopElector()
	won := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: leaseName, ReleaseOnCancel: true,
		LeaseDuration: m.config.LeaseDuration, RenewDeadline: m.config.RenewDeadline, RetryPeriod: m.config.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) { won <- held },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		elector.Run(electorCtx)
	}()
	var termErr error
	select {
	case held := <-won:
		termErr = m.runTerm(whileBoth(client.WithFence(ctx, lock.Held), held))
	case <-ctx.Done():
	case <-ended:
	}
	stopElector()
	<-ended
	return termErr
}

// whileBoth has ctx's values and ends when either ends.
func whileBoth(ctx, held context.Context) context.Context {
	both, cancel := context.WithCancel(ctx)
	context.AfterFunc(held, cancel)
	return both
}
