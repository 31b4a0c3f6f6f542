package eviction

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	testingclock "k8s.io/utils/clock/testing"
)

func pointer(n uint64) *uint64 { return &n }

// podOf asks for memory in MiB and has a priority.
func podOf(name string, priority int32, request string) *v1.Pod {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "d", UID: types.UID(name)}, Spec: v1.PodSpec{Priority: &priority, Containers: []v1.Container{{Name: "c"}}}}
	if request != "" {
		pod.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceMemory: resource.MustParse(request), v1.ResourceEphemeralStorage: resource.MustParse(request)}
	}
	return pod
}

// world is a node whose figures the test sets.
type world struct {
	memory, disk, pids uint64 // left; of 1000 MiB, 1000 MiB, 1000
	pods               []*v1.Pod
	used               map[string]uint64 // MiB, by pod
	emptyDir           uint64
	images             uint64 // MiB on the disk that Reclaim frees
	evicted            []string
	grace              []int64
	status             v1.PodStatus
	clock              *testingclock.FakeClock
	recorder           *record.FakeRecorder
	m                  *Manager
}

func newWorld(t *testing.T, thresholds Thresholds) *world {
	t.Helper()
	list, err := thresholds.Parse()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{memory: 500, disk: 500, pids: 500, used: map[string]uint64{}, clock: testingclock.NewFakeClock(time.Unix(1e9, 0)), recorder: record.NewFakeRecorder(100)}
	w.m = NewManager(Config{Thresholds: list, PressureTransitionPeriod: 5 * time.Minute, MaxPodGracePeriodSeconds: 7, MonitoringInterval: 10 * time.Second,
		Summary:    func(context.Context) (*statsapi.Summary, error) { return w.summary(), nil },
		ActivePods: func() []*v1.Pod { return slices.Clone(w.pods) },
		Evict: func(_ context.Context, pod *v1.Pod, grace int64, status func(*v1.PodStatus)) {
			w.evicted, w.grace = append(w.evicted, pod.Name), append(w.grace, grace)
			status(&w.status)
			w.pods = slices.DeleteFunc(w.pods, func(p *v1.Pod) bool { return p.UID == pod.UID })
		},
		Reclaim:          func(context.Context) error { w.disk, w.images = w.disk+w.images, 0; return nil },
		DedicatedImageFs: func(context.Context) bool { return false },
		Paths:            func() Paths { return Paths{"/var/lib/node", "/var/lib/images"} },
		Changed:          func() {}, Recorder: w.recorder, Node: &v1.ObjectReference{Name: "n"}, Clock: w.clock})
	return w
}

const mib = 1 << 20

func (w *world) summary() *statsapi.Summary {
	max, now := int64(1000), int64(1000-w.pids)
	s := &statsapi.Summary{Node: statsapi.NodeStats{
		Memory:  &statsapi.MemoryStats{AvailableBytes: pointer(w.memory * mib), WorkingSetBytes: pointer((1000 - w.memory) * mib)},
		Fs:      &statsapi.FsStats{CapacityBytes: pointer(1000 * mib), AvailableBytes: pointer(w.disk * mib), Inodes: pointer(1000), InodesFree: pointer(900)},
		Runtime: &statsapi.RuntimeStats{ImageFs: &statsapi.FsStats{CapacityBytes: pointer(1000 * mib), AvailableBytes: pointer(w.disk * mib)}},
		Rlimit:  &statsapi.RlimitStats{MaxPID: &max, NumOfRunningProcesses: &now}}}
	for _, pod := range w.pods {
		used := pointer(w.used[pod.Name] * mib)
		s.Pods = append(s.Pods, statsapi.PodStats{PodRef: statsapi.PodReference{Name: pod.Name, UID: string(pod.UID)}, Memory: &statsapi.MemoryStats{WorkingSetBytes: used},
			ProcessStats: &statsapi.ProcessStats{ProcessCount: used}, EphemeralStorage: &statsapi.FsStats{UsedBytes: used},
			VolumeStats: []statsapi.VolumeStats{{Name: "scratch", FsStats: statsapi.FsStats{UsedBytes: pointer(w.emptyDir * mib)}}},
			Containers:  []statsapi.ContainerStats{{Name: "c", Memory: &statsapi.MemoryStats{WorkingSetBytes: used}, Rootfs: &statsapi.FsStats{UsedBytes: used}}}})
	}
	return s
}

func (w *world) turn(t *testing.T) { w.m.synchronize(t.Context()); w.clock.Step(10 * time.Second) }

