package pleg

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	testingclock "k8s.io/utils/clock/testing"

	kubecontainer "hyperkube/kubelet/container"
)

type lister struct {
	pods []*kubecontainer.Pod
	err  error
}

func (l *lister) GetPods(context.Context, bool) ([]*kubecontainer.Pod, error) { return l.pods, l.err }

func one(state kubecontainer.State) []*kubecontainer.Pod {
	return []*kubecontainer.Pod{{ID: types.UID("u"), Containers: []*kubecontainer.Container{{ID: kubecontainer.ContainerID{ID: "c"}, State: state}}}}
}

// Each change is told once, and nothing else.
func TestRelist(t *testing.T) {
	l := &lister{}
	g := NewGenericPLEG(l, nil, testingclock.NewFakeClock(time.Unix(100, 0)))
	for _, step := range []struct {
		pods []*kubecontainer.Pod
		want PodLifeCycleEventType
	}{
		{nil, ""}, {one(kubecontainer.StateCreated), ContainerChanged}, {one(kubecontainer.StateRunning), ContainerStarted}, {one(kubecontainer.StateRunning), ""},
		{one(kubecontainer.StateExited), ContainerDied}, {nil, ContainerRemoved}, {nil, ""},
	} {
		l.pods = step.pods
		g.Relist(context.Background())
		var got PodLifecycleEvent
		select {
		case got = <-g.Watch():
		default:
		}
		if got.Type != step.want || step.want != "" && (got.ID != "u" || got.ContainerID != "c") {
			t.Errorf("event %+v, want %q", got, step.want)
		}
	}
}

// A runtime that does not answer for three minutes makes the node unready.
func TestHealthy(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Unix(100, 0))
	l := &lister{err: errors.New("down")}
	g := NewGenericPLEG(l, nil, clock)
	g.Relist(context.Background())
	if err := g.Healthy(); err != nil {
		t.Errorf("unhealthy at once: %v", err)
	}
	clock.Step(RelistThreshold + time.Second)
	if err := g.Healthy(); err == nil {
		t.Error("healthy without a relist")
	}
	l.err = nil
	g.Relist(context.Background())
	if err := g.Healthy(); err != nil {
		t.Errorf("unhealthy after a relist: %v", err)
	}
}

// A runtime that has no stream of events is asked for it once, not for ever.
func TestRuntimeWithoutEvents(t *testing.T) {
	asked := 0
	g := NewGenericPLEG(nil, func(context.Context) (interface {
		Recv() (*runtimeapi.ContainerEventResponse, error)
	}, error) {
		asked++
		return nil, status.Error(codes.Unimplemented, "method GetContainerEvents not implemented")
	}, testingclock.NewFakeClock(time.Unix(0, 0)))
	g.followEvents(t.Context()) // it returns: the clock stands still
	if asked != 1 || g.isEvented() {
		t.Errorf("asked %d times, evented %v", asked, g.isEvented())
	}
}
