package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// bare is etcd and the apiserver in one process, as most run them, with nobody else to do anything.
var bare = [][]string{{"all", "--disable=controller-manager,scheduler,kubelet,cri,proxy,dns"}}

// schedulingSizes say how much work the scheduling part does.
type schedulingSizes struct {
	nodes     int // of the three kinds of pods
	pods      int // plain ones; a tenth of them with anti-affinity, a fifth with topology spread
	replicas  int // of the Deployment
	moreNodes []int
}

func (s *schedulingSizes) parseMoreNodes(text string) error {
	s.moreNodes = nil
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n <= 0 {
			return errors.New("want numbers above 0, like 100,1000,5000")
		}
		s.moreNodes = append(s.moreNodes, n)
	}
	return nil
}

// benchScheduling measures the scheduler apart from the other components: all pods are there before it starts, so
// that neither their creation nor a client competes with it, and its CPU includes its start. Then it asks how the
// cost of a pod grows with the nodes, and how long a Deployment takes with the controllers in it.
func benchScheduling(binary string, sizes schedulingSizes) error {
	fmt.Printf("\n| scheduling on %d nodes of 32 CPU | here | kube-scheduler v1.36.3 |\n|---|---|---|\n", sizes.nodes)
	for _, kind := range []struct {
		what  string
		n     int
		shape func(*corev1.Pod)
		there string
	}{
		{"plain pods", sizes.pods, func(*corev1.Pod) {}, "519/s; 1.7 ms each"},
		{"pods with hostname anti-affinity", sizes.pods / 10, keepApart, "273/s; 3.9 ms each"},
		{"pods with zone topology spread", sizes.pods / 5, spread, "315/s; 3.1 ms each"},
	} {
		done, err := schedule(binary, sizes.nodes, kind.n, kind.shape)
		if err != nil {
			return fmt.Errorf("scheduling %s: %w", kind.what, err)
		}
		fmt.Printf("| %d %s | %.0f/s; %s | %s |\n", kind.n, kind.what, done.perSecond, done.each(), kind.there)
	}
	fmt.Printf("\n| nodes | CPU of %d plain pods | pods/s |\n|---|---|---|\n", sizes.pods)
	for _, nodes := range sizes.moreNodes {
		done, err := schedule(binary, nodes, sizes.pods, func(*corev1.Pod) {})
		if err != nil {
			return fmt.Errorf("%d nodes: %w", nodes, err)
		}
		fmt.Printf("| %d | %s | %.0f |\n", nodes, done.each(), done.perSecond)
	}
	return nil
}

// scheduled is how fast pods were bound, from the first to the last, and the CPU per pod in milliseconds; the scheduler's
// includes its start.
type scheduled struct{ perSecond, scheduler, apiserver float64 }

func (s *scheduled) each() string {
	return fmt.Sprintf("CPU %.2f ms each (apiserver with etcd %.2f)", s.scheduler, s.apiserver)
}

// schedule creates nodes and pods, then starts a scheduler.
func schedule(binary string, nodes, pods int, shape func(*corev1.Pod)) (*scheduled, error) {
	s, err := startServer(binary, bare)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	set, err := s.client(mediaProtobuf, false)
	if err != nil {
		return nil, err
	}
	if err := createNodes(ctx, s, set, nodes); err != nil {
		return nil, err
	}
	if _, err := measure(s, pods, workers, func(i int) error {
		pod := benchPod(i)
		pod.Spec.SchedulerName = ""
		shape(pod)
		_, err := set.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err
	}); err != nil {
		return nil, err
	}
	bound, err := watchBound(ctx, set)
	if err != nil {
		return nil, err
	}
	before := s.cpu()
	if err := s.start(binary, "scheduler"); err != nil {
		return nil, err
	}
	first, last, err := bound(pods)
	if err != nil {
		return nil, err
	}
	used := since(append(before, 0), s.cpu()) // of the server and the scheduler
	each := func(i int) float64 { return ms(used[i]) / float64(pods) }
	return &scheduled{float64(pods-1) / last.Sub(first).Seconds(), each(1), each(0)}, nil
}

// benchDeployments measures one Deployment of many replicas, several times: the median and the least, since the whole takes a second
// in which anything else on the machine shows.
func benchDeployments(binary string, runs, replicas int) error {
	fmt.Printf("\n| a Deployment over 100 nodes | POST to all bound: median (least) of %d | CPU a pod | known |\n|---|---|---|---|\n", runs)
	var took, apiserver, manager, scheduler []float64
	for range runs {
		done, err := deployment(binary, 100, replicas)
		if err != nil {
			return fmt.Errorf("deployment: %w", err)
		}
		took = append(took, done.took.Seconds())
		apiserver, manager, scheduler = append(apiserver, done.each(0)), append(manager, done.each(1)), append(scheduler, done.each(2))
	}
	for _, values := range [][]float64{took, apiserver, manager, scheduler} {
		slices.Sort(values)
	}
	fmt.Printf("| %d replicas | %.2f s (%.2f) | apiserver with etcd %.2f ms, controller-manager %.2f, scheduler %.2f | kube-scheduler v1.36.3: 1.65 s at 5,000 QPS; 24.0 s at the default limits |\n",
		replicas, median(took), took[0], median(apiserver), median(manager), median(scheduler))
	return nil
}

