package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"hyperkube/controllers"
	"hyperkube/test/integration"
)

// model is what the specs say now, and the world in which the controllers make it true.
type model struct {
	*world
	cluster *integration.Cluster
	// restart ends the controller manager, if one runs, and starts another.
	restart func()
	// replicas are those of Deployments and StatefulSets; parallelism that of Jobs, which have
	// completions of twice as many.
	deployments, statefulSets, jobs map[string]int32
	next                            int
	done                            []string
}

const maxSurge, guarded, guardedAtLeast = 2, "guarded", 2

// Random creates, scales, rollouts, failures, deletions, evictions, lost nodes and restarts of
// the controller manager: on the way no workload has more pods than it may, nor does eviction
// take one below its budget, ordered pods come and go in their order, a node has one pod of the daemon and nothing is completed twice;
// afterwards there is what the specs say, and nothing else. A
// failure prints the seed: MODEL_SEED=n repeats it.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MODEL_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(seed, 1))
	cluster := integration.Start(t)
	m := &model{world: newWorld(t, cluster.Client, random, 4), cluster: cluster, restart: restarter(t, cluster),
		deployments: map[string]int32{}, statefulSets: map[string]int32{}, jobs: map[string]int32{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("MODEL_SEED=%d; what was done:\n%s", seed, strings.Join(m.done, "\n"))
		}
	})
	m.restart()
	m.begin()
	for range 3 {
		for range 30 {
			m.step()
			m.letPass(m.chance(6))
		}
		m.open()
		m.converge()
		m.calmRollout()
		if wrong := append(m.overfull(), m.violations...); len(wrong) > 0 {
			t.Fatal(strings.Join(wrong, "\n"))
		}
	}
}

// restarter returns a function that runs a new controller manager in the place of the last.
func restarter(t *testing.T, cluster *integration.Cluster) func() {
	stop, clock := func() {}, newFastClock(20)
	t.Cleanup(func() { stop() })
	return func() {
		stop()
		config := controllers.Config{RESTConfig: asControllerManager(cluster), RootCA: []byte("-----CA-----"), Clock: clock,
			NodeMonitorGracePeriod: 24 * time.Hour} // no kubelet renews a Lease here
		whole := &wholeWrites{}
		config.RESTConfig.Wrap(func(next http.RoundTripper) http.RoundTripper { whole.next = next; return whole })
		config.Client = kubernetes.NewForConfigOrDie(config.RESTConfig)
		manager, err := controllers.New(config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), silent))
		done := make(chan error, 1)
		go func() { done <- manager.Run(ctx) }()
		stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("manager: %v", err)
			}
			whole.end()
		})
	}
}

// wholeWrites ends each write that has begun, whatever becomes of who asked for it. A write that
// is given up may still happen later, after the next manager has counted the pods; of that
// nobody can know, and one pod too many for a moment is no mistake then.
type wholeWrites struct {
	next http.RoundTripper
	// underWay is held for reading by each write.
	underWay sync.RWMutex
	ended    bool
}

func (w *wholeWrites) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		return w.next.RoundTrip(r)
	}
	w.underWay.RLock()
	defer w.underWay.RUnlock()
	if w.ended || r.Context().Err() != nil {
		return nil, context.Canceled
	}
	return w.next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
}

// end waits for the writes that are under way, and lets no other begin.
func (w *wholeWrites) end() {
	w.underWay.Lock()
	defer w.underWay.Unlock()
	w.ended = true
}

// chance is a random number below n.
func (m *model) chance(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

func (m *model) did(format string, args ...any) {
	m.done = append(m.done, fmt.Sprintf(format, args...))
}

// must takes errors of the model's own writes; what has gone, or changed meanwhile, is none.
func (m *model) must(err error) {
	m.t.Helper()
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		m.t.Errorf("%s: %v", m.done[len(m.done)-1], err)
	}
}

func (m *model) name(kind string) string {
	m.next++
	return fmt.Sprint(kind, "-", m.next)
}

// begin makes one of each, and the guarded Deployment, of which pods go by eviction only.
func (m *model) begin() {
	eventually(m.t, "default account", func() error {
		_, err := m.client.CoreV1().ServiceAccounts("default").Get(m.t.Context(), "default", metav1.GetOptions{})
		return err
	})
	m.did("begin")
	m.createDeployment(guarded)
	_, err := m.client.PolicyV1().PodDisruptionBudgets("default").Create(m.t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: guarded},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(guardedAtLeast)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{modelLabel: guarded}}}}, metav1.CreateOptions{})
	m.must(err)
	m.settle(guarded, 6+maxSurge, guardedAtLeast)
	m.createDeployment(m.name("deploy"))
	m.createStatefulSet(appsv1.OrderedReadyPodManagement)
	m.createStatefulSet(appsv1.ParallelPodManagement)
	m.createJob()
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "daemon"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{modelLabel: "daemon"}}, Template: modelTemplate("daemon")}}
	_, err = m.client.AppsV1().DaemonSets("default").Create(m.t.Context(), set, metav1.CreateOptions{})
	m.must(err)
	m.bound("daemon", len(m.nodes))
}

