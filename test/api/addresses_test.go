package api_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	if list, err := addresses.List(ctx, metav1.ListOptions{FieldSelector: "spec.parentRef.resource=services,spec.parentRef.name=web"}); err != nil || len(list.Items) != 1 || list.Items[0].Name != web.Spec.ClusterIP {
		t.Errorf("addresses of web: %+v, %v; want %s", list, err, web.Spec.ClusterIP)
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
