package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"hyperkube/test/containerd"
)

// nodeSizes say how much work the node part does.
type nodeSizes struct {
	pods    int // at once, and while the kubelet's idle CPU is taken
	singles int // one after the other
	execs   int
	logMiB  int
}

// nodeRow is a line of the node's table, on one runtime.
type nodeRow struct{ what, result string }

// benchNode measures the node on our runtime, and where containerd is installed on that too, side by side.
func benchNode(binary string, sizes nodeSizes, idle time.Duration) error {
	ours, err := measureNode(binary, nil, sizes, idle)
	if err != nil {
		return err
	}
	missing := containerd.Missing()
	if missing != "" {
		printRows([]string{"our runtime, in the kubelet's process"}, ours)
		fmt.Printf("\nNot compared with containerd: %s\n", missing)
		return nil
	}
	dir, err := os.MkdirTemp("", "hk-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	daemon, err := containerd.Start(context.Background(), containerd.Config{Dir: dir, Hyperkube: binary, Document: "docs/containerd.md"})
	if err != nil {
		return err
	}
	theirs, err := measureNode(binary, daemon, sizes, idle)
	if err := errors.Join(err, daemon.Stop()); err != nil {
		return err
	}
	printRows([]string{"our runtime, in the kubelet's process", "containerd and runc"}, ours, theirs)
	return nil
}

// printRows prints a table with a column a runtime.
func printRows(names []string, columns ...[]nodeRow) {
	fmt.Printf("\n| the node, with | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for i, first := range columns[0] {
		fmt.Print("| " + first.what)
		for _, column := range columns {
			fmt.Print(" | " + column[i].result)
		}
		fmt.Println(" |")
	}
}

// measureNode runs the kubelet apart from the other components, so that its CPU can be told from theirs. Our runtime
// is in its process; daemon, if there is one, is the runtime instead.
func measureNode(binary string, daemon *containerd.Daemon, sizes nodeSizes, idle time.Duration) ([]nodeRow, error) {
	node := []string{"kubelet"}
	if daemon != nil {
		node = append(node, "--container-runtime-endpoint=unix://"+daemon.Socket)
	}
	s, err := startServer(binary, [][]string{{"etcd"}, {"apiserver"}, {"controller-manager"}, {"scheduler"}, node})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience+idle)
	defer cancel()
	n := &nodeRunner{ctx: ctx, server: s, daemon: daemon}
	if n.set, err = s.client(mediaProtobuf, false); err != nil {
		return nil, err
	}
	defer n.leaveNothing(binary)
	for nodeReady(ctx, n.set) != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("node Ready: %w", ctx.Err())
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, step := range []func() error{
		func() error { return n.oneByOne(sizes.singles) },
		func() error { return n.execs(sizes.execs) },
		func() error { return n.logs(sizes.logMiB) },
		func() error { return n.atOnce(sizes.pods) },
		func() error { return n.idle(sizes.pods, idle) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return n.rows, nil
}

type nodeRunner struct {
	ctx    context.Context
	server *server
	set    *kubernetes.Clientset
	daemon *containerd.Daemon // nil: our runtime, in the kubelet's process
	rows   []nodeRow
}

func (n *nodeRunner) row(what, format string, args ...any) {
	n.rows = append(n.rows, nodeRow{what, fmt.Sprintf(format, args...)})
}

// kubelet is the CPU that the kubelet, started last, and the runtime have used so far.
func (n *nodeRunner) kubelet() time.Duration {
	used := n.server.cpu()
	sum := used[len(used)-1]
	if n.daemon != nil {
		sum += cpu([]int{n.daemon.PID()})
	}
	return sum
}

// holders are the processes that each hold a pod: ours, or containerd's shim and the pause process.
func (n *nodeRunner) holders() []int {
	if n.daemon == nil {
		return parents(n.server.dir)
	}
	return shims(n.daemon.Socket)
}

// times are when a pod was seen with a node, and Running.
type times struct{ bound, running time.Time }

// follow watches the pods until count of them run.
func (n *nodeRunner) follow(count int) (func() (map[string]times, error), error) {
	list, err := n.set.CoreV1().Pods(namespace).List(n.ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	events, err := n.set.CoreV1().Pods(namespace).Watch(n.ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, err
	}
	return func() (map[string]times, error) {
		defer events.Stop()
		seen, running := map[string]times{}, 0
		for event := range events.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type == watch.Deleted || pod.DeletionTimestamp != nil {
				continue
			}
			t := seen[pod.Name]
			if t.bound.IsZero() && pod.Spec.NodeName != "" {
				t.bound = time.Now()
			}
			if t.running.IsZero() && pod.Status.Phase == corev1.PodRunning {
				t.running = time.Now()
				running++
			}
			if seen[pod.Name] = t; running == count {
				return seen, nil
			}
		}
		return nil, fmt.Errorf("%d of %d pods run: %w", running, count, n.ctx.Err())
	}, nil
}

func (n *nodeRunner) create(name string, command ...string) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64), RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{Name: "demo", Image: "hyperkube.local/demo", Command: command}}},
	}
	_, err := n.set.CoreV1().Pods(namespace).Create(n.ctx, pod, metav1.CreateOptions{})
	return err
}

