package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

func quotaUses(ctx context.Context, client kubernetes.Interface, name corev1.ResourceName, want string) func() error {
	return func() error {
		quota, err := client.CoreV1().ResourceQuotas("default").Get(ctx, "q", metav1.GetOptions{})
		if err != nil {
			return err
		}
		used, known := quota.Status.Used[name]
		if !known || used.Cmp(resource.MustParse(want)) != 0 {
			return fmt.Errorf("%s: used %v, want %s", name, quota.Status.Used, want)
		}
		return nil
	}
}

// Sixteen writers, who also delete, never get more than the quota allows, while its controller recounts; and what they
// leave is given back.
func TestQuotaIsNeverExceeded(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	ctx, client := t.Context(), cluster.Client
	const limit, writers, turns = 10, 16, 15
	hard := corev1.ResourceList{"count/secrets": resource.MustParse(fmt.Sprint(limit)), "pods": resource.MustParse("100")}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
	if _, err := client.CoreV1().ResourceQuotas("default").Create(ctx, quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the quota is counted", quotaUses(ctx, client, "count/secrets", "0"))

	secrets := client.CoreV1().Secrets("default")
	var there, created, refused atomic.Int64
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range turns {
				name := fmt.Sprintf("s-%d-%d", w, i)
				_, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
				switch {
				case err == nil:
					created.Add(1)
					if now := there.Add(1); now > limit {
						t.Errorf("%d secrets are there, %d are allowed", now, limit)
					}
				case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: q, requested: count/secrets=1"):
					refused.Add(1)
					continue
				default:
					t.Errorf("create: %v", err)
					continue
				}
				if i%3 > 0 {
					continue
				}
				// Counted out first: what is deleted makes room before the answer is here.
				there.Add(-1)
				if err := secrets.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	group.Wait()
	if created.Load() < limit || refused.Load() == 0 {
		t.Errorf("%d were created and %d refused: the quota of %d was not reached", created.Load(), refused.Load(), limit)
	}
	list, err := secrets.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) > limit {
		t.Errorf("%d secrets, %v", len(list.Items), err)
	}
	if err := secrets.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is given back", quotaUses(ctx, client, "count/secrets", "0"))
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "again"}}, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}

// Each kind of usage is charged and given back: pods by what they ask for until they end, claims by class.
func TestQuotaRecounts(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	ctx, client := t.Context(), cluster.Client
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}}}}}}
	}
	eventually(t, "a pod from before the quota", func() error {
		_, err := client.CoreV1().Pods("default").Create(ctx, pod("before"), metav1.CreateOptions{})
		return err
	})
	hard := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{"pods", "requests.cpu", "services.nodeports", "requests.storage", "gold.storageclass.storage.k8s.io/requests.storage", "count/configmaps", "count/deployments.apps"} {
		hard[name] = resource.MustParse("100Gi")
	}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
	if _, err := client.CoreV1().ResourceQuotas("default").Create(ctx, quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it counts what was there", quotaUses(ctx, client, "requests.cpu", "100m"))
	eventually(t, "deployments", quotaUses(ctx, client, "count/deployments.apps", "0"))

	ended, err := client.CoreV1().Pods("default").Create(ctx, pod("ended"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}}
	if service, err = client.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: ptr.To("gold"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
	}}
	if _, err := client.CoreV1().PersistentVolumeClaims("default").Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[corev1.ResourceName]string{"pods": "2", "requests.cpu": "200m", "services.nodeports": "1", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"} {
		if err := quotaUses(ctx, client, name, want)(); err != nil {
			t.Errorf("charged: %v", err)
		}
	}
	ended.Status.Phase = corev1.PodSucceeded
	if _, err := client.CoreV1().Pods("default").UpdateStatus(ctx, ended, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	service.Spec.Type, service.Spec.Ports[0].NodePort = corev1.ServiceTypeClusterIP, 0
	if _, err := client.CoreV1().Services("default").Update(ctx, service, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().PersistentVolumeClaims("default").Delete(ctx, "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[corev1.ResourceName]string{"pods": "1", "requests.cpu": "100m", "services.nodeports": "0", "requests.storage": "0"} {
		eventually(t, string(name), quotaUses(ctx, client, name, want))
	}
}

// A claim stays while a pod on a node uses it, a volume while it is bound; then both go.
func TestStorageObjectsInUseStay(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	ctx, client := t.Context(), cluster.Client
	claims, pods, volumes := client.CoreV1().PersistentVolumeClaims("default"), client.CoreV1().Pods("default"), client.CoreV1().PersistentVolumes()
	size := corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: corev1.PersistentVolumeClaimSpec{AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size}}}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
		AccessModes: modes, Capacity: size, PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x"}}}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "i"}},
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}}}
	var err error
	if _, err = claims.Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err = volumes.Create(ctx, volume, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod", func() error { _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); return err })
	eventually(t, "the volume is bound to the claim", func() error {
		present, err := volumes.Get(ctx, "v", metav1.GetOptions{})
		if err == nil && present.Status.Phase != corev1.VolumeBound {
			err = fmt.Errorf("its phase is %q", present.Status.Phase)
		}
		return err
	})
	for _, err := range []error{claims.Delete(ctx, "c", metav1.DeleteOptions{}), volumes.Delete(ctx, "v", metav1.DeleteOptions{})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// A claim that nothing uses goes, so that the controllers have surely seen the deletions before it.
	claim.Name = "unused"
	if _, err = claims.Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err = claims.Delete(ctx, "unused", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone := func(get func() error) func() error {
		return func() error {
			if err := get(); !apierrors.IsNotFound(err) {
				return fmt.Errorf("it is there still: %v", err)
			}
			return nil
		}
	}
	getClaim := func(name string) func() error {
		return func() error { _, err := claims.Get(ctx, name, metav1.GetOptions{}); return err }
	}
	getVolume := func() error { _, err := volumes.Get(ctx, "v", metav1.GetOptions{}); return err }
	eventually(t, "the unused claim", gone(getClaim("unused")))
	if err := getClaim("c")(); err != nil {
		t.Errorf("a claim in use: %v", err)
	}
	if err := getVolume(); err != nil {
		t.Errorf("a bound volume: %v", err)
	}
	if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the claim", gone(getClaim("c")))
	eventually(t, "the released volume", func() error {
		present, err := volumes.Get(ctx, "v", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			present.Status.Phase = corev1.VolumeReleased
			_, err = volumes.UpdateStatus(ctx, present, metav1.UpdateOptions{})
		}
		if err == nil {
			err = fmt.Errorf("it is there still")
		}
		return err
	})
}
