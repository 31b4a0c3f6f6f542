package registry

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/apiserver/request"
)

// What is true of metadata of every kind.

// MetaRules are what a kind's own validation asks of metadata, beside what is asked of every kind. The zero value is what
// most kinds ask: a name by the kind's rule, at a create, and qualified finalizers.
type MetaRules struct {
	// None: it asks nothing. What is asked of every kind is then asked last, of a new object only if all else is well.
	None bool
	// AnyFinalizer: a finalizer needs no domain.
	AnyFinalizer bool
	// NameAgain: names are looked at again in an update. Those of an object stay, but its generateName may not.
	NameAgain bool
}

var metadataPath = field.NewPath("metadata")

// validateCreate asks the kind's own rules first: what it says of a name says more than the rule for all names.
func (s *Store) validateCreate(ctx context.Context, obj runtime.Object, accessor metav1.Object) field.ErrorList {
	var errs field.ErrorList
	if rules := s.Strategy.MetaRules(ctx); !rules.None {
		errs = validation.ValidateObjectMetaAccessor(accessor, !s.ClusterScoped, s.Strategy.ValidateName, metadataPath)
		errs = append(errs, rules.finalizers(accessor)...)
	}
	errs = append(errs, s.Strategy.Validate(ctx, obj)...)
	if len(errs) == 0 {
		errs = validation.ValidateObjectMetaAccessor(accessor, !s.ClusterScoped, path.ValidatePathSegmentName, metadataPath)
	}
	return errs
}

func (s *Store) validateMetadataUpdate(ctx context.Context, accessor, old metav1.Object, strategy Strategy) field.ErrorList {
	errs := validation.ValidateObjectMetaAccessor(accessor, !s.ClusterScoped, path.ValidatePathSegmentName, metadataPath)
	errs = append(errs, validation.ValidateObjectMetaAccessorUpdate(accessor, old, metadataPath)...)
	rules := strategy.MetaRules(ctx)
	errs = append(errs, rules.finalizers(accessor)...)
	if rules.NameAgain {
		for _, message := range names(strategy, accessor) {
			errs = append(errs, field.Invalid(metadataPath.Child("generateName"), accessor.GetGenerateName(), message))
		}
	}
	return errs
}

// names is what a strategy has against an object's generateName.
func names(strategy Strategy, accessor metav1.Object) []string {
	if accessor.GetGenerateName() == "" {
		return nil
	}
	return strategy.ValidateName(accessor.GetGenerateName(), true)
}

