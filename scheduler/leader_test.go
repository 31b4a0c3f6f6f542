package scheduler

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

// slow is a plugin that does not return at its point until it may.
type slow struct {
	point   string
	entered chan struct{}
	may     chan struct{}
}

func (s *slow) Name() string { return "Slow" }

func (s *slow) at(point string) *framework.Status {
	if point == s.point {
		close(s.entered)
		<-s.may
	}
	return nil
}

func (s *slow) PreFilter(context.Context, *framework.CycleState, *framework.PodInfo, []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	return nil, s.at("PreFilter")
}

func (s *slow) PreBind(context.Context, *framework.CycleState, *v1.Pod, string) *framework.Status {
	return s.at("PreBind")
}

// The Lease is given back when the turn and the binding under way at the stop have ended,
// not before: another scheduler begins at that moment.
func TestLeaseIsGivenBackAfterTheLoop(t *testing.T) {
	for _, point := range []string{"PreFilter", "PreBind"} {
		t.Run(point, func(t *testing.T) {
			plugin := &slow{point: point, entered: make(chan struct{}), may: make(chan struct{})}
			givenBack := make(chan struct{})
			var once sync.Once
			c := newCluster(t, func(cfg *Config) {
				cfg.LeaderElect, cfg.Identity = true, "me"
				cfg.complete()
				cfg.Plugins = append(cfg.Plugins, runtime.Registration{Name: "Slow",
					New: func(context.Context, framework.Handle, framework.Args) (framework.Plugin, error) { return plugin, nil }})
				cfg.Client.(*fake.Clientset).PrependReactor("update", "leases", func(action clienttesting.Action) (bool, kruntime.Object, error) {
					lease := action.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
					if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
						once.Do(func() { close(givenBack) })
					}
					return false, nil, nil
				})
			}, makeNode("n", "4"))
			c.create(makePod("web", "1"))
			<-plugin.entered
			stopped := make(chan struct{})
			go func() { defer close(stopped); c.stop() }()
			select {
			case <-givenBack:
				t.Error("the lease is given back while " + point + " runs")
			case <-stopped:
				t.Error("the scheduler has ended while " + point + " runs")
			case <-time.After(100 * time.Millisecond): // nothing is to happen, for as long as nothing is to happen
			}
			close(plugin.may)
			<-stopped
			<-givenBack
			var said []string
			for len(said) < 2 {
				if e := c.next(c.events); strings.HasPrefix(e, "Lease") {
					said = append(said, e)
				}
			}
			if got := strings.Join(said, ", "); got != "Lease LeaderElection: me became leader, Lease LeaderElection: me stopped leading" {
				t.Errorf("events %q", got)
			}
		})
	}
}
