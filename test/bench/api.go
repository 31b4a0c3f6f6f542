package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
)

// apiSizes say how much work the API part does.
type apiSizes struct {
	objects     int // created of each kind, and again of pods
	updates     int // of the fan-out
	lists       int
	pairs       int // of the record on and off, each with fewer objects
	pairObjects int
}

// row is a line of the table: what was measured here, and what kube-apiserver v1.36.3 with etcd 3.6.8 needed on
// another machine of 2 cores (medians of three runs).
type row struct{ what, here, there string }

// benchAPI measures the API apart from the other components, in JSON and in protobuf, then inside `all`, then what
// the record costs. Each starts on an empty directory.
func benchAPI(binary string, sizes apiSizes) error {
	for _, shape := range []struct {
		name     string
		commands [][]string
		media    string
	}{
		{"apiserver and etcd, JSON", apart(), mediaJSON},
		{"apiserver and etcd, protobuf", apart(), mediaProtobuf},
		{"all, JSON", [][]string{{"all"}}, mediaJSON},
	} {
		rows, err := apiRun(binary, shape.commands, shape.media, sizes)
		if err != nil {
			return fmt.Errorf("%s: %w", shape.name, err)
		}
		fmt.Printf("\n| %s (%d workers) | here | kube-apiserver v1.36.3 with etcd 3.6.8 |\n|---|---|---|\n", shape.name, workers)
		for _, r := range rows {
			fmt.Printf("| %s | %s | %s |\n", r.what, r.here, r.there)
		}
	}
	return benchRecord(binary, sizes)
}

// apiRun does all kinds of work on one server.
func apiRun(binary string, commands [][]string, media string, sizes apiSizes) ([]row, error) {
	s, err := startServer(binary, commands)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	r := &apiRunner{ctx: context.Background(), server: s, media: media, sizes: sizes}
	if r.set, err = s.client(media, true); err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second) // what start has set off settles
	for _, step := range []func() error{r.idle, r.creates, r.gets, r.lists, r.fanOut, r.morePods} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r.rows, nil
}

type apiRunner struct {
	ctx    context.Context
	server *server
	set    *kubernetes.Clientset
	media  string
	sizes  apiSizes
	rows   []row
}

// add puts a row into the table; there has one text for JSON and one for protobuf.
func (r *apiRunner) add(what, here string, there ...string) {
	text := there[0]
	if r.media == mediaProtobuf && len(there) > 1 {
		text = there[1]
	}
	r.rows = append(r.rows, row{what, here, text})
}

func (r *apiRunner) idle() error {
	r.add("memory, idle", r.memory(), "263, etcd 44 MiB RSS")
	return nil
}

func (r *apiRunner) memory() string {
	var parts []string
	for i, bytes := range r.server.rss() {
		parts = append(parts, fmt.Sprintf("%s %d", r.server.names[i], bytes>>20))
	}
	slices.Reverse(parts)
	return strings.Join(parts, ", ") + " MiB RSS"
}

// each says what one operation cost each process, in CPU.
func (r *apiRunner) each(m *measurement, n int) string {
	var parts []string
	for i, used := range m.cpu {
		parts = append(parts, fmt.Sprintf("%s %.2f", r.server.names[i], used.Seconds()*1000/float64(n)))
	}
	slices.Reverse(parts)
	return "CPU " + strings.Join(parts, ", ") + " ms each"
}

func (r *apiRunner) creates() error {
	n := r.sizes.objects
	m, err := createConfigMaps(r.ctx, r.server, r.set, 0, n)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("create %d ConfigMaps", n), fmt.Sprintf("%.0f/s; %s", m.perSecond(), r.each(m, n)),
		"2140/s; CPU 0.55, etcd 0.17 ms each", "CPU 0.52, etcd 0.17 ms each")
	if m, err = createPods(r.ctx, r.server, r.set, 0, n); err != nil {
		return err
	}
	r.add(fmt.Sprintf("create %d Pods (2 KB)", n), fmt.Sprintf("%.0f/s; %s", m.perSecond(), r.each(m, n)),
		"1410/s; CPU 0.90, etcd 0.24 ms each", "CPU 0.85, etcd 0.24 ms each")
	r.add(fmt.Sprintf("memory with %d Pods", n), r.memory(), "443, etcd 69 MiB RSS")
	return nil
}

func (r *apiRunner) gets() error {
	n := 2 * r.sizes.objects
	m, err := getPods(r.ctx, r.server, r.set, n)
	if err == nil {
		r.add(fmt.Sprintf("GET a Pod, %d times", n), fmt.Sprintf("%.0f/s; %s", m.perSecond(), r.each(m, n)),
			"3600/s; CPU 0.28 ms each", "4110/s; CPU 0.27 ms each")
	}
	return err
}

