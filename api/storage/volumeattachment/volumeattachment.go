// Package volumeattachment is what is true of a VolumeAttachment: a volume that a driver is to bring to a node.
//
// In Kubernetes: ValidateVolumeAttachment* of pkg/apis/storage/validation.
package volumeattachment

import (
	"math"
	"unicode/utf8"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/persistentvolume"
	"hyperkube/api/rule"
)

const (
	maxMetadataSize = 256 << 10
	maxMessageSize  = 1024
	maxAttacher     = 63
)

// Validate checks a new attachment, the driver's answers too.
func Validate(a *storagev1.VolumeAttachment) field.ErrorList {
	return append(validate(a), rule.Declared(validateAttacher(a.Spec.Attacher, field.NewPath("spec", "attacher")))...)
}

// validateAttacher is rule.DriverName as it is declared: it counts characters, and has no lower case in its message.
func validateAttacher(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := rule.All(content.IsDNS1123SubdomainCaseless(name), path, name)
	if utf8.RuneCountInString(name) > maxAttacher {
		errs = append(errs, field.TooLongCharacters(path, "", maxAttacher))
	}
	return errs
}

// validate leaves the attacher out.
func validate(a *storagev1.VolumeAttachment) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	errs = append(errs, validateSource(&a.Spec.Source, path.Child("source"))...)
	errs = append(errs, rule.DNSSubdomain(a.Spec.NodeName, path.Child("nodeName"))...)

	path = field.NewPath("status")
	size := 0
	for key, value := range a.Status.AttachmentMetadata {
		size += len(key) + len(value)
	}
	if size > maxMetadataSize {
		errs = append(errs, field.TooLong(path.Child("attachmentMetadata"), "", maxMetadataSize))
	}
	errs = append(errs, validateError(a.Status.AttachError, path.Child("attachError"))...)
	errs = append(errs, validateError(a.Status.DetachError, path.Child("detachError"))...)
	if name := a.Spec.Source.PersistentVolumeName; name != nil {
		errs = append(errs, rule.DNSSubdomain(*name, field.NewPath("spec", "source", "persistentVolumeName"))...)
	}
	return errs
}

func validateSource(s *storagev1.VolumeAttachmentSource, path *field.Path) field.ErrorList {
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch {
	case s.InlineVolumeSpec == nil && s.PersistentVolumeName == nil:
		return field.ErrorList{field.Required(path, one)}
	case s.InlineVolumeSpec != nil && s.PersistentVolumeName != nil:
		return field.ErrorList{field.Forbidden(path, one)}
	case s.InlineVolumeSpec != nil:
		return persistentvolume.ValidateInlineSpec(s.InlineVolumeSpec, path.Child("inlineVolumeSpec"))
	case *s.PersistentVolumeName == "":
		return field.ErrorList{field.Required(path.Child("persistentVolumeName"), "must specify non empty persistentVolumeName")}
	}
	return nil
}

func validateError(e *storagev1.VolumeError, path *field.Path) field.ErrorList {
	if e == nil {
		return nil
	}
	var errs field.ErrorList
	if len(e.Message) > maxMessageSize {
		// The bound that the message names is, as upstream's, that of the metadata.
		errs = append(errs, field.TooLong(path.Child("message"), "", maxMetadataSize))
	}
	if code := e.ErrorCode; code != nil && *code < 0 {
		errs = append(errs, field.Invalid(path.Child("errorCode"), *code, validation.InclusiveRangeError(0, math.MaxInt32)))
	}
	return errs
}

// ValidateUpdate: another volume or another node is another attachment. What is declared of the attacher is not looked at
// once the spec as a whole has changed, and need not be when it has not.
func ValidateUpdate(a, old *storagev1.VolumeAttachment) field.ErrorList {
	errs := append(rule.DriverName(a.Spec.Attacher, field.NewPath("spec", "attacher")), validate(a)...)
	return append(errs, rule.Fixed(a.Spec, old.Spec, field.NewPath("spec"))...)
}
