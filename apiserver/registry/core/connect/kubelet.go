package connect

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hyperkube/apiserver/registry"
)

// defaultKubeletPort is where a kubelet listens that does not say so in its Node.
const defaultKubeletPort = 10250

// dialTimeout bounds the connection to a kubelet: a node that is gone would take minutes otherwise.
const dialTimeout = 10 * time.Second

// addressTypes are tried in this order: names of nodes need not resolve from here, addresses do.
var addressTypes = []corev1.NodeAddressType{
	corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeInternalDNS, corev1.NodeExternalDNS, corev1.NodeHostName,
}

// locationOf is the URL of the pod's kubelet.
func (c *connector) locationOf(pod *corev1.Pod) (*url.URL, error) {
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	node, err := c.nodes.Get("", pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	address, err := kubeletAddress(node)
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: "https", Host: address}, nil
}

// kubeletAddress is host:port of a node's kubelet.
func kubeletAddress(node *corev1.Node) (string, error) {
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port <= 0 {
		port = defaultKubeletPort
	}
	host, err := nodeAddress(node)
	return net.JoinHostPort(host, strconv.Itoa(int(port))), err
}

func nodeAddress(node *corev1.Node) (string, error) {
	for _, wanted := range addressTypes {
		for _, a := range node.Status.Addresses {
			if a.Type == wanted && a.Address != "" {
				return a.Address, nil
			}
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %q has reported no address yet", node.Name))
}

// kubeletClient is the apiserver as a client of kubelets. Certificates are read for each connection, so
// that they can be renewed in place; connections to kubelets are few, and not kept, so that
// there is nothing to close at the end.
type kubeletClient struct {
	env *registry.Env
}

// tlsConfig shows our client certificate, and believes serving certificates of the kubelets' CA.
func (k *kubeletClient) tlsConfig(insecure bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.env.KubeletClientCertFile != "" {
		cert, err := tls.LoadX509KeyPair(k.env.KubeletClientCertFile, k.env.KubeletClientKeyFile)
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("kubelet client certificate: %w", err))
		}
		config.Certificates = []tls.Certificate{cert}
	}
	if insecure || k.env.KubeletCAFile == "" {
		config.InsecureSkipVerify = true
		return config, nil
	}
	data, err := os.ReadFile(k.env.KubeletCAFile)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("kubelet CA: %w", err))
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(data) {
		return nil, apierrors.NewInternalError(fmt.Errorf("kubelet CA: %s holds no certificate", k.env.KubeletCAFile))
	}
	return config, nil
}

// transport speaks HTTP/1.1: connections are upgraded, which HTTP/2 does not know.
func (k *kubeletClient) transport(insecure bool) (*http.Transport, error) {
	config, err := k.tlsConfig(insecure)
	if err != nil {
		return nil, err
	}
	return plainTransport(config), nil
}

func plainTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: dialTimeout,
		DisableKeepAlives:   true,
		DisableCompression:  true,
	}
}
