package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/component-helpers/apimachinery/lease"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"hyperkube/kubelet/cm"
)

// Times of the node's heartbeat.
const (
	nodeStartupFrequency = 100 * time.Millisecond // until the node is ready
	maxNodeImages        = 50
)

// nodeState is what the kubelet knows of its node and runtime.
type nodeState struct {
	runtimeName, runtimeVersion string

	mu          sync.Mutex
	node        *v1.Node // as the API last said
	toldCIDR    string   // the pod CIDR that the runtime has taken; only nodeChanged uses it
	ips         []string
	allocatable v1.ResourceList
	network     error // why the runtime has no network; nil if it has
	ready       error
	known       bool // network and ready have been asked for
	readOnlyRec bool
	ownUsers    map[string]bool // by the name of the runtime's handler: whether pods may have users of their own
	lastReport  time.Time
	lastGC      time.Time
	poke        chan struct{}
}

func (s *nodeState) setNode(node *v1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node = node
}

func (s *nodeState) hostIPs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ips
}

func (s *nodeState) networkError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		return errors.New("the runtime has not been asked yet")
	}
	return s.network
}

func (s *nodeState) readyError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		return errors.New("node status has not been computed yet")
	}
	return s.ready
}

func (s *nodeState) recursiveReadOnlyMounts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readOnlyRec
}

// supportsUserNamespaces says whether the runtime's handler of this name gives pods users of their own.
func (s *nodeState) supportsUserNamespaces(handler string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ownUsers[handler]
}

func (s *nodeState) gcDue(now time.Time, period time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.lastGC) < period {
		return false
	}
	s.lastGC = now
	return true
}

func (s *nodeState) pokes() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poke == nil {
		s.poke = make(chan struct{}, 1)
	}
	return s.poke
}

// pokeStatus has the node's status computed now.
func (s *nodeState) pokeStatus() {
	select {
	case s.pokes() <- struct{}{}:
	default:
	}
}

// node is the node as the API has it; nil when standalone or not registered yet.
func (kl *Kubelet) node() *v1.Node {
	kl.state.mu.Lock()
	defer kl.state.mu.Unlock()
	return kl.state.node
}