func (r MetaRules) finalizers(accessor metav1.Object) (errs field.ErrorList) {
	if r.None || r.AnyFinalizer {
		return nil
	}
	for i, finalizer := range accessor.GetFinalizers() {
		if !qualified(finalizer) {
			errs = append(errs, field.Invalid(metadataPath.Child("finalizers").Index(i), finalizer,
				"name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

// qualified finalizers name a domain, unless they are Kubernetes' own.
func qualified(finalizer string) bool {
	switch finalizer {
	case string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
		return true
	}
	return strings.Contains(finalizer, "/")
}

const (
	// DuplicateOwners is the warning of owner references that a client gave twice.
	DuplicateOwners               = ".metadata.ownerReferences contains duplicate entries; " + dedupNotice
	duplicateOwnersAfterAdmission = ".metadata.ownerReferences contains duplicate entries after mutating admission happens; " + dedupNotice

	dedupNotice = "API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
)

// DedupOwners takes out owner references that are there twice, and warns of it.
func DedupOwners(ctx context.Context, obj runtime.Object, warning string) {
	accessor, err := meta.Accessor(obj)
	if err != nil || len(accessor.GetOwnerReferences()) < 2 {
		return
	}
	var once []metav1.OwnerReference
	var twice []string
	for _, ref := range accessor.GetOwnerReferences() {
		if hasOwner(once, ref) {
			twice = append(twice, string(ref.UID))
		} else {
			once = append(once, ref)
		}
	}
	if len(twice) > 0 {
		request.AddWarning(ctx, warning+strings.Join(twice, ", "))
		accessor.SetOwnerReferences(once)
	}
}

func hasOwner(refs []metav1.OwnerReference, ref metav1.OwnerReference) bool {
	for _, r := range refs {
		if r.UID == ref.UID && equality.Semantic.DeepEqual(r, ref) {
			return true
		}
	}
	return false
}

// wipe takes from a new object what only the server says.
func wipe(accessor metav1.Object) {
	accessor.SetDeletionTimestamp(nil)
	accessor.SetDeletionGracePeriodSeconds(nil)
	accessor.SetSelfLink("")
	accessor.SetUID("")
	accessor.SetCreationTimestamp(metav1.Time{})
}

// fillMetadata sets what is the server's to say about a new object.
func (s *Store) fillMetadata(accessor metav1.Object) {
	if accessor.GetName() == "" && accessor.GetGenerateName() != "" {
		accessor.SetName(generateName(accessor.GetGenerateName(), s.env.nameSuffix()))
	}
	accessor.SetUID(uuid.NewUUID())
	accessor.SetCreationTimestamp(metav1.NewTime(s.env.now().Truncate(1e9)))
}

// keepLife keeps an object's identity and the state of its deletion, unless a client asks for others outright; then it
// is told that these do not change.
func keepLife(accessor, old metav1.Object) {
	if accessor.GetUID() == "" {
		accessor.SetUID(old.GetUID())
	}
	if created := old.GetCreationTimestamp(); !created.IsZero() {
		accessor.SetCreationTimestamp(created)
	}
	if old.GetDeletionTimestamp() != nil {
		accessor.SetDeletionTimestamp(old.GetDeletionTimestamp())
	}
	if accessor.GetDeletionGracePeriodSeconds() == nil {
		accessor.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	}
}

// MatchNamespace lets an object without a namespace live in the request's, and refuses one of another.
func (r *Resource) MatchNamespace(obj runtime.Object, namespace string) error {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil // it has none
	}
	return r.checkNamespace(accessor, namespace)
}

func (r *Resource) checkNamespace(accessor metav1.Object, namespace string) error {
	if r.ClusterScoped {
		namespace = ""
	}
	switch {
	case accessor.GetNamespace() == namespace:
	case accessor.GetNamespace() == "" || namespace == "":
		accessor.SetNamespace(namespace)
	default:
		return errors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// version is the resourceVersion as a number, 0 when there is none. What is no number is the server's fault upstream:
// the error has no reason and code 500.
func version(accessor metav1.Object) (uint64, error) {
	rv := accessor.GetResourceVersion()
	if rv == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(rv, 10, 64)
	if err != nil {
		return 0, Failure(err)
	}
	return n, nil
}

// Failure is a client's mistake for which upstream has no reason, and answers 500 with its text.
func Failure(err error) error {
	return &errors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: err.Error(),
	}}
}

// UIDConflict tells a client whose object has been replaced by another of the same name. Of a write that is only tried, the
// key is shown below /registry, as upstream has it.
func (s *Store) UIDConflict(ctx context.Context, key string, wanted, present types.UID, dryRun bool) error {
	root := s.storageRoot()
	if !dryRun {
		root = "/registry" + root
	}
	name := key[strings.LastIndex(key, "/")+1:]
	return errors.NewConflict(s.asked(ctx), name, fmt.Errorf("StorageError: invalid object, Code: 4, Key: %s/%s, ResourceVersion: 0, "+
		"AdditionalErrorMsg: Precondition failed: UID in precondition: %v, UID in object meta: %v", root, key, wanted, present))
}

// storageRoot is where the resource is kept below /registry.
func (s *Store) storageRoot() string {
	if s.StorageRoot == "" {
		return "/" + s.Name
	}
	return "/" + s.StorageRoot
}

// storageKey is where an object is kept below /registry.
func (s *Store) storageKey(namespace, name string) string {
	return s.storageRoot() + "/" + s.key(namespace, name)
}

const (
	nameAttempts  = 8
	suffixLength  = 5
	maxNameLength = 63 // of a generated name: it must also do as a label
)

// generateName appends suffix to base, which it cuts where the whole would be too long.
func generateName(base, suffix string) string {
	return base[:min(len(base), maxNameLength-len(suffix))] + suffix
}

// asked is the resource as the request names it: an event may be asked for in either of its groups.
func (s *Store) asked(ctx context.Context) schema.GroupResource {
	if info := request.InfoFrom(ctx); info != nil && info.Resource == s.Name {
		return schema.GroupResource{Group: info.APIGroup, Resource: s.Name}
	}
	return s.GroupResource()
}