// run creates pods and waits until they run.
func (n *nodeRunner) run(prefix string, count int) (map[string]times, error) {
	wait, err := n.follow(count)
	if err != nil {
		return nil, err
	}
	for i := range count {
		if err := n.create(fmt.Sprintf("%s-%03d", prefix, i)); err != nil {
			return nil, err
		}
	}
	return wait()
}

// oneByOne is how long a pod takes from its binding to Running, on an idle node.
func (n *nodeRunner) oneByOne(count int) error {
	var took []time.Duration
	for i := range count {
		seen, err := n.run(fmt.Sprintf("single-%03d", i), 1)
		if err != nil {
			return err
		}
		for _, t := range seen {
			took = append(took, t.running.Sub(t.bound))
		}
	}
	slices.Sort(took)
	n.row("pod start, bound → Running, one at a time", "median %.0f ms, most %.0f ms", ms(median(took)), ms(took[len(took)-1]))
	return nil
}

// atOnce is how long many pods take that are created at once, and what that costs the kubelet and the runtime.
func (n *nodeRunner) atOnce(count int) error {
	if err := n.deletePods(); err != nil {
		return err
	}
	before, began := n.kubelet(), time.Now()
	seen, err := n.run("many", count)
	if err != nil {
		return err
	}
	var last time.Time
	for _, t := range seen {
		if t.running.After(last) {
			last = t.running
		}
	}
	n.row(fmt.Sprintf("%d pods at once, first POST → all Running", count), "%.1f s; kubelet and runtime %.0f ms of CPU each",
		last.Sub(began).Seconds(), ms(n.kubelet()-before)/float64(count))
	return nil
}

// idle is what pods cost that do nothing.
func (n *nodeRunner) idle(count int, over time.Duration) error {
	time.Sleep(15 * time.Second) // what their start has set off settles
	before := n.kubelet()
	time.Sleep(over)
	var largest, sum int64
	pids := n.holders()
	for _, pid := range pids {
		held := heldBy(pid)
		largest, sum = max(largest, held), sum+held
	}
	held := n.server.rss()
	inUse := held[len(held)-1]
	if n.daemon != nil {
		inUse += rss(n.daemon.PID())
	}
	n.row(fmt.Sprintf("kubelet and runtime with %d idle pods", count), "%.2f %% of a core, %d MiB RSS", 100*(n.kubelet()-before).Seconds()/over.Seconds(), inUse>>20)
	n.row(fmt.Sprintf("what holds a pod, %d times: our parent process, or shim and pause", len(pids)), "mean %.1f MiB RSS, most %.1f", float64(sum)/float64(len(pids))/(1<<20), float64(largest)/(1<<20))
	return nil
}