// deployed is how long a Deployment took, and the CPU that the apiserver, the controllers and the scheduler used meanwhile.
type deployed struct {
	replicas int
	took     time.Duration
	cpu      []time.Duration
}

func (d *deployed) each(i int) float64 { return ms(d.cpu[i]) / float64(d.replicas) }

// deployment takes the time from the POST of a Deployment to the binding of its last pod.
func deployment(binary string, nodes, replicas int) (*deployed, error) {
	s, err := startServer(binary, bare)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	set, err := s.client(mediaProtobuf, false)
	if err != nil {
		return nil, err
	}
	if err := createNodes(ctx, s, set, nodes); err != nil {
		return nil, err
	}
	for _, component := range []string{"controller-manager", "scheduler"} {
		if err := s.start(binary, component); err != nil {
			return nil, err
		}
	}
	// One replica first: both components are at work when it is bound.
	if _, err := deployOnce(ctx, s, set, 0, 1); err != nil {
		return nil, err
	}
	return deployOnce(ctx, s, set, 1, replicas)
}

func deployOnce(ctx context.Context, s *server, set kubernetes.Interface, number, replicas int) (*deployed, error) {
	bound, err := watchBound(ctx, set)
	if err != nil {
		return nil, err
	}
	before, began := s.cpu(), time.Now()
	if _, err := set.AppsV1().Deployments(namespace).Create(ctx, benchDeployment(number, replicas), metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	_, last, err := bound(replicas)
	if err != nil {
		return nil, err
	}
	return &deployed{replicas, last.Sub(began), since(before, s.cpu())}, nil
}

func benchDeployment(number, replicas int) *appsv1.Deployment {
	pod, count := benchPod(number), int32(replicas)
	pod.Name, pod.Spec.SchedulerName = "", ""
	pod.Labels = map[string]string{"deployment": strconv.Itoa(number)}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bench-%d", number)},
		Spec: appsv1.DeploymentSpec{Replicas: &count, Selector: &metav1.LabelSelector{MatchLabels: pod.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}},
	}
}

// createNodes makes nodes of 32 CPU in three zones, Ready for as long as a bench takes.
func createNodes(ctx context.Context, s *server, set kubernetes.Interface, n int) error {
	size := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110")}
	_, err := measure(s, n, workers, func(i int) error {
		name, now := fmt.Sprintf("node-%05d", i), metav1.Now()
		node, err := set.CoreV1().Nodes().Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%3)}},
			Status: corev1.NodeStatus{Capacity: size, Allocatable: size,
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now, LastTransitionTime: now}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		node.Spec.Taints = nil // admission puts the not-ready taint on, and no controller is here to take it off
		_, err = set.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
	return err
}

// watchBound begins to watch for pods that get a node. The function it returns waits for n of them, and says when
// the first and the last came.
func watchBound(ctx context.Context, set kubernetes.Interface) (func(n int) (first, last time.Time, err error), error) {
	options := metav1.ListOptions{FieldSelector: fields.OneTermNotEqualSelector("spec.nodeName", "").String()}
	list, err := set.CoreV1().Pods(namespace).List(ctx, options)
	if err != nil {
		return nil, err
	}
	options.ResourceVersion = list.ResourceVersion
	events, err := set.CoreV1().Pods(namespace).Watch(ctx, options)
	if err != nil {
		return nil, err
	}
	return func(n int) (first, last time.Time, err error) {
		defer events.Stop()
		bound := 0
		for event := range events.ResultChan() {
			if event.Type != watch.Added { // it is added to what the selector takes when it gets its node
				continue
			}
			if bound++; bound == 1 {
				first = time.Now()
			}
			if bound == n {
				return first, time.Now(), nil
			}
		}
		return first, last, fmt.Errorf("%d of %d pods were bound: %w", bound, n, context.Cause(ctx))
	}, nil
}

// keepApart lets no two of the pods be on one node.
func keepApart(pod *corev1.Pod) {
	pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
		TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: pod.Labels},
	}}}}
}

// spread lets no zone have more than one pod above another.
func spread(pod *corev1.Pod) {
	pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: pod.Labels},
	}}
}
