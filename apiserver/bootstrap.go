package apiserver

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	applynetworkingv1 "k8s.io/client-go/applyconfigurations/networking/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"hyperkube/api/networking/servicecidr"
	"hyperkube/api/scheduling/priorityclass"
	"hyperkube/apiserver/authz/bootstrappolicy"
	"hyperkube/apiserver/registry/flowcontrol"
	"hyperkube/apiserver/request"
)

// systemNamespaces are there from the start, and come back when they are deleted.
var systemNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

const (
	bootstrapRetry    = 200 * time.Millisecond
	bootstrapInterval = 10 * time.Second
)

// bootstrap writes what every cluster starts with, declares the server ready, and then keeps it so: who deletes the
// kubernetes Service gets it back within ten seconds.
func (s *Server) bootstrap(ctx context.Context) {
	logger := klog.FromContext(ctx)
	ctx = request.WithUser(ctx, request.APIServer())
	wait := bootstrapRetry
	for {
		if err := s.bootstrapOnce(ctx); err == nil {
			s.readyOnce.Do(func() { close(s.ready) })
			wait = bootstrapInterval
		} else if ctx.Err() == nil {
			logger.V(1).Info("Bootstrap is not complete, will try again", "err", err)
		}
		select {
		case <-ctx.Done():
			s.sayFarewell(ctx)
			return
		case <-s.config.Clock.After(wait):
		}
	}
}

// bootstrapOnce is one turn:
//
//	Step 1: the caches are filled.
//	Step 2: the namespaces, into which all else goes.
//	Step 3: the default roles (once a start).
//	Step 4: the priority classes of the system, and flow control's mandatory and suggested objects.
//	Step 5: the range of the Services' addresses, the kubernetes Service and where it leads.
//	Step 6: since when the use of Secrets' tokens is noted; that this apiserver runs. For those who serve beside it: whose
//	        clients it believes. For those who join: where the apiserver is, and whose certificates it shows.
func (s *Server) bootstrapOnce(ctx context.Context) error {
	// Step 1
	if err := s.hub.Ready(ctx); err != nil {
		return err
	}
	s.reached.Store(max(1, s.reached.Load()))
	// Step 2
	for _, name := range systemNamespaces {
		if err := s.ensure(ctx, schema.GroupResource{Resource: "namespaces"}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return err
		}
	}
	s.reached.Store(max(2, s.reached.Load()))
	// Step 3
	select {
	case <-s.ready:
	default:
		if err := bootstrappolicy.Ensure(ctx, s.env); err != nil {
			return err
		}
	}
	s.reached.Store(max(3, s.reached.Load()))
	// Step 4
	for _, class := range priorityclass.SystemPriorityClasses() {
		if err := s.ensure(ctx, schema.GroupResource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}, class); err != nil {
			return err
		}
	}
	if err := flowcontrol.Ensure(ctx, s.env); err != nil {
		return err
	}
	s.reached.Store(max(4, s.reached.Load()))
	// Step 5
	if err := s.ensureServiceCIDR(ctx); err != nil {
		return err
	}
	if err := s.ensureKubernetesService(ctx); err != nil {
		return err
	}
	s.reached.Store(max(5, s.reached.Load()))
	// Step 6
	if err := s.ensureTokenTracking(ctx); err != nil {
		return err
	}
	if err := s.identify(ctx); err != nil {
		// A host whose name can be no label goes without: the cluster works all the same.
		klog.FromContext(ctx).V(1).Info("The lease that tells of this apiserver could not be written", "err", err)
	}
	if s.config.ClientCAFile != "" {
		if err := s.ensureAuthentication(ctx); err != nil {
			return err
		}
	}
	if s.config.ClientCAFile != "" && s.config.EnableBootstrapTokenAuth {
		if err := s.ensureClusterInfo(ctx); err != nil {
			return err
		}
	}
	s.reached.Store(bootstrapSteps)
	return nil
}

// ensureTokenTracking tells since when the use of tokens of Secrets is noted on them: one without a note has not been used since.
func (s *Server) ensureTokenTracking(ctx context.Context) error {
	const key = "since"
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-apiserver-legacy-service-account-token-tracking", Namespace: metav1.NamespaceSystem},
		Data:       map[string]string{key: s.env.Clock.Now().UTC().Format(time.DateOnly)},
	}
	return s.reconcile(ctx, schema.GroupResource{Resource: "configmaps"}, wanted, func(current runtime.Object) bool {
		present := current.(*corev1.ConfigMap)
		if _, err := time.Parse(time.DateOnly, present.Data[key]); err == nil {
			return false
		}
		if present.Data == nil {
			present.Data = map[string]string{}
		}
		present.Data[key] = wanted.Data[key]
		return true
	})
}