// Who goes first: those above what they asked for, then low priority, then the
// greatest excess (upstream's ranking; R64).
func TestRanking(t *testing.T) {
	for _, c := range []struct {
		name       string
		thresholds Thresholds
		short      func(*world)
		want       string
	}{
		{"memory", Thresholds{Hard: map[string]string{"memory.available": "100Mi"}}, func(w *world) { w.memory = 50 }, "greedy-low greedy-more greedy-less modest-low modest"},
		{"disk", Thresholds{Hard: map[string]string{"nodefs.available": "10%"}}, func(w *world) { w.disk = 50 }, "greedy-low greedy-more greedy-less modest-low modest"},
		{"process numbers: nobody can ask for them", Thresholds{Hard: map[string]string{"pid.available": "100"}}, func(w *world) { w.pids = 50 }, "greedy-low modest-low greedy-more modest greedy-less"},
	} {
		w := newWorld(t, c.thresholds)
		w.pods = []*v1.Pod{podOf("modest", 10, "300Mi"), podOf("greedy-less", 10, "100Mi"), podOf("critical", 2000000000, ""), podOf("modest-low", 0, "300Mi"), podOf("greedy-low", 0, "10Mi"), podOf("greedy-more", 10, "100Mi")}
		w.used = map[string]uint64{"modest": 200, "greedy-less": 150, "critical": 900, "modest-low": 10, "greedy-low": 11, "greedy-more": 250}
		c.short(w)
		for i := range 6 {
			w.turn(t)
			if want := min(i+1, 5); len(w.evicted) != want {
				t.Errorf("%s: %d evicted after turn %d: %v", c.name, len(w.evicted), i, w.evicted)
			}
		}
		if got := strings.Join(w.evicted, " "); got != c.want {
			t.Errorf("%s: %s; want %s", c.name, got, c.want)
		}
	}
}

// A soft threshold counts after its grace, with the pod's grace bounded; a shortage
// is over when the minimum has been reclaimed; the node's pressure outlasts it.
func TestSoftThresholdAndPressure(t *testing.T) {
	w := newWorld(t, Thresholds{Soft: map[string]string{"memory.available": "20%"}, SoftGracePeriod: map[string]string{"memory.available": "30s"}, MinimumReclaim: map[string]string{"memory.available": "100Mi"}})
	w.pods = []*v1.Pod{podOf("a", 0, ""), podOf("b", 0, ""), podOf("c", 0, "")}
	w.used = map[string]uint64{"a": 300, "b": 200, "c": 100}
	under := func() bool { _, ok := w.m.Pressure(v1.NodeMemoryPressure); return ok }
	w.memory = 150
	for range 3 { // at 0, 10, 20 s
		w.turn(t)
	}
	if len(w.evicted) != 0 || !under() {
		t.Fatalf("within the grace: %v evicted, under pressure %v", w.evicted, under())
	}
	w.turn(t)
	if fmt.Sprint(w.evicted, w.grace) != "[a] [7]" {
		t.Fatalf("after the grace: %v %v", w.evicted, w.grace)
	}
	w.memory = 250 // above 200 Mi, not yet 300
	w.turn(t)
	if fmt.Sprint(w.evicted) != "[a b]" {
		t.Errorf("minimum reclaim not reached: %v", w.evicted)
	}
	w.memory = 350
	w.turn(t)
	if fmt.Sprint(w.evicted) != "[a b]" || !under() {
		t.Errorf("over: %v, under pressure %v", w.evicted, under())
	}
	message, _ := w.m.Pressure(v1.NodeMemoryPressure)
	if want := "memory.available is 250Mi of 1000Mi, less than the 200Mi that have to be left"; message != want {
		t.Errorf("message %q, want %q", message, want)
	}
	w.clock.Step(5 * time.Minute)
	w.turn(t)
	if under() {
		t.Error("the pressure stays for ever")
	}
}

// A full disk: images and dead containers first, pods only if that is not enough.
func TestReclaimBeforeEviction(t *testing.T) {
	for images, want := range map[uint64]string{100: "[]", 10: "[a]"} {
		w := newWorld(t, Thresholds{Hard: map[string]string{"nodefs.available": "10%"}})
		w.pods, w.disk, w.images = []*v1.Pod{podOf("a", 0, "")}, 50, images
		w.turn(t)
		if fmt.Sprint(w.evicted) != want {
			t.Errorf("%d MiB of images: %v, want %s", images, w.evicted, want)
		}
		if message, under := w.m.Pressure(v1.NodeDiskPressure); !under || !strings.Contains(message, "/var/lib/node") || !strings.Contains(message, "50Mi of 1000Mi") {
			t.Errorf("message %q (%v)", message, under)
		}
	}
}

// What an evicted pod's status says.
func TestEvictedStatus(t *testing.T) {
	w := newWorld(t, Thresholds{Hard: map[string]string{"memory.available": "100Mi"}})
	w.pods, w.used, w.memory = []*v1.Pod{podOf("a", 0, "10Mi")}, map[string]uint64{"a": 20}, 50
	w.turn(t)
	want := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 20Mi, request is 10Mi, has larger consumption of memory. "
	if w.status.Phase != v1.PodFailed || w.status.Reason != "Evicted" || w.status.Message != want {
		t.Errorf("%s %s %q", w.status.Phase, w.status.Reason, w.status.Message)
	}
	if c := w.status.Conditions; len(c) != 1 || c[0].Type != v1.DisruptionTarget || c[0].Reason != "TerminationByKubelet" {
		t.Errorf("conditions %+v", c)
	}
	events := ""
	for len(w.recorder.Events) > 0 {
		events += <-w.recorder.Events + "\n"
	}
	if !strings.Contains(events, "EvictionThresholdMet Attempting to reclaim memory") || !strings.Contains(events, "Evicted The node was low") {
		t.Errorf("events %s", events)
	}
}

