// Command bench measures what a user of `hyperkube all` waits and pays for, on the
// built binary, in a network namespace of its own:
//
//	empty directory → API ready → node Ready → first pod Running → DNS answers
//	idle memory (all processes) and CPU, binary size, memory of a pod's parent
//
// what a pod's start, a command in it and its log take, and what idle pods cost, on containerd too where it is installed (node.go);
// and what the apiserver does for how much CPU and memory, with this process as its
// client on loopback (api.go):
//
//	creates, GETs, LISTs, a watch fan-out; JSON and protobuf; the record on and off
//
// and what the scheduler and the controllers do on nodes that are only objects (scheduling.go):
//
//	plain pods, anti-affinity, topology spread; a large Deployment; how a pod's cost grows with the nodes
//
// It repeats the start (-n) and prints medians and least values. Times on a shared
// machine are noisy: compare runs of one session, side by side. CPU is idle CPU:
// nothing is asked of the cluster while it is taken.
//
// In Kubernetes the same questions are asked by test/e2e/scalability and
// perf-tests, of clusters rather than of a laptop.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const patience = 2 * time.Minute

func main() {
	runs := flag.Int("n", 3, "how many starts")
	idle := flag.Duration("idle", 30*time.Second, "over how long idle CPU is taken")
	binary := flag.String("binary", "bin/hyperkube", "the program to measure")
	parts := flag.String("parts", "start,node,api,scheduling,deployment", "what to measure: start, node, api, scheduling, deployment")
	var sizes apiSizes
	flag.IntVar(&sizes.objects, "objects", 5000, "API: how many ConfigMaps and Pods to create")
	flag.IntVar(&sizes.updates, "updates", 1000, "API: how many updates the watchers see; not more than objects")
	flag.IntVar(&sizes.lists, "lists", 10, "API: how often to list")
	flag.IntVar(&sizes.pairs, "pairs", 7, "API: how often to compare the record on and off; 0: not at all")
	flag.IntVar(&sizes.pairObjects, "pair-objects", 2000, "API: how many Pods to create for each side of a pair")
	scheduling := schedulingSizes{moreNodes: []int{100, 1000, 5000}}
	flag.IntVar(&scheduling.nodes, "nodes", 1000, "scheduling: how many nodes")
	flag.IntVar(&scheduling.pods, "pods", 5000, "scheduling: how many plain pods; a tenth with anti-affinity, a fifth with spread")
	flag.IntVar(&scheduling.replicas, "replicas", 500, "deployment: of one over 100 nodes")
	var node nodeSizes
	flag.IntVar(&node.pods, "node-pods", 100, "node: how many pods at once")
	flag.IntVar(&node.singles, "node-singles", 20, "node: how many pods one after the other")
	flag.IntVar(&node.execs, "node-execs", 30, "node: how many commands in a container")
	flag.IntVar(&node.logMiB, "node-log", 50, "node: MiB of log")
	flag.Func("more-nodes", "scheduling: numbers of nodes to compare (default 100,1000,5000); each takes at most 110 pods", scheduling.parseMoreNodes)
	flag.Parse()
	err := bench(*parts, map[string]func() error{
		"start":      func() error { return benchStart(*binary, *runs, *idle) },
		"node":       func() error { return benchNode(*binary, node, *idle) },
		"api":        func() error { return benchAPI(*binary, sizes) },
		"scheduling": func() error { return benchScheduling(*binary, scheduling) },
		"deployment": func() error { return benchDeployments(*binary, *runs, scheduling.replicas) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench measures the parts that are named, in namespaces of its own.
func bench(names string, parts map[string]func() error) error {
	if os.Getenv("HYPERKUBE_BENCH_INSIDE") == "" {
		return again()
	}
	if err := prepareNetwork(); err != nil {
		return err
	}
	for name := range strings.SplitSeq(names, ",") {
		part := parts[name]
		if part == nil {
			return fmt.Errorf("-parts: there is no part %q", name)
		}
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func benchStart(binary string, runs int, idle time.Duration) error {
	var all []*figures
	for i := range runs {
		f, err := measureStart(binary, i == runs-1, idle)
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	report(binary, all)
	return nil
}

// again runs the program once more in network and mount namespaces of its own.
func again() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, for namespaces and containers")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), "HYPERKUBE_BENCH_INSIDE=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

func prepareNetwork() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	uplink := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink0"}, PeerName: "router0"}
	if err := netlink.LinkAdd(uplink); err != nil {
		return err
	}
	address, err := netlink.ParseAddr("192.0.2.10/24")
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(uplink, address), netlink.LinkSetUp(uplink)); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.ParseIP("192.0.2.1")})
}

// figures are those of one start. Times count from the start of the process.
type figures struct {
	api, node, pod, dns time.Duration
	idleCPU             float64 // share of one core
	wakeups             float64 // times a second that one of its threads went to sleep
	rss, parentRSS      int64   // bytes
	processes           int
	goroutines          string
}

func measureStart(binary string, withIdle bool, idle time.Duration) (*figures, error) {
	dir, err := os.MkdirTemp("", "hk-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	log, err := os.Create(dir + ".log")
	if err != nil {
		return nil, err
	}
	defer os.Remove(log.Name())
	defer log.Close()

	cmd := exec.Command(binary, "all", "--data-dir="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}()
	f := &figures{}
	if err := f.start(binary, dir, began); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	if withIdle {
		return f, f.idle(binary, dir, cmd.Process.Pid, idle)
	}
	return f, nil
}

// start waits for each stage and notes its time.
func (f *figures) start(binary, dir string, began time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var set *kubernetes.Clientset
	stages := []struct {
		what string
		took *time.Duration
		try  func() error
	}{
		{"API ready", &f.api, func() error {
			config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "admin.kubeconfig"))
			if err != nil {
				return err
			}
			config.QPS = -1
			if set, err = kubernetes.NewForConfig(config); err != nil {
				return err
			}
			return set.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		}},
		{"node Ready", &f.node, func() error { return nodeReady(ctx, set) }},
		{"pod Running", &f.pod, func() error { return podRunning(ctx, set) }},
		{"DNS answering", &f.dns, func() error {
			return exec.Command(binary, "kubectl", "--data-dir="+dir, "exec", "bench", "--", "nslookup", "kubernetes.default").Run()
		}},
	}
	for _, stage := range stages {
		for {
			err := stage.try()
			if err == nil {
				*stage.took = time.Since(began)
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", stage.what, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

func nodeReady(ctx context.Context, set *kubernetes.Clientset) error {
	nodes, err := set.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range nodes.Items {
		for _, c := range nodes.Items[i].Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
	}
	return errors.New("not Ready")
}

func podRunning(ctx context.Context, set *kubernetes.Clientset) error {
	pods := set.CoreV1().Pods("default")
	pod, err := pods.Get(ctx, "bench", metav1.GetOptions{})
	if err != nil {
		_, err := pods.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "bench"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "demo", Image: "hyperkube.local/demo"}}},
		}, metav1.CreateOptions{})
		if err == nil {
			err = errors.New("just created")
		}
		return err
	}
	if pod.Status.Phase != corev1.PodRunning {
		return errors.New(string(pod.Status.Phase))
	}
	return nil
}

// idle takes memory and CPU of a cluster without pods; before that, the memory of
// the parent of one pod.
func (f *figures) idle(binary, dir string, pid int, over time.Duration) error {
	time.Sleep(2 * time.Second) // the parent has nothing more to do
	for _, p := range parents(dir) {
		f.parentRSS = max(f.parentRSS, rss(p))
	}
	if err := exec.Command(binary, "kubectl", "--data-dir="+dir, "delete", "pod", "bench", "--now").Run(); err != nil {
		return err
	}
	time.Sleep(15 * time.Second) // what start and deletion have set off settles
	pids := append(parents(dir), pid)
	cpuBefore, sleepsBefore := cpu(pids), sleeps(pid)
	began := time.Now()
	time.Sleep(over)
	took := time.Since(began).Seconds()
	f.idleCPU = (cpu(pids) - cpuBefore).Seconds() / took
	f.wakeups = (sleeps(pid) - sleepsBefore) / took
	for _, p := range pids {
		f.rss += rss(p)
	}
	f.processes = len(pids)
	var err error
	f.goroutines, err = goroutines(filepath.Join(dir, "run", "etcd.sock"))
	return err
}

// goroutines are those of the process behind a component's socket.
func goroutines(socket string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	response, err := client.Get("http://component/debug/pprof/goroutine?debug=1")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	line, err := bufio.NewReader(response.Body).ReadString('\n') // goroutine profile: total 812
	return strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), err
}

