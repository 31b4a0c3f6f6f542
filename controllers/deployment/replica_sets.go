package deployment

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	intstrutil "k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/dump"
)

// EqualIgnoreHash compares two templates but for the label pod-template-hash,
// which only the ReplicaSet's has.
func EqualIgnoreHash(a, b *corev1.PodTemplateSpec) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	delete(a.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(a, b)
}

// FindNewReplicaSet returns the ReplicaSet of d's template, or nil. Should there
// be several, the oldest: every controller then picks the same.
func FindNewReplicaSet(d *appsv1.Deployment, rsList []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	rsList = slices.Clone(rsList)
	slices.SortFunc(rsList, byCreation)
	for _, rs := range rsList {
		if EqualIgnoreHash(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	return nil
}

// FindOldReplicaSets returns all others.
func FindOldReplicaSets(d *appsv1.Deployment, rsList []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	newRS := FindNewReplicaSet(d, rsList)
	var old []*appsv1.ReplicaSet
	for _, rs := range rsList {
		if newRS == nil || rs.UID != newRS.UID {
			old = append(old, rs)
		}
	}
	return old
}

// FindActiveOrLatest returns the one ReplicaSet that has replicas; the new one
// (else the latest old one) where none has; nil where several have.
func FindActiveOrLatest(newRS *appsv1.ReplicaSet, oldRSs []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	active := FilterActiveReplicaSets(allReplicaSets(oldRSs, newRS))
	switch {
	case len(active) == 1:
		return active[0]
	case len(active) > 1:
		return nil
	case newRS != nil:
		return newRS
	case len(oldRSs) > 0:
		return slices.MaxFunc(oldRSs, byCreation)
	}
	return nil
}

func allReplicaSets(oldRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	all := slices.Clone(oldRSs)
	if newRS != nil {
		all = append(all, newRS)
	}
	return all
}

// FilterActiveReplicaSets returns those that are asked to have replicas.
func FilterActiveReplicaSets(rsList []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var active []*appsv1.ReplicaSet
	for _, rs := range rsList {
		if rs != nil && *rs.Spec.Replicas > 0 {
			active = append(active, rs)
		}
	}
	return active
}

// IsSaturated: the new ReplicaSet was sized for d's replicas, and has them all
// available.
func IsSaturated(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	if rs == nil {
		return false
	}
	desired, ok := intAnnotation(rs, DesiredReplicasAnnotation)
	return ok && *rs.Spec.Replicas == *d.Spec.Replicas && desired == *d.Spec.Replicas && rs.Status.AvailableReplicas == *d.Spec.Replicas
}

// IsRollingUpdate reports d's strategy.
func IsRollingUpdate(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType
}

// ResolveFenceposts turns maxSurge and maxUnavailable into numbers: percentages
// of desired, the surge rounded up, the unavailable rounded down. Both zero
// would allow no step at all, so then one may be unavailable.
func ResolveFenceposts(maxSurge, maxUnavailable *intstrutil.IntOrString, desired int32) (surge, unavailable int32, err error) {
	zero := intstrutil.FromInt32(0)
	s, err := intstrutil.GetScaledValueFromIntOrPercent(intstrutil.ValueOrDefault(maxSurge, zero), int(desired), true)
	if err != nil {
		return 0, 0, err
	}
	u, err := intstrutil.GetScaledValueFromIntOrPercent(intstrutil.ValueOrDefault(maxUnavailable, zero), int(desired), false)
	if err != nil {
		return 0, 0, err
	}
	if s == 0 && u == 0 {
		u = 1
	}
	return int32(s), int32(u), nil
}

// MaxSurge is how many replicas beyond spec.replicas may exist.
func MaxSurge(d appsv1.Deployment) int32 {
	if !IsRollingUpdate(&d) || d.Spec.Strategy.RollingUpdate == nil {
		return 0
	}
	// Validation refuses what cannot be resolved.
	surge, _, _ := ResolveFenceposts(d.Spec.Strategy.RollingUpdate.MaxSurge, d.Spec.Strategy.RollingUpdate.MaxUnavailable, *d.Spec.Replicas)
	return surge
}

// MaxUnavailable is how many of spec.replicas may be unavailable.
func MaxUnavailable(d appsv1.Deployment) int32 {
	if !IsRollingUpdate(&d) || d.Spec.Strategy.RollingUpdate == nil || *d.Spec.Replicas == 0 {
		return 0
	}
	_, unavailable, _ := ResolveFenceposts(d.Spec.Strategy.RollingUpdate.MaxSurge, d.Spec.Strategy.RollingUpdate.MaxUnavailable, *d.Spec.Replicas)
	return min(unavailable, *d.Spec.Replicas)
}

// NewRSNewReplicas is the size the new ReplicaSet may grow to now.
func NewRSNewReplicas(d *appsv1.Deployment, allRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet) (int32, error) {
	switch d.Spec.Strategy.Type {
	case appsv1.RollingUpdateDeploymentStrategyType:
		room := *d.Spec.Replicas + MaxSurge(*d) - GetReplicaCountForReplicaSets(allRSs)
		missing := *d.Spec.Replicas - *newRS.Spec.Replicas
		return *newRS.Spec.Replicas + max(0, min(room, missing)), nil
	case appsv1.RecreateDeploymentStrategyType:
		return *d.Spec.Replicas, nil
	}
	return 0, fmt.Errorf("deployment type %v isn't supported", d.Spec.Strategy.Type)
}

// GetReplicaSetProportion is rs's share of the replicas still to add (or take).
func GetReplicaSetProportion(rs *appsv1.ReplicaSet, d appsv1.Deployment, toAdd, added int32) int32 {
	if rs == nil || *rs.Spec.Replicas == 0 || toAdd == 0 || toAdd == added {
		return 0
	}
	share, left := getReplicaSetFraction(*rs, d), toAdd-added
	if toAdd > 0 {
		return min(share, left)
	}
	return max(share, left)
}

// getReplicaSetFraction is by how much rs would change if d's new size were
// spread exactly in proportion to the sizes of now.
func getReplicaSetFraction(rs appsv1.ReplicaSet, d appsv1.Deployment) int32 {
	if *d.Spec.Replicas == 0 {
		return -*rs.Spec.Replicas
	}
	// What d's replicas and surge were when rs was last sized. It is not the sum
	// of now: a rollout that is behind must not make the shares larger.
	before, ok := intAnnotation(&rs, MaxReplicasAnnotation)
	if !ok || before == 0 {
		before = d.Status.Replicas
		if before == 0 {
			return 0
		}
	}
	size := float64(*rs.Spec.Replicas) * float64(*d.Spec.Replicas+MaxSurge(d)) / float64(before)
	return int32(math.RoundToEven(size)) - *rs.Spec.Replicas
}

func sum(rsList []*appsv1.ReplicaSet, count func(*appsv1.ReplicaSet) int32) int32 {
	var total int32
	for _, rs := range rsList {
		if rs != nil {
			total += count(rs)
		}
	}
	return total
}

// GetReplicaCountForReplicaSets sums what the ReplicaSets are asked for.
func GetReplicaCountForReplicaSets(rsList []*appsv1.ReplicaSet) int32 {
	return sum(rsList, func(rs *appsv1.ReplicaSet) int32 { return *rs.Spec.Replicas })
}

// GetActualReplicaCountForReplicaSets sums the pods they have.
func GetActualReplicaCountForReplicaSets(rsList []*appsv1.ReplicaSet) int32 {
	return sum(rsList, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.Replicas })
}

// GetReadyReplicaCountForReplicaSets sums their ready pods.
func GetReadyReplicaCountForReplicaSets(rsList []*appsv1.ReplicaSet) int32 {
	return sum(rsList, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.ReadyReplicas })
}