// runNode registers the node, keeps its lease, and its status up to date.
func (kl *Kubelet) runNode(ctx context.Context) {
	logger := klog.FromContext(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	if kl.Client != nil {
		if !kl.registerWithAPIServer(ctx) {
			return
		}
		kl.recorder.Event(kl.nodeRef(), v1.EventTypeNormal, "Starting", "Starting kubelet.")
		group.Go(func() { kl.leaseController().Run(ctx) })
	}
	for {
		if err := kl.syncNodeStatus(ctx); err != nil && ctx.Err() == nil {
			logger.Error(err, "Updating the node's status")
		}
		wait := kl.NodeStatusUpdateFrequency
		if kl.state.readyError() != nil {
			wait = nodeStartupFrequency
			if kl.Clock.Since(kl.state.reported()) > 10*time.Second {
				wait = time.Second
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-kl.Clock.After(wait):
		case <-kl.state.pokes():
		}
	}
}

func (s *nodeState) reported() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastReport
}

// registerWithAPIServer creates the node, or takes over the one that is there. It
// tries until it succeeds, and returns false when ctx ends first.
func (kl *Kubelet) registerWithAPIServer(ctx context.Context) bool {
	logger := klog.FromContext(ctx)
	start, said := time.Now(), time.Time{}
	for delay := 10 * time.Millisecond; ; delay = min(delay*2, time.Second) {
		err := kl.tryRegister(ctx)
		if err == nil {
			logger.Info("Registered the node", "node", kl.NodeName)
			return true
		}
		if time.Since(start) > 2*time.Second && time.Since(said) > 10*time.Second && ctx.Err() == nil {
			said = time.Now()
			logger.Info("Waiting for the apiserver to register the node", "node", kl.NodeName, "cause", err.Error())
		}
		select {
		case <-ctx.Done():
			return false
		case <-kl.Clock.After(delay):
		}
	}
}

func (kl *Kubelet) tryRegister(ctx context.Context) error {
	node := kl.initialNode(ctx)
	created, err := kl.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err == nil {
		kl.state.setNode(created)
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	existing, err := kl.Client.CoreV1().Nodes().Get(ctx, kl.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	updated := existing.DeepCopy()
	if updated.Labels == nil {
		updated.Labels = map[string]string{}
	}
	for key, value := range node.Labels {
		updated.Labels[key] = value
	}
	if !apiequality.Semantic.DeepEqual(existing.Labels, updated.Labels) {
		if existing, err = kl.patchNode(ctx, existing, updated, ""); err != nil {
			return err
		}
	}
	kl.state.setNode(existing)
	return nil
}

func (kl *Kubelet) initialNode(ctx context.Context) *v1.Node {
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: kl.NodeName, Labels: map[string]string{
		v1.LabelHostname: kl.NodeName, v1.LabelOSStable: runtime.GOOS, v1.LabelArchStable: runtime.GOARCH,
		"beta.kubernetes.io/os": runtime.GOOS, "beta.kubernetes.io/arch": runtime.GOARCH,
	}}}
	for key, value := range kl.NodeLabels {
		node.Labels[key] = value
	}
	node.Spec.Taints = append(node.Spec.Taints, kl.RegisterWithTaints...)
	node.Status = kl.nodeStatus(ctx, v1.NodeStatus{})
	return node
}

// syncNodeStatus computes the status and writes it, if it changed or is due.
func (kl *Kubelet) syncNodeStatus(ctx context.Context) error {
	old := kl.node()
	if kl.Client == nil || old == nil {
		kl.nodeStatus(ctx, v1.NodeStatus{})
		return nil
	}
	status := kl.nodeStatus(ctx, old.Status)
	due := kl.Clock.Since(kl.state.reported()) >= kl.NodeStatusReportFrequency
	if !due && equalNodeStatus(old.Status, status) {
		return nil
	}
	updated := old.DeepCopy()
	updated.Status = status
	written, err := kl.patchNode(ctx, old, updated, "status")
	if apierrors.IsNotFound(err) {
		// Somebody deleted the node: it comes back, as the kubelet is alive.
		if !kl.registerWithAPIServer(ctx) {
			return nil
		}
		return nil
	}
	if err != nil {
		return err
	}
	kl.recordTransition(old.Status, status)
	kl.state.setNode(written)
	kl.state.mu.Lock()
	kl.state.lastReport = kl.Clock.Now()
	kl.state.mu.Unlock()
	return nil
}

// recordTransition tells by an event that a condition of the node changed.
func (kl *Kubelet) recordTransition(old, now v1.NodeStatus) {
	for _, words := range []struct {
		kind      v1.NodeConditionType
		yes, no   string
		newIsNews bool // also when there was no such condition before
	}{
		{v1.NodeReady, "NodeReady", "NodeNotReady", true},
		{v1.NodeMemoryPressure, "NodeHasInsufficientMemory", "NodeHasSufficientMemory", false},
		{v1.NodeDiskPressure, "NodeHasDiskPressure", "NodeHasNoDiskPressure", false},
		{v1.NodePIDPressure, "NodeHasInsufficientPID", "NodeHasSufficientPID", false},
	} {
		before, after := nodeCondition(old, words.kind), nodeCondition(now, words.kind)
		if after == nil || before == nil && !words.newIsNews || before != nil && before.Status == after.Status {
			continue
		}
		reason := words.no
		if after.Status == v1.ConditionTrue {
			reason = words.yes
		}
		kl.recorder.Eventf(kl.nodeRef(), v1.EventTypeNormal, reason, "Node %s status is now: %s", kl.NodeName, reason)
	}
}

func (kl *Kubelet) nodeRef() *v1.ObjectReference {
	return &v1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: kl.NodeName, UID: types.UID(kl.NodeName)}
}

// equalNodeStatus compares without heartbeats.
func equalNodeStatus(a, b v1.NodeStatus) bool {
	a, b = *a.DeepCopy(), *b.DeepCopy()
	for _, status := range []*v1.NodeStatus{&a, &b} {
		for i := range status.Conditions {
			status.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
		sort.Slice(status.Conditions, func(i, j int) bool { return status.Conditions[i].Type < status.Conditions[j].Type })
		status.VolumesAttached, status.VolumesInUse = nil, nil
	}
	return apiequality.Semantic.DeepEqual(a, b)
}

func (kl *Kubelet) patchNode(ctx context.Context, old, updated *v1.Node, subresource string) (*v1.Node, error) {
	before, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(updated)
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, v1.Node{})
	if err != nil {
		return nil, err
	}
	var subresources []string
	if subresource != "" {
		subresources = []string{subresource}
	}
	return kl.Client.CoreV1().Nodes().Patch(ctx, kl.NodeName, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, subresources...)
}

