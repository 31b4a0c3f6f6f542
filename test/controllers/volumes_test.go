package controllers

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

func createClaim(t *testing.T, client kubernetes.Interface, name string, class *string, size string) {
	t.Helper()
	_, err := client.CoreV1().PersistentVolumeClaims("default").Create(t.Context(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func createVolume(t *testing.T, client kubernetes.Interface, name, size string, policy corev1.PersistentVolumeReclaimPolicy) {
	t.Helper()
	_, err := client.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeReclaimPolicy: policy, PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// claimIs and volumeIs compare "PHASE PARTNER".
func claimIs(t *testing.T, client kubernetes.Interface, name, want string) {
	t.Helper()
	eventually(t, "claim "+name, func() error {
		c, err := client.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got := fmt.Sprintf("%s %s", c.Status.Phase, c.Spec.VolumeName); got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

func volumeIs(t *testing.T, client kubernetes.Interface, name, want string) {
	t.Helper()
	eventually(t, "volume "+name, func() error {
		v, err := client.CoreV1().PersistentVolumes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		got := string(v.Status.Phase) + " "
		if v.Spec.ClaimRef != nil {
			got += v.Spec.ClaimRef.Name
		}
		if got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// Claims and volumes find each other in whatever order they come, and part as the policy says (S4; issue 6).
func TestPersistentVolumes(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	client, none := cluster.Client, ptr.To("")

	createClaim(t, client, "early", none, "3Gi")
	claimIs(t, client, "early", "Pending ")
	createVolume(t, client, "small", "1Gi", corev1.PersistentVolumeReclaimRetain)
	volumeIs(t, client, "small", "Available ")
	createVolume(t, client, "large", "5Gi", corev1.PersistentVolumeReclaimRecycle)
	claimIs(t, client, "early", "Bound large") // a volume brings back the claim that waited
	createClaim(t, client, "late", none, "1Gi")
	claimIs(t, client, "late", "Bound small")

	for _, name := range []string{"late", "early"} {
		if err := client.CoreV1().PersistentVolumeClaims("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	volumeIs(t, client, "small", "Released late")
	volumeIs(t, client, "large", "Failed early")
	createClaim(t, client, "second", none, "1Gi")
	createVolume(t, client, "fresh", "9Gi", corev1.PersistentVolumeReclaimRetain)
	claimIs(t, client, "second", "Bound fresh") // and not small, which holds the data of late

	// A volume that is deleted under its claim is held until the claim is gone.
	if err := client.CoreV1().PersistentVolumes().Delete(t.Context(), "fresh", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	volumeIs(t, client, "fresh", "Bound second")

	// A claim without a class takes the default one that comes later, and waits for its pod.
	createClaim(t, client, "patient", nil, "1Gi")
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "later", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "x.example/y", VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)}
	if _, err := client.StorageV1().StorageClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the default class is given", func() error {
		c, err := client.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), "patient", metav1.GetOptions{})
		if err == nil && ptr.Deref(c.Spec.StorageClassName, "") != "later" {
			err = fmt.Errorf("class %q", ptr.Deref(c.Spec.StorageClassName, ""))
		}
		return err
	})
	claimIs(t, client, "patient", "Pending ")
}

// A pod's ephemeral volume has a claim that the pod owns; deleted, it comes back.
func TestEphemeralVolumes(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	client := cluster.Client
	claims := client.CoreV1().PersistentVolumeClaims("default")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "i", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": "p"}},
			Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}}}}}}}
	eventually(t, "a pod is admitted", func() error {
		made, err := client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{})
		if err == nil {
			pod = made
		}
		return err
	})
	owned := func() (*corev1.PersistentVolumeClaim, error) {
		c, err := claims.Get(t.Context(), "p-v", metav1.GetOptions{})
		if err == nil && (!metav1.IsControlledBy(c, pod) || c.Labels["of"] != "p") {
			err = fmt.Errorf("owners %v, labels %v", c.OwnerReferences, c.Labels)
		}
		return c, err
	}
	var first *corev1.PersistentVolumeClaim
	eventually(t, "the claim", func() (err error) { first, err = owned(); return err })
	if err := claims.Delete(t.Context(), "p-v", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the claim again", func() error {
		c, err := owned()
		if err == nil && c.UID == first.UID {
			err = fmt.Errorf("still the first")
		}
		return err
	})
}