// execs is the round trip of a command in a container: apiserver, kubelet, runtime and back.
func (n *nodeRunner) execs(count int) error {
	if _, err := n.run("exec", 1); err != nil {
		return err
	}
	var took []time.Duration
	for range count {
		began := time.Now()
		request := n.set.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name("exec-000").SubResource("exec").
			VersionedParams(&corev1.PodExecOptions{Command: []string{"true"}, Stdout: true}, scheme.ParameterCodec)
		executor, err := remotecommand.NewWebSocketExecutor(n.server.config, http.MethodGet, request.URL().String())
		if err != nil {
			return err
		}
		if err := executor.StreamWithContext(n.ctx, remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
			return fmt.Errorf("exec: %w", err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	n.row("exec of `true`, a new connection each", "median %.0f ms, most %.0f ms", ms(median(took)), ms(took[len(took)-1]))
	return nil
}

// logs is how fast a container's output goes through the log file to a client that follows it.
func (n *nodeRunner) logs(mib int) error {
	wait, err := n.follow(1)
	if err != nil {
		return err
	}
	before := n.kubelet()
	const lines, length = 13618, 4*19 + 1 // a MiB of them
	script := fmt.Sprintf(`seq 1000000000000000001 1000000000000%06d | sed 's/.*/&&&&/' > /tmp/lines
i=0; while [ $i -lt %d ]; do cat /tmp/lines; i=$((i+1)); done; sleep 1000000`, lines, mib)
	if err := n.create("log", "sh", "-c", script); err != nil {
		return err
	}
	if _, err := wait(); err != nil {
		return err
	}
	began := time.Now()
	limit := int64(mib * lines * length)
	stream, err := n.set.CoreV1().Pods(namespace).GetLogs("log", &corev1.PodLogOptions{Follow: true, LimitBytes: &limit}).Stream(n.ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	size, err := io.Copy(io.Discard, stream)
	if err != nil {
		return err
	}
	n.row(fmt.Sprintf("log of %d MiB in lines of 77 bytes, followed", size>>20), "%.0f MiB/s; kubelet and runtime %.1f ms of CPU per MiB",
		float64(size)/(1<<20)/time.Since(began).Seconds(), ms(n.kubelet()-before)/(float64(size)/(1<<20)))
	return nil
}

// deletePods ends all pods and waits until they are gone.
func (n *nodeRunner) deletePods() error {
	pods := n.set.CoreV1().Pods(namespace)
	if err := pods.DeleteCollection(n.ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}); err != nil {
		return err
	}
	for {
		list, err := pods.List(n.ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) == 0 && len(n.holders()) == 0 {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leaveNothing ends the pods, which would outlive a kubelet that runs alone, and removes the bridge and the cgroups,
// which would be in the way of the next runtime.
func (n *nodeRunner) leaveNothing(binary string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.ctx = ctx
	if err := n.deletePods(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: pods are left behind:", err)
	}
	n.server.end()
	if out, err := exec.Command(binary, "reset", "--keep-data", "--data-dir="+n.server.dir).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: reset: %v: %s", err, out)
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// shims are the pids of containerd's shims, one a pod.
func shims(socket string) []int {
	return pids(func(argv []string) bool {
		return strings.HasSuffix(argv[0], "containerd-shim-runc-v2") && slices.Contains(argv, socket)
	})
}

// heldBy is the memory of a process that holds a pod, and that of a pause process which is its child.
func heldBy(pid int) int64 {
	sum := rss(pid)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return sum
	}
	for _, child := range strings.Fields(string(children)) {
		if argv, err := os.ReadFile("/proc/" + child + "/cmdline"); err == nil && strings.HasPrefix(string(argv), "/bin/pause") {
			if pid, err := strconv.Atoi(child); err == nil {
				sum += rss(pid)
			}
		}
	}
	return sum
}

// pids are those of the processes whose arguments are such.
func pids(such func(argv []string) bool) []int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	var found []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || len(data) == 0 || !such(strings.Split(string(data), "\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			found = append(found, pid)
		}
	}
	return found
}