// Local storage beyond a pod's own limits ends it, however much the node has.
func TestLocalStorage(t *testing.T) {
	size := resource.MustParse("10Mi")
	limited := func(change func(*v1.Pod)) *v1.Pod {
		pod := podOf("a", 0, "")
		change(pod)
		return pod
	}
	cases := []struct {
		name           string
		pod            *v1.Pod
		used, emptyDir uint64
		want           string
	}{
		{"no limits", podOf("a", 0, ""), 900, 900, ""},
		{"an emptyDir", limited(func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "scratch", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: &size}}}}
		}), 0, 11, `Usage of EmptyDir volume "scratch" exceeds the limit "10Mi". `},
		{"an emptyDir that is full", limited(func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "scratch", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: &size}}}}
		}), 0, 10, ""},
		{"the pod", limited(func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: size}
		}), 11, 0, "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "},
		{"a container of two", limited(func(p *v1.Pod) {
			big := resource.MustParse("1Gi")
			p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: size}
			p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "d", Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceEphemeralStorage: big}}})
		}), 11, 0, `Container c exceeded its local ephemeral storage limit "10Mi". `},
	}
	for _, c := range cases {
		w := newWorld(t, Thresholds{})
		w.pods, w.used, w.emptyDir = []*v1.Pod{c.pod}, map[string]uint64{"a": c.used}, c.emptyDir
		w.turn(t)
		if w.status.Message != c.want || (len(w.evicted) == 1) != (c.want != "") {
			t.Errorf("%s: evicted %v, %q; want %q", c.name, w.evicted, w.status.Message, c.want)
		}
	}
}

// Who may still come to a node that is short.
func TestAdmit(t *testing.T) {
	tolerant := podOf("t", 0, "")
	tolerant.Spec.Tolerations = []v1.Toleration{{Key: v1.TaintNodeMemoryPressure, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}}
	for _, c := range []struct {
		name  string
		pod   *v1.Pod
		short func(*world)
		want  string
	}{
		{"enough", podOf("p", 0, ""), func(*world) {}, ""},
		{"memory, asked for none", podOf("p", 0, ""), func(w *world) { w.memory = 1 }, "The node had condition: [MemoryPressure]. "},
		{"memory, asked for some", podOf("p", 0, "1Mi"), func(w *world) { w.memory = 1 }, ""},
		{"memory, tolerates it", tolerant, func(w *world) { w.memory = 1 }, ""},
		{"disk, asked for some", podOf("p", 0, "1Mi"), func(w *world) { w.disk = 1 }, "The node had condition: [DiskPressure]. "},
		{"disk, critical", podOf("p", 2000000000, ""), func(w *world) { w.disk = 1 }, ""},
		{"both", tolerant, func(w *world) { w.disk, w.memory = 1, 1 }, "The node had condition: [DiskPressure MemoryPressure]. "},
	} {
		w := newWorld(t, Thresholds{Hard: map[string]string{"memory.available": "100Mi", "nodefs.available": "10%"}})
		c.short(w)
		w.turn(t)
		if got := w.m.Admit(klog.Background(), c.pod); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Flags that cannot be meant are refused, with the flag's name.
func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   Thresholds
		want string // of the error; "" none
		n    int
	}{
		{Thresholds{Hard: DefaultHard()}, "", 5},
		{Thresholds{Hard: map[string]string{"memory.available": "0%", "pid.available": "5%"}}, "", 1},
		{Thresholds{Hard: map[string]string{"memory": "1"}}, "--eviction-hard: unsupported eviction signal memory", 0},
		{Thresholds{Hard: map[string]string{"memory.available": "lots"}}, "--eviction-hard: memory.available", 0},
		{Thresholds{Hard: map[string]string{"memory.available": "101%"}}, "no percentage", 0},
		{Thresholds{Soft: map[string]string{"memory.available": "1Gi"}}, "--eviction-soft-grace-period=memory.available=", 0},
		{Thresholds{Hard: DefaultHard(), MinimumReclaim: map[string]string{"disk": "1"}}, "--eviction-minimum-reclaim: disk", 0},
	} {
		list, err := c.in.Parse()
		if c.want == "" && (err != nil || len(list) != c.n) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: %d thresholds, %v; want %q", c.in, len(list), err, c.want)
		}
	}
	list, _ := Thresholds{Hard: map[string]string{"memory.available": "100Mi", "nodefs.available": "10%", "imagefs.available": "15%"}}.Parse()
	reserved := Reserved(list, v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourceEphemeralStorage: resource.MustParse("1000")})
	if names := slices.Sorted(maps.Keys(reserved)); len(names) != 2 || reserved.Memory().String() != "100Mi" || reserved.StorageEphemeral().Value() != 100 {
		t.Errorf("reserved %v", reserved)
	}
}