func modelTemplate(name string) corev1.PodTemplateSpec {
	t := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{modelLabel: name}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "one"}}, TerminationGracePeriodSeconds: ptr.To[int64](1)}}
	if name == guarded {
		t.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
	return t
}

func (m *model) createDeployment(name string) {
	replicas := int32(3 + m.chance(4))
	m.bound(name, int(replicas)+maxSurge)
	m.deployments[name] = replicas
	m.did("create deployment %s of %d", name, replicas)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{modelLabel: name}}, Template: modelTemplate(name),
		RevisionHistoryLimit: ptr.To[int32](2),
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: ptr.To(intstr.FromInt32(maxSurge)), MaxUnavailable: ptr.To(intstr.FromInt32(1))}}}}
	_, err := m.client.AppsV1().Deployments("default").Create(m.t.Context(), d, metav1.CreateOptions{})
	m.must(err)
}

func (m *model) createStatefulSet(policy appsv1.PodManagementPolicyType) {
	name, replicas := m.name("state"), int32(1+m.chance(4))
	m.bound(name, int(replicas))
	m.statefulSets[name] = replicas
	if policy == appsv1.OrderedReadyPodManagement {
		m.orderly(name)
	}
	m.did("create stateful set %s of %d, %s", name, replicas, policy)
	s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{modelLabel: name}}, Template: modelTemplate(name),
		ServiceName: "none", PodManagementPolicy: policy}}
	_, err := m.client.AppsV1().StatefulSets("default").Create(m.t.Context(), s, metav1.CreateOptions{})
	m.must(err)
}

func (m *model) createJob() {
	name, parallelism := m.name("job"), int32(1+m.chance(3))
	m.bound(name, int(parallelism))
	m.jobs[name] = parallelism
	mode := []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}[m.chance(2)]
	m.completes(name, int(2*parallelism))
	m.did("create job %s with %d at once, %s", name, parallelism, mode)
	pod := modelTemplate(name)
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
		Parallelism: &parallelism, Completions: ptr.To(2 * parallelism), CompletionMode: &mode, BackoffLimit: ptr.To[int32](1000), Template: pod}}
	_, err := m.client.BatchV1().Jobs("default").Create(m.t.Context(), job, metav1.CreateOptions{})
	m.must(err)
}

// step does one thing at random.
func (m *model) step() {
	actions := []func(){
		m.scale, m.scale, m.scale, m.rollOut, m.rollOut, m.deletePod, m.deletePod, m.failPod, m.failPod, m.evict, m.evict, m.evict,
		m.loseNode, m.loseNode, m.open, m.deleteWorkload,
		func() { m.did("restart the manager"); m.restart() },
		func() {
			if len(m.jobs) < 4 {
				m.createJob()
			}
		},
	}
	actions[m.chance(len(actions))]()
}

