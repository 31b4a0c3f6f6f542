package endpointslice

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

const (
	// mirroringName marks the slices that are mirrored.
	mirroringName = "endpointslicemirroring-controller.k8s.io"
	// maxMirrored is how many addresses of a subset are mirrored: as many as a slice may have.
	maxMirrored = 1000
	// leaderAnnotation is on Endpoints that are no addresses but somebody's lock.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

// MirroringController is the loop over Endpoints that somebody wrote by hand, for a Service
// without selector: proxies and DNS read slices only.
type MirroringController struct {
	*reconcile.Loop
	writer          writer
	recorder        record.EventRecorder
	serviceLister   corelisters.ServiceLister
	endpointsLister corelisters.EndpointsLister
	sliceLister     discoverylisters.EndpointSliceLister
}

// NewMirroring makes the controller.
func NewMirroring(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *MirroringController {
	core, endpointSlices := factory.Core().V1(), factory.Discovery().V1().EndpointSlices()
	c := &MirroringController{
		writer: writer{client, newTracker()}, recorder: recorder, serviceLister: core.Services().Lister(),
		endpointsLister: core.Endpoints().Lister(), sliceLister: endpointSlices.Lister(),
	}
	c.Loop = reconcile.New("endpointslicemirroring", c.syncEndpoints, options)
	// Endpoints and the Service that they are for have the same name.
	c.Watch(core.Endpoints().Informer(), reconcile.Self)
	c.Watch(core.Services().Informer(), selectorChanged)
	c.Watch(endpointSlices.Informer(), c.writer.tracker.keysOf(mirroringName))
	return c
}

// selectorChanged: whether a Service has a selector decides who writes its slices.
func selectorChanged(e reconcile.Event) []string {
	old, okOld := e.Old.(*corev1.Service)
	service, ok := e.New.(*corev1.Service)
	if okOld && ok && (old.Spec.Selector == nil) == (service.Spec.Selector == nil) {
		return nil
	}
	return reconcile.Self(e)
}

// syncEndpoints is one turn for one Endpoints object:
//
//  1. find out whether it is to be mirrored; if not, nothing is wanted,
//  2. wait if the cache lags behind our own writes,
//  3. plan and carry out.
func (c *MirroringController) syncEndpoints(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	// Step 1: find out whether it is to be mirrored.
	endpoints, err := c.toMirror(name)
	if err != nil {
		return reconcile.Done, err
	}
	existing, err := c.sliceLister.EndpointSlices(name.Namespace).List(labels.Set{
		discovery.LabelServiceName: name.Name, discovery.LabelManagedBy: mirroringName,
	}.AsSelectorPreValidated())
	if err != nil {
		return reconcile.Done, err
	}
	// Step 2: wait if the cache lags behind our own writes.
	if c.writer.tracker.stale(key, existing) {
		return reconcile.Result{Retry: true}, nil
	}
	existing = slices.DeleteFunc(existing, func(s *discovery.EndpointSlice) bool { return s.DeletionTimestamp != nil })

	// Step 3: plan and carry out.
	var desired []*discovery.EndpointSlice
	if endpoints != nil {
		var skipped skippedAddresses
		desired, skipped = mirror(endpoints)
		c.reportSkipped(endpoints, skipped)
	}
	if err := c.writer.execute(ctx, key, name.Namespace, planMirror(desired, existing)); err != nil {
		return reconcile.Done, err
	}
	if endpoints == nil && len(existing) == 0 {
		c.writer.tracker.forget(key)
	}
	return reconcile.Done, nil
}

// toMirror returns the Endpoints if they are to be mirrored, else nil.
func (c *MirroringController) toMirror(name cache.ObjectName) (*corev1.Endpoints, error) {
	endpoints, err := c.endpointsLister.Endpoints(name.Namespace).Get(name.Name)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	_, isLock := endpoints.Annotations[leaderAnnotation]
	if isLock || endpoints.Labels[discovery.LabelSkipMirror] == "true" || endpoints.DeletionTimestamp != nil {
		return nil, nil
	}
	service, err := c.serviceLister.Services(name.Namespace).Get(name.Name)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	if service.Spec.Selector != nil {
		return nil, nil
	}
	return endpoints, nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// skippedAddresses counts what is not mirrored.
type skippedAddresses struct{ invalid, tooMany int }

func (c *MirroringController) reportSkipped(endpoints *corev1.Endpoints, s skippedAddresses) {
	if s.invalid > 0 {
		c.recorder.Eventf(endpoints, corev1.EventTypeWarning, "InvalidIPAddress",
			"Skipped %d invalid IP addresses when mirroring to EndpointSlices", s.invalid)
	}
	if s.tooMany > 0 {
		c.recorder.Eventf(endpoints, corev1.EventTypeWarning, "TooManyAddressesToMirror",
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxMirrored, s.tooMany+s.invalid)
	}
}

// mirror makes the slices that say what the Endpoints say: one for each address family and
// set of ports.
func mirror(endpoints *corev1.Endpoints) ([]*discovery.EndpointSlice, skippedAddresses) {
	type address struct {
		corev1.EndpointAddress
		ready bool
	}
	var skipped skippedAddresses
	groups := map[string]*discovery.EndpointSlice{}
	seen := map[string]bool{}
	for _, subset := range endpoints.Subsets {
		var all []address
		for _, a := range subset.Addresses {
			all = append(all, address{a, true})
		}
		for _, a := range subset.NotReadyAddresses {
			all = append(all, address{a, false})
		}
		ports, mirrored := mirroredPorts(subset.Ports), 0
		for _, a := range all {
			ip, err := netip.ParseAddr(a.IP)
			switch {
			case mirrored == maxMirrored:
				skipped.tooMany++
				continue
			case err != nil:
				skipped.invalid++
				continue
			}
			mirrored++
			family := discovery.AddressTypeIPv4
			if ip.Is6() && !ip.Is4In6() {
				family = discovery.AddressTypeIPv6
			}
			key := string(family) + "\x02" + portsKey(ports)
			if groups[key] == nil {
				groups[key] = mirroredSlice(endpoints, family, ports)
			}
			endpoint := mirroredEndpoint(&a.EndpointAddress, ip.Unmap().String(), a.ready)
			if id := key + endpointKey(&endpoint); !seen[id] && len(groups[key].Endpoints) < maxMirrored {
				seen[id] = true
				groups[key].Endpoints = append(groups[key].Endpoints, endpoint)
			}
		}
	}
	var list []*discovery.EndpointSlice
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		slices.SortFunc(groups[key].Endpoints, func(a, b discovery.Endpoint) int { return strings.Compare(endpointKey(&a), endpointKey(&b)) })
		list = append(list, groups[key])
	}
	return list, skipped
}

func mirroredEndpoint(a *corev1.EndpointAddress, ip string, ready bool) discovery.Endpoint {
	endpoint := discovery.Endpoint{
		Addresses: []string{ip}, Conditions: discovery.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		endpoint.Hostname = ptr.To(a.Hostname)
	}
	return endpoint
}

func mirroredPorts(ports []corev1.EndpointPort) []discovery.EndpointPort {
	mirrored := []discovery.EndpointPort{}
	for _, p := range ports {
		mirrored = append(mirrored, discovery.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(p.Protocol), AppProtocol: p.AppProtocol})
	}
	return mirrored
}

// mirroredSlice is an empty slice with the labels and annotations of the Endpoints, which own it.
func mirroredSlice(endpoints *corev1.Endpoints, family discovery.AddressType, ports []discovery.EndpointPort) *discovery.EndpointSlice {
	marks := map[string]string{}
	maps.Copy(marks, endpoints.Labels)
	marks[discovery.LabelServiceName], marks[discovery.LabelManagedBy] = endpoints.Name, mirroringName
	annotations := map[string]string{}
	maps.Copy(annotations, endpoints.Annotations)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	return &discovery.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: endpoints.Namespace, GenerateName: namePrefix(endpoints.Name), Labels: marks, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(endpoints, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: family, Ports: ports, Endpoints: []discovery.Endpoint{},
	}
}

// planMirror compares: of each family and set of ports the oldest slice stays.
func planMirror(desired, existing []*discovery.EndpointSlice) plan {
	key := func(s *discovery.EndpointSlice) string { return string(s.AddressType) + portsKey(s.Ports) }
	slices.SortFunc(existing, byAge)
	var p plan
	left := map[string]*discovery.EndpointSlice{}
	for _, d := range desired {
		left[key(d)] = d
	}
	for _, e := range existing {
		wanted := left[key(e)]
		if wanted == nil {
			p.delete = append(p.delete, e)
			continue
		}
		delete(left, key(e))
		if equality.Semantic.DeepEqual(e.Endpoints, wanted.Endpoints) && maps.Equal(e.Labels, wanted.Labels) && maps.Equal(e.Annotations, wanted.Annotations) {
			continue
		}
		p.update = append(p.update, rewritten(e, wanted))
	}
	for _, d := range desired {
		if left[key(d)] != nil {
			p.create = append(p.create, d)
		}
	}
	return p.recycled()
}