// leaseController renews the node's Lease, from which the node controller tells
// that the node is alive, at a fraction of the cost of a status.
func (kl *Kubelet) leaseController() lease.Controller {
	return lease.NewController(kl.Clock, kl.Client, kl.NodeName, kl.NodeLeaseDurationSeconds, nil,
		time.Duration(kl.NodeLeaseDurationSeconds)*time.Second/4, kl.NodeName, v1.NamespaceNodeLease, func(l *coordinationv1.Lease) error {
			if node := kl.node(); node != nil && len(l.OwnerReferences) == 0 {
				l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
			}
			return nil
		})
}

// nodeStatus computes the whole status. What others put there is kept from old.
func (kl *Kubelet) nodeStatus(ctx context.Context, old v1.NodeStatus) v1.NodeStatus {
	status := *old.DeepCopy()
	machine := machineInfo(kl.RootDir)
	status.Capacity = v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(int64(machine.cpus), resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(machine.memory, resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(machine.disk, resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(int64(kl.MaxPods), resource.DecimalSI),
	}
	for size, bytes := range machine.hugePages {
		status.Capacity[cm.HugePageResource(size)] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
	for name, quantity := range old.Capacity { // extended resources are others' business
		if strings.Contains(string(name), "/") {
			status.Capacity[name] = quantity
		}
	}
	status.Allocatable = kl.Room.allocatable(status.Capacity)
	kl.cgroups.EnforceNodeAllocatable(kl.Room.podsLimits(status.Capacity))
	kl.cgroups.UpdateQOSCgroups(kl.activePods)
	ips := kl.nodeIPs()
	status.Addresses = nil
	for _, ip := range ips {
		status.Addresses = append(status.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
	}
	status.Addresses = append(status.Addresses, v1.NodeAddress{Type: v1.NodeHostName, Address: kl.NodeName})
	status.DaemonEndpoints.KubeletEndpoint.Port = int32(kl.ServingPort())
	status.NodeInfo = v1.NodeSystemInfo{
		MachineID: machine.id, SystemUUID: machine.uuid, BootID: machine.boot, KernelVersion: machine.kernel, OSImage: machine.os,
		ContainerRuntimeVersion: kl.state.runtimeName + "://" + kl.state.runtimeVersion, KubeletVersion: kl.Version,
		OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
	}
	status.Images = kl.nodeImages(ctx)
	ready := kl.askRuntime(ctx, &status)
	now := metav1.NewTime(kl.Clock.Now().Truncate(time.Second))
	for _, condition := range nodeConditions(ready, kl.pressure) {
		setNodeCondition(&status, condition, now)
	}
	kl.state.mu.Lock()
	kl.state.ips, kl.state.allocatable = ips, status.Allocatable
	kl.state.mu.Unlock()
	return status
}

// askRuntime returns why the node is not ready, in the runtime's own words (R19).
func (kl *Kubelet) askRuntime(ctx context.Context, status *v1.NodeStatus) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	response, err := kl.runtime.Status(ctx, &runtimeapi.StatusRequest{})
	var network, ready error
	if err != nil {
		ready = fmt.Errorf("container runtime is down: %w", err)
		network = ready
	} else {
		var problems []error
		for _, condition := range response.GetStatus().GetConditions() {
			if condition.Status {
				continue
			}
			problem := fmt.Errorf("container runtime is not ready: %s reason:%s message:%s", condition.Type, condition.Reason, condition.Message)
			if condition.Type == runtimeapi.NetworkReady {
				problem = fmt.Errorf("container runtime network not ready: NetworkReady=false reason:%s message:%s", condition.Reason, condition.Message)
				network = problem
			}
			problems = append(problems, problem)
		}
		ready = errors.Join(problems...)
		setRuntimeFeatures(status, response)
	}
	if kl.pleg != nil {
		ready = errors.Join(ready, kl.pleg.Healthy(), kl.shutdown.Err())
	}
	kl.state.mu.Lock()
	defer kl.state.mu.Unlock()
	kl.state.network, kl.state.ready, kl.state.known = network, ready, true
	kl.state.ownUsers = map[string]bool{}
	for _, handler := range response.GetRuntimeHandlers() {
		if handler.Name == "" {
			kl.state.readOnlyRec = handler.GetFeatures().GetRecursiveReadOnlyMounts()
		}
		kl.state.ownUsers[handler.Name] = handler.GetFeatures().GetUserNamespaces()
	}
	return ready
}

func setRuntimeFeatures(status *v1.NodeStatus, response *runtimeapi.StatusResponse) {
	status.RuntimeHandlers = nil
	for _, handler := range response.RuntimeHandlers {
		recursive, userns := handler.GetFeatures().GetRecursiveReadOnlyMounts(), handler.GetFeatures().GetUserNamespaces()
		status.RuntimeHandlers = append(status.RuntimeHandlers, v1.NodeRuntimeHandler{Name: handler.Name,
			Features: &v1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &recursive, UserNamespaces: &userns}})
	}
	if response.Features != nil {
		policy := response.Features.SupplementalGroupsPolicy
		status.Features = &v1.NodeFeatures{SupplementalGroupsPolicy: &policy}
	}
}

// nodeConditions are all of the node's. pressure tells whether it is short of something, and why.
func nodeConditions(notReady error, pressure func(v1.NodeConditionType) (string, bool)) []v1.NodeCondition {
	ready := v1.NodeCondition{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if notReady != nil {
		ready.Status, ready.Reason, ready.Message = v1.ConditionFalse, "KubeletNotReady", "["+strings.ReplaceAll(notReady.Error(), "\n", ", ")+"]"
		if !strings.Contains(notReady.Error(), "\n") {
			ready.Message = notReady.Error()
		}
	}
	conditions := []v1.NodeCondition{
		{Type: v1.NodeMemoryPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
		{Type: v1.NodeDiskPressure, Status: v1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"},
		{Type: v1.NodePIDPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
	}
	under := map[v1.NodeConditionType][2]string{
		v1.NodeMemoryPressure: {"KubeletHasInsufficientMemory", "kubelet has insufficient memory available"},
		v1.NodeDiskPressure:   {"KubeletHasDiskPressure", "kubelet has disk pressure"},
		v1.NodePIDPressure:    {"KubeletHasInsufficientPID", "kubelet has insufficient PID available"},
	}
	for i := range conditions {
		if why, short := pressure(conditions[i].Type); short {
			words := under[conditions[i].Type]
			conditions[i].Status, conditions[i].Reason, conditions[i].Message = v1.ConditionTrue, words[0], words[1]+": "+why
		}
	}
	return append(conditions, ready)
}

func nodeCondition(status v1.NodeStatus, kind v1.NodeConditionType) *v1.NodeCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}
	return nil
}

func setNodeCondition(status *v1.NodeStatus, condition v1.NodeCondition, now metav1.Time) {
	condition.LastHeartbeatTime, condition.LastTransitionTime = now, now
	old := nodeCondition(*status, condition.Type)
	if old == nil {
		status.Conditions = append(status.Conditions, condition)
		return
	}
	if old.Status == condition.Status {
		condition.LastTransitionTime = old.LastTransitionTime
	}
	*old = condition
}

// nodeImages are the biggest images of the node, which the scheduler may prefer nodes for.
func (kl *Kubelet) nodeImages(ctx context.Context) []v1.ContainerImage {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	response, err := kl.runtime.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil // the Ready condition says what is wrong with the runtime
	}
	sort.Slice(response.Images, func(i, j int) bool {
		if response.Images[i].Size != response.Images[j].Size {
			return response.Images[i].Size > response.Images[j].Size
		}
		return response.Images[i].Id < response.Images[j].Id
	})
	var images []v1.ContainerImage
	for _, image := range response.Images {
		names := append(append([]string{}, image.RepoDigests...), image.RepoTags...)
		if len(names) > 5 {
			names = names[:5]
		}
		if len(names) > 0 && len(images) < maxNodeImages {
			images = append(images, v1.ContainerImage{Names: names, SizeBytes: int64(image.Size)})
		}
	}
	return images
}

// nodeIPs is the configured address, or the one that packets to elsewhere leave from.
func (kl *Kubelet) nodeIPs() []string {
	if kl.NodeIP != "" {
		return strings.Split(kl.NodeIP, ",")
	}
	if conn, err := net.Dial("udp", "192.0.2.1:9"); err == nil { // sends nothing: it only chooses a route
		defer conn.Close()
		if address, ok := conn.LocalAddr().(*net.UDPAddr); ok {
			return []string{address.IP.String()}
		}
	}
	return []string{"127.0.0.1"}
}

// machine is what the node tells of its hardware and system.
type machine struct {
	cpus                       int
	memory, disk               int64 // bytes
	hugePages                  map[int64]int64
	id, uuid, boot, kernel, os string
}

func readTrimmed(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
