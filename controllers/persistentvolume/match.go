package persistentvolume

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// findBestMatchForClaim returns the volume that serves the claim and wastes the least: of those that have its access
// modes the ones with the fewest others, and of these the smallest. A volume that is reserved for the claim wins. With
// delayBinding only such a one counts: the scheduler chooses. Nil: there is none.
func (ctrl *Controller) findBestMatchForClaim(claim *corev1.PersistentVolumeClaim, delayBinding bool) (*corev1.PersistentVolume, error) {
	all, err := ctrl.volumeLister.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, volumes := range byAccessModes(claim, all) {
		volume, err := storagehelpers.FindMatchingVolume(claim, volumes, nil, nil, delayBinding, true)
		if volume != nil || err != nil {
			return volume, err
		}
	}
	return nil, nil
}

// byAccessModes groups the volumes that have all of the claim's access modes by what they have, the
// fewest first. Within a group they are in the order of their names, so that of equals always the same one is taken.
func byAccessModes(claim *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume) [][]*corev1.PersistentVolume {
	groups := map[string][]*corev1.PersistentVolume{}
	for _, v := range volumes {
		if storagehelpers.CheckAccessModes(claim, v) {
			groups[modes(v)] = append(groups[modes(v)], v)
		}
	}
	var ordered [][]*corev1.PersistentVolume
	for _, group := range groups {
		slices.SortFunc(group, func(a, b *corev1.PersistentVolume) int { return strings.Compare(a.Name, b.Name) })
		ordered = append(ordered, group)
	}
	slices.SortFunc(ordered, func(a, b []*corev1.PersistentVolume) int {
		x, y := modes(a[0]), modes(b[0])
		if n := strings.Count(x, ",") - strings.Count(y, ","); n != 0 {
			return n
		}
		return strings.Compare(x, y)
	})
	return ordered
}

// modes are a volume's access modes, each once, in one string.
func modes(volume *corev1.PersistentVolume) string {
	var words []string
	for _, m := range volume.Spec.AccessModes {
		words = append(words, string(m))
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ",")
}

// checkVolumeSatisfyClaim says why a volume that the claim asks for by name cannot be given to it.
func checkVolumeSatisfyClaim(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	wanted, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], volume.Spec.Capacity[corev1.ResourceStorage]
	switch {
	case volume.DeletionTimestamp != nil:
		return fmt.Errorf("the volume is marked for deletion %q", volume.Name)
	case has.Cmp(wanted) < 0:
		return errors.New("requested PV is too small")
	case storagehelpers.GetPersistentVolumeClass(volume) != storagehelpers.GetPersistentVolumeClaimClass(claim):
		return errors.New("storageClassName does not match")
	case ptr.Deref(volume.Spec.VolumeAttributesClassName, "") != ptr.Deref(claim.Spec.VolumeAttributesClassName, ""):
		return errors.New("volumeAttributesClassName does not match")
	case storagehelpers.CheckVolumeModeMismatches(&claim.Spec, &volume.Spec):
		return errors.New("incompatible volumeMode")
	case !storagehelpers.CheckAccessModes(claim, volume):
		return errors.New("incompatible accessMode")
	}
	return nil
}