// GetAvailableReplicaCountForReplicaSets sums their available pods.
func GetAvailableReplicaCountForReplicaSets(rsList []*appsv1.ReplicaSet) int32 {
	return sum(rsList, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas })
}

// GetTerminatingReplicaCountForReplicaSets sums the pods that are going; nil when
// one of the ReplicaSets does not say.
func GetTerminatingReplicaCountForReplicaSets(rsList []*appsv1.ReplicaSet) *int32 {
	var total int32
	for _, rs := range rsList {
		if rs == nil {
			continue
		}
		if rs.Status.TerminatingReplicas == nil {
			return nil
		}
		total += *rs.Status.TerminatingReplicas
	}
	return &total
}

func byCreation(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

func byRevision(a, b *appsv1.ReplicaSet) int {
	ra, errA := Revision(a)
	rb, errB := Revision(b)
	if errA != nil || errB != nil || ra == rb {
		return byCreation(a, b)
	}
	return cmp.Compare(ra, rb)
}

// bySizeOlder and bySizeNewer put the largest first; among equals the older, or
// the newer.
func bySizeOlder(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas), byCreation(a, b))
}

func bySizeNewer(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas), byCreation(b, a))
}

// hashTemplate is FNV-1a over a dump of the template with sorted keys and
// followed pointers: the form upstream uses, so that the same template gets the
// same hash in a cluster whose controller manager is replaced by ours.
func hashTemplate(template *corev1.PodTemplateSpec, collisionCount *int32) uint32 {
	hasher := fnv.New32a()
	fmt.Fprintf(hasher, "%v", dump.ForHash(*template))
	if collisionCount != nil {
		// Eight bytes of which four are used: upstream's, kept for the same hash.
		var bytes [8]byte
		binary.LittleEndian.PutUint32(bytes[:], uint32(*collisionCount))
		hasher.Write(bytes[:])
	}
	return hasher.Sum32()
}

func intAnnotation(rs *appsv1.ReplicaSet, key string) (int32, bool) {
	value, err := strconv.ParseInt(rs.Annotations[key], 10, 32)
	return int32(value), err == nil
}