// one is a random key, in an order that the seed repeats.
func (m *model) one(of map[string]int32, but string) string {
	var names []string
	for name := range of {
		if name != but {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return ""
	}
	return names[m.chance(len(names))]
}

func (m *model) scale() {
	replicas := int32(m.chance(7))
	patch := []byte(fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas))
	if m.chance(3) == 0 {
		name := m.one(m.statefulSets, "")
		m.did("scale stateful set %s to %d", name, replicas)
		m.bound(name, int(replicas))
		m.statefulSets[name] = replicas
		_, err := m.client.AppsV1().StatefulSets("default").Patch(m.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
		m.must(err)
		return
	}
	name := m.one(m.deployments, "")
	if name == guarded { // up only: a budget does not hold up who scales down, and is behind for a moment then
		replicas = max(replicas, m.deployments[name])
		patch = []byte(fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas))
	}
	m.did("scale deployment %s to %d", name, replicas)
	m.bound(name, int(replicas)+maxSurge)
	m.deployments[name] = replicas
	_, err := m.client.AppsV1().Deployments("default").Patch(m.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	m.must(err)
}

func (m *model) rollOut() {
	patch := []byte(fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"try":"%d"}}}}}`, m.chance(3)))
	switch m.chance(4) {
	case 0:
		name := m.one(m.statefulSets, "")
		m.did("roll out stateful set %s %s", name, patch)
		_, err := m.client.AppsV1().StatefulSets("default").Patch(m.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
		m.must(err)
	case 1:
		m.did("roll out the daemon set %s", patch)
		_, err := m.client.AppsV1().DaemonSets("default").Patch(m.t.Context(), "daemon", types.MergePatchType, patch, metav1.PatchOptions{})
		m.must(err)
	default:
		if name := m.one(m.deployments, guarded); name != "" {
			m.did("roll out deployment %s %s", name, patch)
			_, err := m.client.AppsV1().Deployments("default").Patch(m.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
			m.must(err)
		}
	}
}

func unguarded(pod *corev1.Pod) bool { return active(pod) && pod.Labels[modelLabel] != guarded }

func (m *model) deletePod() {
	if pod := m.pick(unguarded); pod != nil {
		m.excuse(pod)
		m.did("delete pod %s", pod.Name)
		m.must(m.client.CoreV1().Pods("default").Delete(m.t.Context(), pod.Name, metav1.DeleteOptions{}))
	}
}

func (m *model) failPod() {
	if pod := m.pick(func(p *corev1.Pod) bool { return unguarded(p) && p.Spec.NodeName != "" }); pod != nil {
		m.did("pod %s fails", pod.Name)
		m.must(m.report(pod, corev1.PodFailed)(m.t.Context()))
	}
}

// evict asks; a budget may say no.
func (m *model) evict() {
	pod := m.pick(func(p *corev1.Pod) bool { return active(p) && p.Labels[modelLabel] == guarded })
	if pod == nil {
		return
	}
	err := m.client.PolicyV1().Evictions("default").Evict(m.t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: "default"}})
	m.did("evict pod %s: %v", pod.Name, err)
	if !apierrors.IsTooManyRequests(err) {
		m.must(err)
	}
}

// loseNode closes a node: its pods go. One stays open at least.
func (m *model) loseNode() {
	node := m.nodes[1+m.chance(len(m.nodes)-1)]
	m.did("lose %s", node)
	m.taint(node, true)
}

func (m *model) open() {
	m.did("open all nodes")
	for _, node := range m.nodes {
		m.taint(node, false)
	}
}

func (m *model) deleteWorkload() {
	policy := []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground}[m.chance(2)]
	options := metav1.DeleteOptions{PropagationPolicy: &policy}
	switch m.chance(3) {
	case 0:
		if name := m.one(m.deployments, guarded); name != "" {
			m.did("delete deployment %s, %s", name, policy)
			delete(m.deployments, name)
			m.must(m.client.AppsV1().Deployments("default").Delete(m.t.Context(), name, options))
		}
		m.createDeployment(m.name("deploy"))
	case 1:
		name := m.one(m.statefulSets, "")
		m.unruly(name)
		m.did("delete stateful set %s, %s", name, policy)
		delete(m.statefulSets, name)
		m.must(m.client.AppsV1().StatefulSets("default").Delete(m.t.Context(), name, options))
		m.createStatefulSet([]appsv1.PodManagementPolicyType{appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement}[m.chance(2)])
	default:
		if name := m.one(m.jobs, ""); name != "" {
			m.did("delete job %s, %s", name, policy)
			delete(m.jobs, name)
			m.must(m.client.BatchV1().Jobs("default").Delete(m.t.Context(), name, options))
		}
	}
}

// converge waits until all is as the specs say, and then narrows what is allowed to that.
func (m *model) converge() {
	m.t.Helper()
	within(m.t, time.Minute, "what the specs say", func() error {
		return errors.Join(m.deploymentsStand(), m.statefulSetsStand(), m.daemonStands(), m.jobsDone(), m.noOrphans())
	})
	for name, replicas := range m.deployments {
		if name != guarded {
			m.settle(name, int(replicas)+maxSurge, 0)
		}
	}
	for name, replicas := range m.statefulSets {
		m.settle(name, int(replicas), 0)
	}
}

// calmRollout rolls a Deployment out while nothing else happens: then there is never more than
// maxUnavailable below what is wanted.
func (m *model) calmRollout() {
	name := m.one(m.deployments, guarded)
	if name == "" || m.deployments[name] < 2 {
		return
	}
	replicas := int(m.deployments[name])
	m.settle(name, replicas+maxSurge, replicas-1)
	m.did("calm rollout of %s", name)
	patch := []byte(fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"calm":"%d"}}}}}`, m.chance(1<<30)))
	_, err := m.client.AppsV1().Deployments("default").Patch(m.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	m.must(err)
	within(m.t, time.Minute, "the calm rollout", m.deploymentsStand)
	m.settle(name, replicas+maxSurge, 0)
}
