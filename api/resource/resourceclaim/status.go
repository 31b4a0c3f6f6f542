package resourceclaim

import (
	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/resource/device"
	"hyperkube/api/rule"
)

// allocated are the devices that a claim has been given.
func allocated(allocation *resourcev1.AllocationResult) sets.Set[device.ID] {
	all := sets.New[device.ID]()
	if allocation != nil {
		for _, r := range allocation.Devices.Results {
			all.Insert(device.ID{Driver: r.Driver, Pool: r.Pool, Device: r.Device, ShareID: string(ptr.Deref(r.ShareID, ""))})
		}
	}
	return all
}

func idOf(d *resourcev1.AllocatedDeviceStatus) device.ID {
	return device.ID{Driver: d.Driver, Pool: d.Pool, Device: d.Device, ShareID: ptr.Deref(d.ShareID, "")}
}

// DropAlphaStatus forgets what belongs to features that are not on by default.
func DropAlphaStatus(s *resourcev1.ResourceClaimStatus) {
	for i := range s.Devices {
		if len(s.Devices[i].Conditions) == 0 {
			s.Devices[i].Conditions = nil // an answer shows none as null, however it was written
		}
	}
	if s.Allocation == nil {
		return
	}
	for i := range s.Allocation.Devices.Results {
		s.Allocation.Devices.Results[i].SkipNodeOperations = nil
	}
}

// DropDeallocated forgets what drivers said of devices that the claim has given back: who deallocates may not know of status.devices.
func DropDeallocated(c, old *resourcev1.ResourceClaim) {
	gone := allocated(old.Status.Allocation).Difference(allocated(c.Status.Allocation))
	var kept []resourcev1.AllocatedDeviceStatus
	for _, d := range c.Status.Devices {
		if !gone.Has(idOf(&d)) {
			kept = append(kept, d)
		}
	}
	c.Status.Devices = kept
}

// ValidateStatusUpdate checks what scheduler and drivers write: an allocation is made once, for requests that there are; what
// is not allocated is reserved for nobody; a driver speaks of allocated devices only.
func ValidateStatusUpdate(c, old *resourcev1.ResourceClaim) field.ErrorList {
	status, path := &c.Status, field.NewPath("status")
	errs := device.Items(status.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, path.Child("reservedFor"), validateUser)
	ours := allocated(status.Allocation)
	for i := range status.Devices {
		errs = append(errs, validateDevice(&status.Devices[i], ours, path.Child("devices").Index(i))...)
	}
	if len(status.ReservedFor) > 0 {
		errs = append(errs, validateReserved(c, old, path.Child("reservedFor"))...)
	}
	// One that stays is not looked at again: the rules for new ones may have become tighter.
	if status.Allocation != nil && old.Status.Allocation == nil {
		errs = append(errs, validateAllocation(status.Allocation, names(&c.Spec.Devices), path.Child("allocation"))...)
	}
	return append(errs, device.Declared(resourcev1.Validate_ResourceClaimStatus, status, &old.Status, path)...)
}

func validateUser(r *resourcev1.ResourceClaimConsumerReference, path *field.Path) field.ErrorList {
	errs := rule.NonEmpty(r.Resource, path.Child("resource"))
	errs = append(errs, rule.NonEmpty(r.Name, path.Child("name"))...)
	return append(errs, rule.NonEmpty(string(r.UID), path.Child("uid"))...)
}

func validateReserved(c, old *resourcev1.ResourceClaim, path *field.Path) field.ErrorList {
	if c.Status.Allocation == nil {
		return field.ErrorList{field.Forbidden(path, "may not be specified when `allocated` is not set")}
	}
	more := sets.New(c.Status.ReservedFor...).Difference(sets.New(old.Status.ReservedFor...))
	if c.DeletionTimestamp != nil && len(more) > 0 {
		return field.ErrorList{field.Forbidden(path, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set")}
	}
	return nil
}

func validateAllocation(a *resourcev1.AllocationResult, known sets.Set[string], path *field.Path) field.ErrorList {
	devices := path.Child("devices")
	errs := device.Items(a.Devices.Results, resourcev1.AllocationResultsMaxSize, devices.Child("results"),
		func(r *resourcev1.DeviceRequestAllocationResult, at *field.Path) field.ErrorList {
			errs := validateReference(r.Request, known, at.Child("request"))
			errs = append(errs, rule.DNSLabel(r.Device, at.Child("device"))...)
			errs = append(errs, device.ValidateBinding(r.BindingConditions, r.BindingFailureConditions, at)...)
			return append(errs, device.ValidateTolerations(r.Tolerations, at.Child("tolerations"))...)
		})
	// Configuration comes from the classes and from the claim.
	errs = append(errs, device.Items(a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize, devices.Child("config"),
		func(c *resourcev1.DeviceAllocationConfiguration, at *field.Path) field.ErrorList {
			errs := validateReferences(c.Requests, known, at.Child("requests"))
			return append(errs, device.ValidateConfiguration(&c.DeviceConfiguration, false, at)...)
		})...)
	if a.NodeSelector != nil {
		errs = append(errs, pod.ValidateNodeSelector(a.NodeSelector, path.Child("nodeSelector"))...)
	}
	return errs
}

// validateDevice checks what a driver says of a device.
func validateDevice(d *resourcev1.AllocatedDeviceStatus, ours sets.Set[device.ID], path *field.Path) field.ErrorList {
	errs := rule.DriverName(d.Driver, path.Child("driver"))
	errs = append(errs, device.ValidatePool(d.Pool, path.Child("pool"))...)
	errs = append(errs, rule.DNSLabel(d.Device, path.Child("device"))...)
	if id := idOf(d); !ours.Has(id) {
		errs = append(errs, field.Invalid(path, id, "must be an allocated device in the claim"))
	}
	if n := len(d.Conditions); n > resourcev1.AllocatedDeviceStatusMaxConditions {
		errs = append(errs, field.TooMany(path.Child("conditions"), n, resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	errs = append(errs, metav1validation.ValidateConditions(d.Conditions, path.Child("conditions"))...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		errs = append(errs, device.ValidateObject(*d.Data, path.Child("data"), resourcev1.AllocatedDeviceStatusDataMaxLength)...)
	}
	if d.NetworkData != nil {
		errs = append(errs, device.Items(d.NetworkData.IPs, resourcev1.NetworkDeviceDataMaxIPs, path.Child("networkData", "ips"),
			func(ip *string, at *field.Path) field.ErrorList { return validation.IsValidInterfaceAddress(at, *ip) })...)
	}
	return errs
}