func (r *apiRunner) lists() error {
	for _, gzip := range []bool{false, true} {
		set, err := r.server.client(r.media, gzip)
		if err != nil {
			return err
		}
		m, size, err := listPods(r.ctx, r.server, set, r.sizes.lists)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("LIST %d Pods, %.1f MB", r.sizes.objects, float64(size)/1e6)
		there := []string{"135 ms; CPU 165 ms each", "85 ms; CPU 99 ms each"}
		if gzip {
			what, there = what+", gzip", []string{"99 ms; CPU 118 ms each", "64 ms; CPU 82 ms each"}
		}
		r.add(what, fmt.Sprintf("%.0f ms; %s", m.percentile(0.5), r.each(m, m.n)), there...)
	}
	return nil
}

func (r *apiRunner) fanOut() error {
	m, err := fanOut(r.ctx, r.server, r.media, r.sizes.updates)
	if err != nil {
		return err
	}
	var used []string
	for i, d := range m.cpu {
		used = append(used, fmt.Sprintf("%s %.2f", r.server.names[i], d.Seconds()))
	}
	slices.Reverse(used)
	r.add(fmt.Sprintf("%d updates to %d watchers", r.sizes.updates, watchers),
		fmt.Sprintf("%.0f events/s; p50 %.0f, p99 %.0f ms after the PUT; CPU %s s", m.perSecond(), m.percentile(0.5), m.percentile(0.99), strings.Join(used, ", ")),
		"48000 events/s; p50 14, p99 101 ms; CPU 2.6 s", "65000 events/s; p50 9, p99 55 ms; CPU 2.0 s")
	return nil
}

func (r *apiRunner) morePods() error {
	n := r.sizes.objects
	if _, err := createPods(r.ctx, r.server, r.set, n, n); err != nil {
		return err
	}
	r.add(fmt.Sprintf("memory with %d Pods", 2*n), r.memory(), "")
	return nil
}

// recordWork is what the record is measured with: its cost is per request, per write, and per delivery.
var recordWork = []struct {
	name string
	do   func(ctx context.Context, s *server, set *kubernetes.Clientset, sizes apiSizes) (*measurement, error)
}{
	{"creates", func(ctx context.Context, s *server, set *kubernetes.Clientset, sizes apiSizes) (*measurement, error) {
		return createPods(ctx, s, set, 0, sizes.objects)
	}},
	{"GETs", func(ctx context.Context, s *server, set *kubernetes.Clientset, sizes apiSizes) (*measurement, error) {
		return getPods(ctx, s, set, 2*sizes.objects)
	}},
	{"fan-out", func(ctx context.Context, s *server, set *kubernetes.Clientset, sizes apiSizes) (*measurement, error) {
		return fanOut(ctx, s, mediaJSON, sizes.updates)
	}},
}

// benchRecord compares the apiserver with and without the record that `hyperkube trace` reads. The two take turns, and
// each pair gives ratios of its own, so that what else the machine does falls on both.
func benchRecord(binary string, sizes apiSizes) error {
	if sizes.pairs < 1 {
		return nil
	}
	ratios := make([][]float64, len(recordWork))
	sizes.objects, sizes.updates = sizes.pairObjects, min(sizes.updates, sizes.pairObjects)
	for pair := range sizes.pairs {
		var used [2][]time.Duration // off, on
		for turn := range 2 {
			on := (pair + turn) % 2 // who is first changes
			var err error
			if used[on], err = recordRun(binary, on == 1, sizes); err != nil {
				return err
			}
		}
		for i := range recordWork {
			ratios[i] = append(ratios[i], used[1][i].Seconds()/used[0][i].Seconds())
		}
	}
	fmt.Printf("\n| the record on against off, CPU of the apiserver | median of %d pairs | middle half | least to most | target |\n|---|---|---|---|---|\n", sizes.pairs)
	for i, work := range recordWork {
		slices.Sort(ratios[i])
		n := len(ratios[i])
		more := func(ratio float64) float64 { return 100 * (ratio - 1) }
		fmt.Printf("| %s | %+.1f %% | %+.1f to %+.1f %% | %+.1f to %+.1f %% | ≤ +5 %% |\n", work.name, more(median(ratios[i])),
			more(ratios[i][n/4]), more(ratios[i][n-1-n/4]), more(ratios[i][0]), more(ratios[i][n-1]))
	}
	return nil
}

// recordRun returns what each kind of work cost an apiserver, in CPU.
func recordRun(binary string, on bool, sizes apiSizes) ([]time.Duration, error) {
	buffer := "64Mi"
	if !on {
		buffer = "0"
	}
	s, err := startServer(binary, apart("--flow-buffer="+buffer))
	if err != nil {
		return nil, err
	}
	defer s.stop()
	set, err := s.client(mediaJSON, true)
	if err != nil {
		return nil, err
	}
	var used []time.Duration
	for _, work := range recordWork {
		m, err := work.do(context.Background(), s, set, sizes)
		if err != nil {
			return nil, err
		}
		used = append(used, m.cpu[len(m.cpu)-1])
	}
	return used, nil
}