// parents are the processes that hold the pods of the cluster in dir.
func parents(dir string) []int {
	return pids(func(argv []string) bool {
		return strings.HasPrefix(argv[0], "podparent") && strings.Contains(strings.Join(argv, " "), dir)
	})
}

func rss(pid int) int64 {
	return status(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") << 10 // KiB
}

// sleeps is how often the threads of pid have gone to sleep so far: each time something woke them.
func sleeps(pid int) float64 {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0
	}
	sum := int64(0)
	for _, file := range tasks {
		sum += status(file, "voluntary_ctxt_switches:")
	}
	return float64(sum)
}

// status is a number of a process's or thread's status file; 0 when it has ended.
func status(file, name string) int64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == name {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n
		}
	}
	return 0
}

// cpu is the user and system time of pids so far, in the kernel's ticks of 10 ms.
func cpu(pids []int) time.Duration {
	var ticks int64
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The second field, a name in brackets, may contain blanks.
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		user, _ := strconv.ParseInt(fields[11], 10, 64)
		system, _ := strconv.ParseInt(fields[12], 10, 64)
		ticks += user + system
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// median of sorted values: of an even number, the mean of the two in the middle.
func median[T float64 | time.Duration](sorted []T) T {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func report(binary string, all []*figures) {
	stages := []struct {
		name string
		of   func(*figures) time.Duration
	}{
		{"empty directory → API ready", func(f *figures) time.Duration { return f.api }},
		{"                → node Ready", func(f *figures) time.Duration { return f.node }},
		{"                → pod Running", func(f *figures) time.Duration { return f.pod }},
		{"                → DNS answering", func(f *figures) time.Duration { return f.dns }},
	}
	fmt.Printf("%d starts                           median     least\n", len(all))
	for _, stage := range stages {
		var values []time.Duration
		for _, f := range all {
			values = append(values, stage.of(f))
		}
		slices.Sort(values)
		fmt.Printf("%-34s%6.2f s  %6.2f s\n", stage.name, median(values).Seconds(), values[0].Seconds())
	}
	last := all[len(all)-1]
	size := int64(0)
	if info, err := os.Stat(binary); err == nil {
		size = info.Size()
	}
	const mib = 1 << 20
	fmt.Printf("idle memory, %d process(es)        %6.1f MiB RSS\n", last.processes, float64(last.rss)/mib)
	fmt.Printf("idle CPU                          %6.2f %% of a core (%.0f wakeups/s, %s goroutines)\n", 100*last.idleCPU, last.wakeups, last.goroutines)
	fmt.Printf("parent process of a pod           %6.1f MiB RSS\n", float64(last.parentRSS)/mib)
	fmt.Printf("binary                            %6.1f MiB\n", float64(size)/mib)
}
