package storage

import (
	"fmt"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// benchPod is a pod as a Deployment makes it, some 2 KB of JSON.
func benchPod(name string) *v1.Pod {
	quantities := v1.ResourceList{"cpu": quantity.MustParse("100m"), "memory": quantity.MustParse("64Mi")}
	pod := newPod("bench", name, map[string]string{"app": "web", "pod-template-hash": "7d9c6d8f5b"})
	pod.UID = "0d5f1c4e-7a33-4f5e-9c0a-0f8c1f6d7a11"
	pod.CreationTimestamp = metav1.Now()
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-7d9c6d8f5b", UID: pod.UID}}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "controller-manager", Operation: "Update", APIVersion: "v1", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:name":{},"f:resources":{}}}}}`)}}
	pod.Spec = v1.PodSpec{
		ServiceAccountName: "default", NodeName: "node-1", RestartPolicy: v1.RestartPolicyAlways, DNSPolicy: v1.DNSClusterFirst,
		Containers: []v1.Container{{Name: "web", Image: "hyperkube.local/demo", ImagePullPolicy: v1.PullIfNotPresent,
			Resources:    v1.ResourceRequirements{Requests: quantities, Limits: quantities},
			Env:          []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
			VolumeMounts: []v1.VolumeMount{{Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
		}},
		Volumes: []v1.Volume{{Name: "token", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{}}}},
	}
	pod.Status = v1.PodStatus{Phase: v1.PodRunning, PodIP: "10.244.0.7", HostIP: "192.0.2.1", Conditions: []v1.PodCondition{
		{Type: v1.PodReady, Status: v1.ConditionTrue}, {Type: v1.PodScheduled, Status: v1.ConditionTrue}, {Type: v1.ContainersReady, Status: v1.ConditionTrue}}}
	return pod
}

func (f *fixture) fill(n int) {
	f.Helper()
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < n; i += 16 {
				name := fmt.Sprintf("web-%05d", i)
				if _, err := f.pods.Create(f.ctx, "bench/"+name, benchPod(name), 0); err != nil {
					f.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCreate(b *testing.B) {
	f := newFixture(b)
	b.ResetTimer()
	f.fill(b.N)
}

// DESIGN.md section 4: a LIST of 5,000 pods is a concatenation.
func BenchmarkListJSON5000(b *testing.B) {
	f := newFixture(b)
	f.fill(5000)
	var body []byte
	for b.Loop() {
		list := f.list("", ListOptions{})
		body = body[:0]
		for _, o := range list.Items {
			body, _ = o.AppendJSON(body, false)
		}
	}
	b.ReportMetric(float64(len(body)), "B/list")
}

func BenchmarkGetConsistent(b *testing.B) {
	f := newFixture(b)
	f.fill(1)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := f.pods.Get(f.ctx, "bench/web-00000", ""); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkFanOut hands each change to 100 watchers, past etcd.
func BenchmarkFanOut100(b *testing.B) {
	f := newFixture(b, func(c *Config) { c.MaxPending = 1 << 30 })
	f.create("a/x", "one")
	var wg sync.WaitGroup
	for range 100 {
		w := f.watch("", WatchOptions{})
		wg.Go(func() {
			var body []byte
			for n := 0; n <= b.N; n++ {
				e := <-w.Events()
				body, _ = e.Object.AppendJSON(body[:0], true)
			}
		})
	}
	o := f.list("", ListOptions{}).Items[0]
	b.ResetTimer()
	for i := range b.N {
		next := &Object{Key: o.Key, ResourceVersion: o.ResourceVersion + int64(i) + 1, Object: o.Object, resource: o.resource, value: o.value}
		f.pods.cache.apply(next.ResourceVersion, []change{{key: o.Key, object: next}})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkNodeWatchers: a change of one node's pod among the kubelets of 1,000 nodes.
func BenchmarkNodeWatchers1000(b *testing.B) {
	f := newFixture(b)
	for i := range 1000 {
		f.watch("", WatchOptions{Predicate: selectField("spec.nodeName", fmt.Sprintf("node-%d", i))})
	}
	f.fill(1)
	o := f.list("", ListOptions{}).Items[0]
	b.ReportAllocs()
	for b.Loop() {
		f.pods.cache.apply(o.ResourceVersion, []change{{key: o.Key, object: o}})
	}
}
