package cri

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// eventBacklog is how many events a listener may be behind before it is cut off;
// it then lists anew.
const eventBacklog = 1000

// broadcaster gives each event to all who listen.
type broadcaster struct {
	mu        sync.Mutex
	listeners map[chan *runtimeapi.ContainerEventResponse]struct{}
}

func newBroadcaster() *broadcaster {
	return &broadcaster{listeners: map[chan *runtimeapi.ContainerEventResponse]struct{}{}}
}

func (b *broadcaster) listen() chan *runtimeapi.ContainerEventResponse {
	ch := make(chan *runtimeapi.ContainerEventResponse, eventBacklog)
	b.mu.Lock()
	b.listeners[ch] = struct{}{}
	b.mu.Unlock()
	return ch
}

func (b *broadcaster) leave(ch chan *runtimeapi.ContainerEventResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.listeners[ch]; ok {
		delete(b.listeners, ch)
		close(ch)
	}
}

func (b *broadcaster) anyone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.listeners) > 0
}

func (b *broadcaster) send(event *runtimeapi.ContainerEventResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.listeners {
		select {
		case ch <- event:
		default:
			delete(b.listeners, ch)
			close(ch)
		}
	}
}

// publish tells what happened to a container, or with its own id to a sandbox,
// together with the state of the whole pod.
func (c *CRI) publish(s *sandbox, id string, kind runtimeapi.ContainerEventType) {
	if !c.events.anyone() {
		return
	}
	event := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: time.Now().UnixNano(), PodSandboxStatus: s.status()}
	for _, k := range c.sortedContainers(s) {
		event.ContainersStatuses = append(event.ContainersStatuses, k.describe())
	}
	c.events.send(event)
}

// GetContainerEvents streams what happens, from now on.
func (c *CRI) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream runtimeapi.RuntimeService_GetContainerEventsServer) error {
	events := c.events.listen()
	defer c.events.leave(events)
	for {
		select {
		case event, ok := <-events:
			if !ok {
				return status.Error(codes.ResourceExhausted, "the listener did not keep up")
			}
			if err := stream.Send(event); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		case <-c.life.Done():
			return status.Error(codes.Unavailable, "the runtime is stopping")
		}
	}
}

// meter counts calls and their times.
type meter struct {
	seconds *prometheus.HistogramVec
	errors  *prometheus.CounterVec
}

func newMeter(registry prometheus.Registerer) (*meter, error) {
	m := &meter{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "hyperkube_cri_operation_duration_seconds",
			Help: "Time to answer a CRI call.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"operation"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hyperkube_cri_operation_errors_total",
			Help: "CRI calls that failed."}, []string{"operation"}),
	}
	if registry == nil {
		return m, nil
	}
	if err := registry.Register(m.seconds); err != nil {
		return nil, err
	}
	return m, registry.Register(m.errors)
}

func (m *meter) observe(operation string, start time.Time, err error) {
	m.seconds.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	if err != nil {
		m.errors.WithLabelValues(operation).Inc()
	}
}
