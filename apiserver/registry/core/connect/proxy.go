package connect

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"

	"hyperkube/component"
)

// proxyPod goes to [scheme:]name[:port]; the port is by default the first that the pod declares.
func (c *connector) proxyPod(namespace, id, path string, w http.ResponseWriter, r *http.Request) error {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	pod, err := c.pods.Get(namespace, name)
	if err != nil {
		return err
	}
	if port == "" {
		port = firstPort(pod)
	}
	if err := isProxyableIP(pod.Status.PodIP); err != nil {
		return err
	}
	host := pod.Status.PodIP
	if port != "" {
		host = net.JoinHostPort(host, port)
	}
	return proxyTo(&url.URL{Scheme: scheme, Host: host, Path: path}, plainTransport(&tls.Config{InsecureSkipVerify: true}), w, r)
}

func firstPort(pod *corev1.Pod) string {
	for _, container := range pod.Spec.Containers {
		if len(container.Ports) > 0 {
			return strconv.Itoa(int(container.Ports[0].ContainerPort))
		}
	}
	return ""
}

// proxyNode goes to the kubelet, with our certificate; to another port of the node without.
func (c *connector) proxyNode(_, id, path string, w http.ResponseWriter, r *http.Request) error {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", id))
	}
	node, err := c.nodes.Get("", name)
	if err != nil {
		return err
	}
	kubelet, err := kubeletAddress(node)
	if err != nil {
		return err
	}
	host, kubeletPort, err := net.SplitHostPort(kubelet)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if port == "" || port == kubeletPort {
		transport, err := c.kubelet.transport(false)
		if err != nil {
			return err
		}
		return proxyTo(&url.URL{Scheme: "https", Host: kubelet, Path: path}, transport, w, r)
	}
	if err := isProxyableIP(host); err != nil {
		return err
	}
	return proxyTo(&url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port), Path: path}, plainTransport(&tls.Config{InsecureSkipVerify: true}), w, r)
}

// proxyService goes to one of the ready endpoints of a port of the service, by name or number; a
// service with one port needs none named.
func (c *connector) proxyService(namespace, id, path string, w http.ResponseWriter, r *http.Request) error {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	service, err := c.services.Get(namespace, name)
	if err != nil {
		return err
	}
	portName, err := servicePortName(service, port)
	if err != nil {
		return err
	}
	addresses, err := c.endpointsOf(r.Context(), service, portName)
	if err != nil {
		return err
	}
	if len(addresses) == 0 {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", id))
	}
	host := addresses[rand.IntN(len(addresses))]
	return proxyTo(&url.URL{Scheme: scheme, Host: host, Path: path}, plainTransport(&tls.Config{InsecureSkipVerify: true}), w, r)
}

// servicePortName finds the port; endpoints know it by name.
func servicePortName(service *corev1.Service, port string) (string, error) {
	if port == "" && len(service.Spec.Ports) == 1 {
		return service.Spec.Ports[0].Name, nil
	}
	for _, p := range service.Spec.Ports {
		if p.Name == port || strconv.Itoa(int(p.Port)) == port {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, service.Name))
}

// endpointsOf lists host:port of the ready endpoints behind the port.
func (c *connector) endpointsOf(ctx context.Context, service *corev1.Service, portName string) ([]string, error) {
	slices := c.env.Lister(schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"})
	objects, err := slices.List(ctx, service.Namespace, labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service.Name}))
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, obj := range objects {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			continue
		}
		for _, p := range slice.Ports {
			if p.Port == nil || p.Name == nil && portName != "" || p.Name != nil && *p.Name != portName {
				continue
			}
			for _, e := range slice.Endpoints {
				ready := e.Conditions.Ready == nil || *e.Conditions.Ready
				if ready && len(e.Addresses) > 0 && isProxyableIP(e.Addresses[0]) == nil {
					addresses = append(addresses, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	return addresses, nil
}

// isProxyableIP keeps users from reaching through the apiserver what only listens to its own host. A pod's
// and an endpoint's address can be set by users.
func isProxyableIP(address string) error {
	ip := net.ParseIP(address)
	switch {
	case ip == nil:
		return apierrors.NewBadRequest("invalid address: no address is assigned yet")
	case ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsInterfaceLocalMulticast() || ip.IsUnspecified():
		return apierrors.NewBadRequest("address not allowed")
	}
	return nil
}

// proxyTo passes the request on, upgrades too, and rewrites links in the answer so that they lead back through
// the proxy.
func proxyTo(location *url.URL, transport http.RoundTripper, w http.ResponseWriter, r *http.Request) error {
	if location.Scheme == "" {
		location.Scheme = "http"
	}
	if !strings.HasPrefix(location.Path, "/") && location.Path != "" {
		location.Path = "/" + location.Path
	}
	var failure errorCatcher
	handler := utilproxy.NewUpgradeAwareHandler(location, transport, true, false, &failure)
	handler.ServeHTTP(unwrap(w), r.WithContext(component.Demoted(r.Context())))
	return failure.err
}