// ensureAuthentication keeps the CA of clients in the ConfigMap kube-system/extension-apiserver-authentication: a server that leaves
// the question of who asks to this one (a scheduler's metrics, an aggregated API) reads there whose certificates to believe.
func (s *Server) ensureAuthentication(ctx context.Context) error {
	ca, err := os.ReadFile(s.config.ClientCAFile)
	if err != nil {
		return err
	}
	const key = "client-ca-file"
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "extension-apiserver-authentication", Namespace: metav1.NamespaceSystem},
		Data:       map[string]string{key: string(ca)},
	}
	return s.reconcile(ctx, schema.GroupResource{Resource: "configmaps"}, wanted, func(current runtime.Object) bool {
		present := current.(*corev1.ConfigMap)
		if present.Data[key] == string(ca) {
			return false
		}
		if present.Data == nil {
			present.Data = map[string]string{}
		}
		present.Data[key] = string(ca) // what others put there stays
		return true
	})
}

// ensureClusterInfo keeps a kubeconfig without credentials in the ConfigMap kube-public/cluster-info: who knows a bootstrap token can check the
// signature that the controller manager puts beside it.
func (s *Server) ensureClusterInfo(ctx context.Context) error {
	address, ok := s.advertiseAddress()
	if !ok {
		return nil
	}
	ca, err := os.ReadFile(s.config.ClientCAFile)
	if err != nil {
		return err
	}
	server := "https://" + netip.AddrPortFrom(address, uint16(addressPort(s.Address()))).String()
	kubeconfig, err := clientcmd.Write(clientcmdapi.Config{Clusters: map[string]*clientcmdapi.Cluster{"": {Server: server, CertificateAuthorityData: ca}}})
	if err != nil {
		return err
	}
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "cluster-info", Namespace: metav1.NamespacePublic},
		Data:       map[string]string{"kubeconfig": string(kubeconfig)},
	}
	return s.reconcile(ctx, schema.GroupResource{Resource: "configmaps"}, wanted, func(current runtime.Object) bool {
		present := current.(*corev1.ConfigMap)
		if present.Data["kubeconfig"] == string(kubeconfig) {
			return false
		}
		present.Data = wanted.Data // the signatures were of something else
		return true
	})
}

// ensure creates obj unless there is one of its name.
func (s *Server) ensure(ctx context.Context, resource schema.GroupResource, obj metav1.Object) error {
	store := s.env.Store(resource)
	if store == nil {
		return nil
	}
	_, err := store.GetCached(ctx, obj.GetNamespace(), obj.GetName())
	if !apierrors.IsNotFound(err) {
		return err
	}
	_, err = store.CreateObject(ctx, obj.GetNamespace(), obj.(runtime.Object), &metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// ensureServiceCIDR shows the ranges of ClusterIPs as the ServiceCIDR kubernetes, ready. A cluster that became one of two families
// gets the second there, too; any other difference stays, since Services have their addresses of what is there.
func (s *Server) ensureServiceCIDR(ctx context.Context) error {
	wanted := &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: servicecidr.DefaultName},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{s.env.ServiceCIDR.String()}},
	}
	if s.env.SecondaryServiceCIDR.IsValid() {
		wanted.Spec.CIDRs = append(wanted.Spec.CIDRs, s.env.SecondaryServiceCIDR.String())
	}
	ranges := schema.GroupResource{Group: networkingv1.GroupName, Resource: "servicecidrs"}
	if err := s.reconcile(ctx, ranges, wanted, func(current runtime.Object) bool {
		present := current.(*networkingv1.ServiceCIDR)
		grows := len(present.Spec.CIDRs) == 1 && len(wanted.Spec.CIDRs) == 2 && present.Spec.CIDRs[0] == wanted.Spec.CIDRs[0]
		if grows {
			present.Spec.CIDRs = wanted.Spec.CIDRs
		}
		return grows
	}); err != nil {
		return err
	}
	if present, err := s.env.Store(ranges).GetCached(ctx, "", servicecidr.DefaultName); err == nil {
		cidr := present.(*networkingv1.ServiceCIDR)
		if !slices.Equal(cidr.Spec.CIDRs, wanted.Spec.CIDRs) {
			klog.FromContext(ctx).Info("The default ServiceCIDR does not match the flag configurations", "serviceCIDR", cidr.Spec.CIDRs, "flags", wanted.Spec.CIDRs)
		}
		if cidr.DeletionTimestamp != nil || meta.IsStatusConditionTrue(cidr.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			return nil
		}
	}
	ready := applymetav1.Condition().WithType(networkingv1.ServiceCIDRConditionReady).WithStatus(metav1.ConditionTrue).
		WithLastTransitionTime(metav1.NewTime(s.env.Clock.Now())).WithMessage("Kubernetes default Service CIDR is ready")
	return s.env.Store(ranges).ApplyOwnStatus(ctx, servicecidr.DefaultName, "kubernetes-service-cidr-controller", applynetworkingv1.ServiceCIDRStatus().WithConditions(ready))
}

