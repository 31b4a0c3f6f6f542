package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
)

// nodeSizes say how much work the node part does.
type nodeSizes struct {
	pods    int // at once, and while the kubelet's idle CPU is taken
	singles int // one after the other
	execs   int
	logMiB  int
}

// benchNode measures the node: the kubelet, with the runtime in its process, runs apart from the other components,
// so that its CPU can be told from theirs.
func benchNode(binary string, sizes nodeSizes, idle time.Duration) error {
	s, err := startServer(binary, [][]string{{"etcd"}, {"apiserver"}, {"controller-manager"}, {"scheduler"}, {"kubelet"}})
	if err != nil {
		return err
	}
	defer s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience+idle)
	defer cancel()
	n := &nodeRunner{ctx: ctx, server: s}
	if n.set, err = s.client(mediaProtobuf, false); err != nil {
		return err
	}
	defer n.leaveNothing()
	for nodeReady(ctx, n.set) != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("node Ready: %w", ctx.Err())
		}
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Print("\n| the node (kubelet and runtime in one process) | |\n|---|---|\n")
	for _, step := range []func() error{
		func() error { return n.oneByOne(sizes.singles) },
		func() error { return n.execs(sizes.execs) },
		func() error { return n.logs(sizes.logMiB) },
		func() error { return n.atOnce(sizes.pods) },
		func() error { return n.idle(sizes.pods, idle) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type nodeRunner struct {
	ctx    context.Context
	server *server
	set    *kubernetes.Clientset
}

// kubelet is the CPU that the kubelet, started last, has used so far.
func (n *nodeRunner) kubelet() time.Duration {
	used := n.server.cpu()
	return used[len(used)-1]
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
	fmt.Printf("| pod start, bound → Running, one at a time | median %.0f ms, most %.0f ms |\n", ms(median(took)), ms(took[len(took)-1]))
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
	fmt.Printf("| %d pods at once, first POST → all Running | %.1f s; kubelet and runtime %.0f ms of CPU each |\n",
		count, last.Sub(began).Seconds(), ms(n.kubelet()-before)/float64(count))
	return nil
}

// idle is what pods cost that do nothing.
func (n *nodeRunner) idle(count int, over time.Duration) error {
	time.Sleep(15 * time.Second) // what their start has set off settles
	before := n.kubelet()
	time.Sleep(over)
	var largest, sum int64
	pids := parents(n.server.dir)
	for _, pid := range pids {
		held := rss(pid)
		largest, sum = max(largest, held), sum+held
	}
	held := n.server.rss()
	fmt.Printf("| kubelet and runtime with %d idle pods | %.2f %% of a core, %d MiB RSS |\n", count, 100*(n.kubelet()-before).Seconds()/over.Seconds(), held[len(held)-1]>>20)
	fmt.Printf("| parent process of a pod, %d of them | mean %.1f MiB RSS, most %.1f |\n", len(pids), float64(sum)/float64(len(pids))/(1<<20), float64(largest)/(1<<20))
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
	fmt.Printf("| exec of `true`, a new connection each | median %.0f ms, most %.0f ms |\n", ms(median(took)), ms(took[len(took)-1]))
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
	fmt.Printf("| log of %d MiB in lines of 77 bytes, followed | %.0f MiB/s; kubelet and runtime %.1f ms of CPU per MiB |\n",
		size>>20, float64(size)/(1<<20)/time.Since(began).Seconds(), ms(n.kubelet()-before)/(float64(size)/(1<<20)))
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
		if err != nil || len(list.Items) == 0 && len(parents(n.server.dir)) == 0 {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leaveNothing ends the pods, which would outlive a kubelet that runs alone.
func (n *nodeRunner) leaveNothing() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.ctx = ctx
	if err := n.deletePods(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: pods are left behind:", err)
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
