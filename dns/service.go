package dns

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

const (
	serviceNamespace = "kube-system"
	serviceName      = "kube-dns"
	managedBy        = "dns.hyperkube"
)

// keepService makes the kube-dns Service and points its EndpointSlice at us,
// and looks after both until ctx ends: someone may delete them while learning.
func keepService(ctx context.Context, config Config, port int32) {
	logger := klog.FromContext(ctx)
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = time.Minute
		if err := applyService(ctx, config, port); err != nil && ctx.Err() == nil {
			logger.Error(err, "Cannot keep the Service of cluster DNS; trying again", "service", klog.KRef(serviceNamespace, serviceName))
			wait = 2 * time.Second
		}
	}
}

func applyService(ctx context.Context, config Config, port int32) error {
	services := config.Client.CoreV1().Services(serviceNamespace)
	// Asked first: creating a Service whose address is taken is Invalid before it is AlreadyExists.
	_, err := services.Get(ctx, serviceName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = services.Create(ctx, kubeDNSService(config.ServiceAddress), metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("keeping service %s: %w", serviceName, err)
	}
	wanted := kubeDNSSlice(config.AdvertiseAddress, port)
	slices := config.Client.DiscoveryV1().EndpointSlices(serviceNamespace)
	present, err := slices.Get(ctx, wanted.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = slices.Create(ctx, wanted, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return fmt.Errorf("reading endpointslice %s: %w", wanted.Name, err)
	}
	if apiequality.Semantic.DeepEqual(present.Endpoints, wanted.Endpoints) && apiequality.Semantic.DeepEqual(present.Ports, wanted.Ports) {
		return nil
	}
	present = present.DeepCopy()
	present.Endpoints, present.Ports = wanted.Endpoints, wanted.Ports
	_, err = slices.Update(ctx, present, metav1.UpdateOptions{})
	return err
}

// kubeDNSService has no selector: its endpoints are ours to write.
func kubeDNSService(address string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: serviceNamespace, Name: serviceName,
			Labels: map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: address, ClusterIPs: []string{address},
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
			},
		},
	}
}

func kubeDNSSlice(address string, port int32) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: serviceNamespace, Name: serviceName,
			Labels: map[string]string{discoveryv1.LabelServiceName: serviceName, discoveryv1.LabelManagedBy: managedBy},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{address},
			// Written out as the apiserver defaults them, so that the next comparison finds no difference.
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
		}},
		Ports: []discoveryv1.EndpointPort{
			{Name: ptr.To("dns"), Protocol: ptr.To(corev1.ProtocolUDP), Port: ptr.To(port)},
			{Name: ptr.To("dns-tcp"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(port)},
		},
	}
}
