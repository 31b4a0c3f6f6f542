// Package csidriver is what is true of a CSIDriver: what a volume driver asks of those who use it.
//
// In Kubernetes: SetDefaults_CSIDriver (pkg/apis/storage/v1) and ValidateCSIDriver* (pkg/apis/storage/validation).
package csidriver

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// SetDefaults fills what the driver's writer left out.
func SetDefaults(d *storagev1.CSIDriver) {
	spec := &d.Spec
	for _, p := range []struct {
		field **bool
		value bool
	}{{&spec.AttachRequired, true}, {&spec.PodInfoOnMount, false}, {&spec.StorageCapacity, false}, {&spec.RequiresRepublish, false}, {&spec.SELinuxMount, false}, {&spec.PreventPodSchedulingIfMissing, false}} {
		if *p.field == nil {
			*p.field = ptr.To(p.value)
		}
	}
	if spec.FSGroupPolicy == nil {
		spec.FSGroupPolicy = ptr.To(storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	}
	if len(spec.VolumeLifecycleModes) == 0 {
		spec.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
}

// minUpdatePeriodSeconds: more often no kubelet asks a driver how many volumes its node can have.
const minUpdatePeriodSeconds = 10

// Validate checks a driver on its own.
func Validate(d *storagev1.CSIDriver) field.ErrorList {
	spec, path := &d.Spec, field.NewPath("spec")
	var errs field.ErrorList
	for _, p := range []struct {
		name  string
		value *bool
	}{{attachRequired, spec.AttachRequired}, {"podInfoOnMount", spec.PodInfoOnMount}, {"storageCapacity", spec.StorageCapacity}} {
		if p.value == nil {
			errs = append(errs, field.Required(path.Child(p.name), ""))
		}
	}
	if p := spec.FSGroupPolicy; p != nil {
		errs = append(errs, rule.OneOf(*p, path.Child("fsGroupPolicy"), storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy)...)
	}
	errs = append(errs, validateTokenRequests(spec.TokenRequests, path.Child("tokenRequests"))...)
	for _, mode := range spec.VolumeLifecycleModes {
		errs = append(errs, rule.Listed(mode, path.Child("volumeLifecycleModes"), storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)...)
	}
	if spec.SELinuxMount == nil {
		errs = append(errs, field.Required(path.Child("seLinuxMount"), ""))
	}
	if n := spec.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < minUpdatePeriodSeconds {
		errs = append(errs, field.Invalid(path.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
	}
	if in := spec.ServiceAccountTokenInSecrets; in != nil && len(spec.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(path.Child("serviceAccountTokenInSecrets"), in, "serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	return errs
}

// attachRequired is the name by which upstream's errors call the field attachRequired.
const attachRequired = "attachedRequired"

// validateTokenRequests: each audience once, and tokens that live between ten minutes and 136 years.
func validateTokenRequests(requests []storagev1.TokenRequest, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	audiences := sets.New[string]()
	for i, request := range requests {
		at := path.Index(i)
		if audiences.Has(request.Audience) {
			errs = append(errs, field.Duplicate(at.Child("audience"), request.Audience))
			continue
		}
		audiences.Insert(request.Audience)
		switch n := ptr.Deref(request.ExpirationSeconds, 600); {
		case n < 600:
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), n, "may not specify a duration less than 10 minutes"))
		case n > 1<<32:
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), n, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return errs
}

// ValidateUpdate: volumes have been attached, or not, by what the driver said first.
func ValidateUpdate(d, old *storagev1.CSIDriver) field.ErrorList {
	path := field.NewPath("spec")
	errs := append(Validate(d), rule.Immutable(d.Spec.AttachRequired, old.Spec.AttachRequired, path.Child(attachRequired))...)
	return append(errs, rule.Immutable(d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, path.Child("volumeLifecycleModes"))...)
}

// Warnings tell of tokens that go where they may be logged; old is nil at a create.
func Warnings(d, old *storagev1.CSIDriver) []string {
	if len(d.Spec.TokenRequests) == 0 || d.Spec.ServiceAccountTokenInSecrets != nil || old != nil && equality.Semantic.DeepEqual(d.Spec.TokenRequests, old.Spec.TokenRequests) {
		return nil
	}
	return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
}
