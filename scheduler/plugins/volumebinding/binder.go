package volumebinding

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"hyperkube/scheduler/framework"
)

// volumeBinder decides which volumes a pod gets on a node, and makes it so.
type volumeBinder struct {
	client      kubernetes.Interface
	pods        corelisters.PodLister
	nodes       corelisters.NodeLister
	classes     storagelisters.StorageClassLister
	drivers     storagelisters.CSIDriverLister
	capacities  storagelisters.CSIStorageCapacityLister
	claims      *assumeCache[*v1.PersistentVolumeClaim]
	volumes     *assumeCache[*v1.PersistentVolume]
	bindTimeout time.Duration
}

func newVolumeBinder(h framework.Handle, bindTimeout time.Duration) *volumeBinder {
	core, storage := h.SharedInformerFactory().Core().V1(), h.SharedInformerFactory().Storage().V1()
	claims, volumes := core.PersistentVolumeClaims().Lister(), core.PersistentVolumes().Lister()
	return &volumeBinder{
		client: h.ClientSet(), pods: core.Pods().Lister(), nodes: core.Nodes().Lister(),
		classes: storage.StorageClasses().Lister(), drivers: storage.CSIDrivers().Lister(), capacities: storage.CSIStorageCapacities().Lister(),
		claims: newAssumeCache(func(namespace, name string) (*v1.PersistentVolumeClaim, error) {
			return claims.PersistentVolumeClaims(namespace).Get(name)
		}),
		volumes:     newAssumeCache(func(_, name string) (*v1.PersistentVolume, error) { return volumes.Get(name) }).withList(volumes.List),
		bindTimeout: bindTimeout,
	}
}

// podVolumeClaims are a pod's claims, sorted by what is to be done.
type podVolumeClaims struct {
	bound []*v1.PersistentVolumeClaim
	// unboundDelayed wait for the pod to be placed.
	unboundDelayed []*v1.PersistentVolumeClaim
	// unboundImmediate should have been bound without us; those that name a volume, too.
	unboundImmediate []*v1.PersistentVolumeClaim
	// volumes are those of the classes of unboundDelayed.
	volumes map[string][]*v1.PersistentVolume
}

// binding is a volume for a claim.
type binding struct {
	claim  *v1.PersistentVolumeClaim
	volume *v1.PersistentVolume
}

// provision is a volume to be made for a claim; capacity is what the driver says is left, nil if it says nothing.
type provision struct {
	claim    *v1.PersistentVolumeClaim
	capacity *resource.Quantity
}

// podVolumes is the decision for one node.
type podVolumes struct {
	bindings   []binding
	provisions []provision
}

// GetPodVolumeClaims sorts the claims of a pod, all of which exist.
func (b *volumeBinder) GetPodVolumeClaims(pod *v1.Pod) (podVolumeClaims, error) {
	sorted := podVolumeClaims{volumes: map[string][]*v1.PersistentVolume{}}
	for i := range pod.Spec.Volumes {
		name, _ := claimOf(pod, &pod.Spec.Volumes[i])
		if name == "" {
			continue
		}
		claim, err := b.claims.get(pod.Namespace, name)
		if err != nil {
			return sorted, err
		}
		if isFullyBound(claim) {
			sorted.bound = append(sorted.bound, claim)
			continue
		}
		delayed, err := storagehelpers.IsDelayBindingMode(claim, b.classes)
		if err != nil {
			return sorted, err
		}
		if delayed && claim.Spec.VolumeName == "" {
			sorted.unboundDelayed = append(sorted.unboundDelayed, claim)
		} else {
			sorted.unboundImmediate = append(sorted.unboundImmediate, claim)
		}
	}
	if len(sorted.unboundDelayed) == 0 {
		return sorted, nil
	}
	all, err := b.volumes.list()
	for _, v := range all {
		class := storagehelpers.GetPersistentVolumeClass(v)
		sorted.volumes[class] = append(sorted.volumes[class], v)
	}
	return sorted, err
}

func isFullyBound(claim *v1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeName != "" && metav1.HasAnnotation(claim.ObjectMeta, storagehelpers.AnnBindCompleted)
}