const kubernetesService = "kubernetes"

// ensureKubernetesService keeps default/kubernetes: its Service, Endpoints and EndpointSlice.
func (s *Server) ensureKubernetesService(ctx context.Context) error {
	port := addressPort(s.Address())
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: kubernetesService, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"provider": "kubernetes", "component": "apiserver"},
		},
		Spec: corev1.ServiceSpec{
			IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
			Type:           corev1.ServiceTypeClusterIP, ClusterIP: nthAddress(s.env.ServiceCIDR, 1).String(),
			SessionAffinity: corev1.ServiceAffinityNone,
			Ports:           []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(port)}},
		},
	}
	if err := s.ensure(ctx, schema.GroupResource{Resource: "services"}, service); err != nil {
		return err
	}
	address, ok := s.advertiseAddress()
	if !ok {
		return nil
	}
	if err := s.ensureEndpoints(ctx, address, port); err != nil {
		return err
	}
	return s.ensureEndpointSlice(ctx, address, port)
}

func (s *Server) ensureEndpoints(ctx context.Context, address netip.Addr, port int32) error {
	wanted := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Name: kubernetesService, Namespace: metav1.NamespaceDefault,
			// The slice below is written here: nobody needs to mirror these endpoints into another.
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
		},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: address.String()}},
			Ports:     []corev1.EndpointPort{{Name: "https", Port: port, Protocol: corev1.ProtocolTCP}},
		}},
	}
	return s.reconcile(ctx, schema.GroupResource{Resource: "endpoints"}, wanted, func(current runtime.Object) bool {
		present := current.(*corev1.Endpoints)
		if equality.Semantic.DeepEqual(present.Subsets, wanted.Subsets) && present.Labels[discoveryv1.LabelSkipMirror] == "true" {
			return false
		}
		present.Subsets, present.Labels = wanted.Subsets, wanted.Labels
		return true
	})
}

func (s *Server) ensureEndpointSlice(ctx context.Context, address netip.Addr, port int32) error {
	family := discoveryv1.AddressTypeIPv4
	if address.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	name, tcp, ready := "https", corev1.ProtocolTCP, true
	wanted := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: kubernetesService, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: kubernetesService},
		},
		AddressType: family,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
	}
	endpointSlices := schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}
	return s.reconcile(ctx, endpointSlices, wanted, func(current runtime.Object) bool {
		present := current.(*discoveryv1.EndpointSlice)
		if equality.Semantic.DeepEqual(present.Endpoints, wanted.Endpoints) && equality.Semantic.DeepEqual(present.Ports, wanted.Ports) {
			return false
		}
		present.Endpoints, present.Ports = wanted.Endpoints, wanted.Ports
		return true
	})
}

// reconcile creates wanted, or lets change bring what is there into line.
func (s *Server) reconcile(ctx context.Context, resource schema.GroupResource, wanted metav1.Object, change func(runtime.Object) bool) error {
	store := s.env.Store(resource)
	if store == nil {
		return nil
	}
	current, err := store.GetCached(ctx, wanted.GetNamespace(), wanted.GetName())
	if apierrors.IsNotFound(err) {
		_, err := store.CreateObject(ctx, wanted.GetNamespace(), wanted.(runtime.Object).DeepCopyObject(), &metav1.CreateOptions{})
		return err
	}
	if err != nil || !change(current.DeepCopyObject()) {
		return err
	}
	_, err = store.UpdateObject(ctx, wanted.GetNamespace(), wanted.GetName(), func(current runtime.Object) (runtime.Object, error) {
		change(current)
		return current, nil
	}, &metav1.UpdateOptions{})
	return err
}

// advertiseAddress is where pods reach the server; false when there is no such address: endpoints may not be loopback.
func (s *Server) advertiseAddress() (netip.Addr, bool) {
	host := s.config.AdvertiseAddress
	if host == "" {
		host, _, _ = net.SplitHostPort(s.config.BindAddress)
	}
	address, err := netip.ParseAddr(host)
	if err != nil || address.IsUnspecified() {
		address, err = routeAddress()
	}
	return address, err == nil && !address.IsLoopback()
}

// routeAddress is this host's address on the way out: a UDP "connection" sends nothing, but chooses a source.
func routeAddress() (netip.Addr, error) {
	conn, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	address, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return address.Addr(), err
}

func addressPort(address string) int32 {
	_, text, _ := net.SplitHostPort(address)
	port, _ := strconv.ParseInt(text, 10, 32)
	return int32(port)
}
