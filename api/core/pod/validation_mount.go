package pod

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// validateVolumeMounts checks where a container sees its volumes. Some paths lack the mount's index, as upstream's do.
func (r *containerRules) validateVolumeMounts(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths := sets.New[string]()
	for i := range c.VolumeMounts {
		mount, at := &c.VolumeMounts[i], path.Index(i)
		errs = append(errs, rule.NonEmpty(mount.Name, at.Child("name"))...)
		if _, ok := r.volumes[mount.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), mount.Name))
		}
		errs = append(errs, rule.NonEmpty(mount.MountPath, at.Child("mountPath"))...)
		if paths.Has(mount.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), mount.MountPath, "must be unique"))
		}
		paths.Insert(mount.MountPath)
		name, under := overlap(mount.Name, mount.MountPath, c.VolumeDevices, func(d v1.VolumeDevice) (string, string) { return d.Name, d.DevicePath })
		if name {
			errs = append(errs, field.Invalid(at.Child("name"), mount.Name, "must not already exist in volumeDevices"))
		}
		if under {
			errs = append(errs, field.Invalid(at.Child("mountPath"), mount.MountPath, "must not already exist as a path in volumeDevices"))
		}
		if mount.SubPath != "" {
			errs = append(errs, validateLocalDescendingPath(mount.SubPath, path.Child("subPath"))...)
		}
		if mount.SubPathExpr != "" {
			if mount.SubPath != "" {
				errs = append(errs, field.Invalid(at.Child("subPathExpr"), mount.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, validateLocalDescendingPath(mount.SubPathExpr, path.Child("subPathExpr"))...)
		}
		errs = append(errs, validateMountPropagation(mount.MountPropagation, c, path.Child("mountPropagation"))...)
		errs = append(errs, validateRecursiveReadOnly(mount, path.Child("recursiveReadOnly"))...)
	}
	return errs
}

// overlap tells whether others have a volume's name, and its path.
func overlap[T any](name, path string, others []T, of func(T) (string, string)) (sameName, samePath bool) {
	for _, other := range others {
		n, p := of(other)
		sameName = sameName || n == name
		samePath = samePath || p == path
	}
	return sameName, samePath
}

func validateMountPropagation(mode *v1.MountPropagationMode, c *v1.Container, path *field.Path) field.ErrorList {
	if mode == nil {
		return nil
	}
	errs := rule.OneOf(*mode, path, v1.MountPropagationBidirectional, v1.MountPropagationHostToContainer, v1.MountPropagationNone)
	privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
	return append(errs, forbidden(*mode == v1.MountPropagationBidirectional && !privileged, path, "Bidirectional mount propagation is available only to privileged containers")...)
}

func validateRecursiveReadOnly(mount *v1.VolumeMount, at *field.Path) field.ErrorList {
	if mount.RecursiveReadOnly == nil || *mount.RecursiveReadOnly == v1.RecursiveReadOnlyDisabled {
		return nil
	}
	errs := rule.OneOf(*mount.RecursiveReadOnly, at, v1.RecursiveReadOnlyDisabled, v1.RecursiveReadOnlyIfPossible, v1.RecursiveReadOnlyEnabled)
	if len(errs) > 0 {
		return errs
	}
	errs = forbidden(!mount.ReadOnly, at, "may only be specified when readOnly is true")
	p := mount.MountPropagation
	return append(errs, forbidden(p != nil && *p != v1.MountPropagationNone, at, "may only be specified when mountPropagation is None or not specified")...)
}

func (r *containerRules) validateVolumeDevices(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names, paths := sets.New[string](), sets.New[string]()
	for i, device := range c.VolumeDevices {
		at := path.Index(i)
		errs = append(errs, rule.NonEmpty(device.Name, at.Child("name"))...)
		if device.Name != "" && names.Has(device.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), device.Name, "must be unique"))
		}
		source, ok := r.volumes[device.Name]
		switch {
		case !ok:
			errs = append(errs, field.NotFound(at.Child("name"), device.Name))
		case source.PersistentVolumeClaim == nil && source.Ephemeral == nil:
			errs = append(errs, field.Invalid(at.Child("name"), device.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		errs = append(errs, rule.NonEmpty(device.DevicePath, at.Child("devicePath"))...)
		if paths.Has(device.DevicePath) {
			errs = append(errs, field.Invalid(at.Child("devicePath"), device.DevicePath, "must be unique"))
		}
		if len(validatePathNoBacksteps(device.DevicePath, at)) > 0 {
			errs = append(errs, field.Invalid(at.Child("devicePath"), device.DevicePath, "can not contain backsteps ('..')"))
		} else {
			paths.Insert(device.DevicePath)
		}
		name, under := overlap(device.Name, device.DevicePath, c.VolumeMounts, func(m v1.VolumeMount) (string, string) { return m.Name, m.MountPath })
		if name {
			errs = append(errs, field.Invalid(at.Child("name"), device.Name, "must not already exist in volumeMounts"))
		}
		if under {
			errs = append(errs, field.Invalid(at.Child("devicePath"), device.DevicePath, "must not already exist as a path in volumeMounts"))
		}
		names.Insert(device.Name)
	}
	return errs
}