// FindPodVolumes decides for one node, in these steps; reasons say why it cannot be this one:
//
//	1: the volumes of bound claims must be within the node's reach
//	2: each other claim gets the free volume that suits it best
//	3: for the claims that are left a provisioner must be able to make one here
func (b *volumeBinder) FindPodVolumes(claims *podVolumeClaims, node *v1.Node) (*podVolumes, []string, error) {
	// Step 1: the volumes of bound claims must be within the node's reach
	for _, claim := range claims.bound {
		volume, err := b.volumes.get("", claim.Spec.VolumeName)
		if apierrors.IsNotFound(err) {
			return nil, []string{ErrReasonPVNotExist}, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if storagehelpers.CheckNodeAffinity(volume, node.Labels) != nil {
			return nil, []string{ErrReasonNodeConflict}, nil
		}
	}
	// Step 2: each other claim gets the free volume that suits it best
	decision := &podVolumes{}
	toProvision, here, err := b.findMatchingVolumes(claims, node, decision)
	if err != nil {
		return nil, nil, err
	}
	if !here {
		return nil, []string{ErrReasonBindConflict}, nil
	}
	// Step 3: for the claims that are left a provisioner must be able to make one here
	reason, err := b.checkVolumeProvisions(toProvision, node, decision)
	if err != nil {
		return nil, nil, err
	}
	if reason != "" {
		return nil, []string{reason}, nil
	}
	return decision, nil, nil
}

// findMatchingVolumes takes the smallest claims first, so that they leave the large volumes to the large ones. It
// returns the claims that get none; here is false if one of them has been promised to another node.
func (b *volumeBinder) findMatchingVolumes(claims *podVolumeClaims, node *v1.Node, decision *podVolumes) (rest []*v1.PersistentVolumeClaim, here bool, err error) {
	chosen := map[string]*v1.PersistentVolume{}
	bySize := slices.SortedStableFunc(slices.Values(claims.unboundDelayed), func(x, y *v1.PersistentVolumeClaim) int {
		return cmp.Compare(requested(x), requested(y))
	})
	for _, claim := range bySize {
		if selected, ok := claim.Annotations[storagehelpers.AnnSelectedNode]; ok {
			if selected != node.Name {
				return nil, false, nil
			}
			rest = append(rest, claim)
			continue
		}
		volume, err := storagehelpers.FindMatchingVolume(claim, claims.volumes[storagehelpers.GetPersistentVolumeClaimClass(claim)], node, chosen, true, true)
		if err != nil {
			return nil, false, err
		}
		if volume == nil {
			rest = append(rest, claim)
			continue
		}
		chosen[volume.Name] = volume
		decision.bindings = append(decision.bindings, binding{claim, volume})
	}
	return rest, true, nil
}

func requested(claim *v1.PersistentVolumeClaim) int64 {
	q := claim.Spec.Resources.Requests[v1.ResourceStorage]
	return q.Value()
}

// checkVolumeProvisions adds the volumes to be made to the decision, or says why that cannot be on this node.
func (b *volumeBinder) checkVolumeProvisions(claims []*v1.PersistentVolumeClaim, node *v1.Node, decision *podVolumes) (reason string, err error) {
	for _, claim := range claims {
		name := storagehelpers.GetPersistentVolumeClaimClass(claim)
		class, err := b.classes.Get(name)
		if err != nil {
			return "", fmt.Errorf("failed to find storage class %q", name)
		}
		if class.Provisioner == "" || class.Provisioner == storagehelpers.NotSupportedProvisioner || !matchTopology(class.AllowedTopologies, node.Labels) {
			return ErrReasonBindConflict, nil
		}
		enough, capacity, err := b.hasEnoughCapacity(claim, class, node)
		if err != nil {
			return "", err
		}
		if !enough {
			return ErrReasonNotEnoughSpace, nil
		}
		decision.provisions = append(decision.provisions, provision{claim, capacity})
	}
	return "", nil
}

// matchTopology: one of the terms must match in all its labels. No term is all nodes.
func matchTopology(terms []v1.TopologySelectorTerm, nodeLabels map[string]string) bool {
	return len(terms) == 0 || slices.ContainsFunc(terms, func(term v1.TopologySelectorTerm) bool {
		return len(term.MatchLabelExpressions) > 0 && !slices.ContainsFunc(term.MatchLabelExpressions, func(r v1.TopologySelectorLabelRequirement) bool {
			value, ok := nodeLabels[r.Key]
			return !ok || !slices.Contains(r.Values, value)
		})
	})
}

// hasEnoughCapacity looks for a CSIStorageCapacity of the class that covers the node and is large enough. Drivers that
// publish none have always enough.
func (b *volumeBinder) hasEnoughCapacity(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, node *v1.Node) (bool, *resource.Quantity, error) {
	want, ok := claim.Spec.Resources.Requests[v1.ResourceStorage]
	if !ok {
		return true, nil, nil
	}
	driver, err := b.drivers.Get(class.Provisioner)
	if apierrors.IsNotFound(err) {
		return true, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	if driver.Spec.StorageCapacity == nil || !*driver.Spec.StorageCapacity {
		return true, nil, nil
	}
	capacities, err := b.capacities.List(labels.Everything())
	if err != nil {
		return false, nil, err
	}
	for _, c := range capacities {
		if limit := volumeLimit(c); c.StorageClassName == class.Name && limit != nil && limit.Cmp(want) >= 0 && covers(c, node) {
			return true, c.Capacity, nil
		}
	}
	return false, nil, nil
}

// volumeLimit is the largest volume that can be made.
func volumeLimit(c *storagev1.CSIStorageCapacity) *resource.Quantity {
	if c.MaximumVolumeSize != nil {
		return c.MaximumVolumeSize
	}
	return c.Capacity
}

func covers(c *storagev1.CSIStorageCapacity, node *v1.Node) bool {
	if c.NodeTopology == nil {
		return false // reachable from nowhere
	}
	selector, err := metav1.LabelSelectorAsSelector(c.NodeTopology)
	return err == nil && selector.Matches(labels.Set(node.Labels))
}

// use is what a pod asks of a class's storage on a node, and what there is. In bytes.
type use struct{ requested, capacity int64 }

// byClass adds the decision up by class.
func (p *podVolumes) byClass() map[string]use {
	classes := map[string]use{}
	for _, b := range p.bindings {
		name, capacity := storagehelpers.GetPersistentVolumeClass(b.volume), b.volume.Spec.Capacity[v1.ResourceStorage]
		classes[name] = use{classes[name].requested + requested(b.claim), classes[name].capacity + capacity.Value()}
	}
	if len(p.bindings) > 0 {
		return classes // the volumes that are there decide
	}
	for _, p := range p.provisions {
		if p.capacity != nil {
			name := storagehelpers.GetPersistentVolumeClaimClass(p.claim)
			classes[name] = use{classes[name].requested + requested(p.claim), p.capacity.Value()}
		}
	}
	return classes
}
