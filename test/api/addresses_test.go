package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"hyperkube/apiserver"
	"hyperkube/test/integration"
)

// Issue 4, Service machinery: the range is the ServiceCIDR kubernetes; an address that a Service holds is an IPAddress, from the
// Service's creation to its end; one that somebody made by hand is not given out.
func TestServiceAddresses(t *testing.T) {
	cluster := integration.Start(t)
	ctx, services, addresses := t.Context(), cluster.Client.CoreV1().Services("default"), cluster.Client.NetworkingV1().IPAddresses()
	cidr, err := cluster.Client.NetworkingV1().ServiceCIDRs().Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || len(cidr.Spec.CIDRs) != 1 || cidr.Spec.CIDRs[0] != "10.96.0.0/16" || len(cidr.Status.Conditions) != 1 || cidr.Status.Conditions[0].Status != metav1.ConditionTrue {
		t.Errorf("ServiceCIDR %+v: %v", cidr, err)
	}
	first, err := addresses.Get(ctx, "10.96.0.1", metav1.GetOptions{})
	if err != nil || *first.Spec.ParentRef != (networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "kubernetes"}) {
		t.Errorf("the address of the kubernetes Service: %+v, %v", first, err)
	}

	service := func(name, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	held := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.7.7"}, Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "things", Name: "mine"}}}
	if _, err := addresses.Create(ctx, held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := services.Create(ctx, service("taken", "10.96.7.7"), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a Service got an address that is another's: %v", err)
	}
	if _, err := services.Create(ctx, service("dry", ""), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Error(err)
	}
	web, err := services.Create(ctx, service("web", ""), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if address, err := addresses.Get(ctx, web.Spec.ClusterIP, metav1.GetOptions{}); err != nil || address.Spec.ParentRef.Resource != "services" || address.Spec.ParentRef.Name != "web" {
		t.Errorf("the address of web: %+v, %v; want %s", address, err, web.Spec.ClusterIP)
	}
	if list, err := addresses.List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 3 {
		t.Errorf("a dry run or a refused Service left its address behind: %+v, %v", list, err)
	}
	if err := services.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := addresses.Get(ctx, web.Spec.ClusterIP, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the address of a deleted Service is still there: %v", err)
	}
}

// KEP-1880: a range that is full is followed by another one, whose addresses are its own; a range that is not ready gives out none.
func TestFurtherServiceCIDR(t *testing.T) {
	cluster := integration.Start(t, func(c *apiserver.Config) { c.ServiceCIDR = "10.96.0.0/29" })
	ctx, services, ranges := t.Context(), cluster.Client.CoreV1().Services("default"), cluster.Client.NetworkingV1().ServiceCIDRs()
	service := func(name, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	for i := range 10 {
		if _, err := services.Create(ctx, service(fmt.Sprintf("s%d", i), ""), metav1.CreateOptions{}); err != nil {
			break // six addresses: that of the kubernetes Service, perhaps one for DNS, and these
		}
	}
	if _, err := services.Create(ctx, service("over", ""), metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "range is full") {
		t.Fatalf("the range is not full: %v", err)
	}
	extra, err := ranges.Create(ctx, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "extra"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/28"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Until a controller says something else, a range is ready: there need not be a controller.
	ready := func(status metav1.ConditionStatus) {
		extra.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: status, Reason: "Test", LastTransitionTime: metav1.Now()}}
		if extra, err = ranges.UpdateStatus(ctx, extra, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ready(metav1.ConditionFalse)
	eventually(t, "a range that is not ready gives out no address", func() error {
		early, err := services.Create(ctx, service("early", "10.97.0.3"), metav1.CreateOptions{})
		if apierrors.IsInvalid(err) {
			return nil
		}
		if err == nil {
			err = services.Delete(ctx, early.Name, metav1.DeleteOptions{})
		}
		return fmt.Errorf("the answer is no refusal: %v", err)
	})
	ready(metav1.ConditionTrue)
	var web *corev1.Service
	eventually(t, "a Service of the new range", func() error {
		var err error
		web, err = services.Create(ctx, service("web", ""), metav1.CreateOptions{})
		return err
	})
	if !strings.HasPrefix(web.Spec.ClusterIP, "10.97.0.") {
		t.Errorf("web has %s", web.Spec.ClusterIP)
	}
	if _, err := services.Create(ctx, service("again", web.Spec.ClusterIP), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("an address was given out twice: %v", err)
	}
}

// eventually tries until do succeeds, for as long as the test has time.
func eventually(t *testing.T, what string, do func() error) {
	t.Helper()
	var err error
	if wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		err = do()
		return err == nil, nil
	}) != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
