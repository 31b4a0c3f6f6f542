package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	workers  = 16
	watchers = 100

	mediaJSON     = "application/json"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

func newDial() func(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 10 * time.Second}).DialContext
}

// measurement is one kind of work done n times.
type measurement struct {
	n    int
	took time.Duration
	// cpu of each of the server's processes.
	cpu []time.Duration
	// latencies are sorted: of each operation, or of each delivery.
	latencies []time.Duration
}

func (m *measurement) perSecond() float64 { return float64(m.n) / m.took.Seconds() }

// percentile is in milliseconds.
func (m *measurement) percentile(p float64) float64 {
	return m.latencies[int(p*float64(len(m.latencies)-1))].Seconds() * 1000
}

// measure does n operations with a number of workers, and ends at the first error.
func measure(s *server, n, workers int, do func(i int) error) (*measurement, error) {
	m := &measurement{n: n, latencies: make([]time.Duration, n)}
	var next atomic.Int64
	var failed atomic.Value
	var group sync.WaitGroup
	before, began := s.cpu(), time.Now()
	for range workers {
		group.Go(func() {
			for i := int(next.Add(1) - 1); i < n && failed.Load() == nil; i = int(next.Add(1) - 1) {
				start := time.Now()
				if err := do(i); err != nil {
					failed.CompareAndSwap(nil, err)
				}
				m.latencies[i] = time.Since(start)
			}
		})
	}
	group.Wait()
	m.took, m.cpu = time.Since(began), since(before, s.cpu())
	slices.Sort(m.latencies)
	err, _ := failed.Load().(error)
	return m, err
}

func since(before, now []time.Duration) []time.Duration {
	used := make([]time.Duration, len(now))
	for i := range now {
		used[i] = now[i] - before[i]
	}
	return used
}

func createConfigMaps(ctx context.Context, s *server, set kubernetes.Interface, from, n int) (*measurement, error) {
	return measure(s, n, workers, func(i int) error {
		_, err := set.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("map-%06d", from+i), Labels: map[string]string{"app": "bench"}},
			Data:       map[string]string{"key": "value", "server.conf": "listen = 127.0.0.1:8080\nworkers = 4\nlog_level = info\n"},
		}, metav1.CreateOptions{})
		return err
	})
}

func createPods(ctx context.Context, s *server, set kubernetes.Interface, from, n int) (*measurement, error) {
	return measure(s, n, workers, func(i int) error {
		_, err := set.CoreV1().Pods(namespace).Create(ctx, benchPod(from+i), metav1.CreateOptions{})
		return err
	})
}

func podName(i int) string { return fmt.Sprintf("pod-%06d", i) }

// benchPod has some 2 KB when it is stored. No scheduler takes it.
func benchPod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: podName(i), Labels: map[string]string{"app": "bench"}},
		Spec: corev1.PodSpec{SchedulerName: "none", Containers: []corev1.Container{{
			Name: "demo", Image: "hyperkube.local/demo",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
			}},
		}}},
	}
}

func getPods(ctx context.Context, s *server, set kubernetes.Interface, n int) (*measurement, error) {
	return measure(s, n, workers, func(int) error {
		_, err := set.CoreV1().Pods(namespace).Get(ctx, podName(0), metav1.GetOptions{})
		return err
	})
}

// listPods reads all pods n times, one after the other, and does not decode them. size is after decompression.
func listPods(ctx context.Context, s *server, set kubernetes.Interface, n int) (m *measurement, size int, err error) {
	m, err = measure(s, n, 1, func(int) error {
		data, err := set.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").Do(ctx).Raw()
		size = len(data)
		return err
	})
	return m, size, err
}

// fanOut is n updates of as many pods by all workers while many watch, each over a connection of its own. The
// measurement is of deliveries: their latencies count from the PUT's return, and are less than 0 where the event
// came before the PUT's own answer.
func fanOut(ctx context.Context, s *server, media string, n int) (*measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	set, err := s.client(media, true)
	if err != nil {
		return nil, err
	}
	list, err := set.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{Limit: int64(n)})
	if err != nil {
		return nil, err
	}
	a := &audience{base: time.Now(), arrived: make([][]time.Duration, watchers)}
	if err := a.open(ctx, s, media, list); err != nil {
		return nil, err
	}
	before, began := s.cpu(), time.Now()
	returned := make([]time.Duration, n)
	if _, err := measure(s, n, workers, func(i int) error {
		pod := list.Items[i].DeepCopy()
		pod.Annotations = map[string]string{"bench": fmt.Sprintf("%s%06d", mark, i)}
		_, err := set.CoreV1().Pods(namespace).Update(ctx, pod, metav1.UpdateOptions{})
		returned[i] = time.Since(a.base)
		return err
	}); err != nil {
		return nil, err
	}
	a.done.Wait()
	m := &measurement{n: n * watchers, took: time.Since(began), cpu: since(before, s.cpu())}
	for _, arrived := range a.arrived {
		for i, at := range arrived {
			if at == 0 {
				return nil, fmt.Errorf("fan-out: a watcher missed update %d (%v)", i, ctx.Err())
			}
			m.latencies = append(m.latencies, at-returned[i])
		}
	}
	slices.Sort(m.latencies)
	return m, nil
}

// mark is before the number of the update in a pod's annotation.
const mark = "update="

// audience is the watchers of a fan-out.
type audience struct {
	base    time.Time
	arrived [][]time.Duration // by watcher and update, since base
	done    sync.WaitGroup
}

// open starts watching after list.
func (a *audience) open(ctx context.Context, s *server, media string, list *corev1.PodList) error {
	for w := range a.arrived {
		set, err := s.client(media, true)
		if err != nil {
			return err
		}
		stream, err := set.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").Param("watch", "true").
			Param("resourceVersion", list.ResourceVersion).Stream(ctx)
		if err != nil {
			return err
		}
		arrived := make([]time.Duration, len(list.Items))
		a.arrived[w] = arrived
		a.done.Go(func() {
			defer stream.Close()
			a.listen(stream, media, arrived)
		})
	}
	return nil
}

// listen notes when each update arrives, until all have.
func (a *audience) listen(stream io.Reader, media string, arrived []time.Duration) {
	reader := bufio.NewReaderSize(stream, 64<<10)
	var frame []byte
	for missing := len(arrived); missing > 0; {
		var err error
		if frame, err = readFrame(reader, media, frame); err != nil {
			return
		}
		now := time.Since(a.base)
		at := bytes.Index(frame, []byte(mark))
		if at < 0 || len(frame) < at+len(mark)+6 {
			continue
		}
		i, err := strconv.Atoi(string(frame[at+len(mark) : at+len(mark)+6]))
		if err == nil && i < len(arrived) && arrived[i] == 0 {
			arrived[i] = now
			missing--
		}
	}
}

// readFrame reads one event: a line of JSON, or a message behind its length.
func readFrame(r *bufio.Reader, media string, into []byte) ([]byte, error) {
	if media == mediaJSON {
		return r.ReadBytes('\n')
	}
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	into = slices.Grow(into[:0], int(binary.BigEndian.Uint32(head[:])))[:binary.BigEndian.Uint32(head[:])]
	_, err := io.ReadFull(r, into)
	return into, err
}
