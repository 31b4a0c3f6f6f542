package registry

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
)

// Create stores a new object, which it may change on the way; defaults have been applied.
func (s *Store) Create(ctx context.Context, namespace string, obj runtime.Object, w Write) (*storage.Object, error) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	w.spent = map[string]any{}
	if accessor.GetName() != "" || accessor.GetGenerateName() == "" {
		return s.createOnce(ctx, namespace, obj, w)
	}
	// A generated name may be taken: try a few before telling the client, who cannot know of it.
	for attempt := 1; ; attempt++ {
		created, err := s.createOnce(ctx, namespace, obj.DeepCopyObject(), w)
		if attempt == nameAttempts || !errors.IsAlreadyExists(err) {
			return created, err
		}
	}
}

// createOnce is a create under one name:
//
//	Step 1: metadata that the server decides: namespace, name, uid, time.
//	Step 2: managed fields, and admission that changes.
//	Step 3: the strategy prepares, then all is validated.
//	Step 4: admission that judges.
//	Step 5: what the resource holds elsewhere, and the write.
func (s *Store) createOnce(ctx context.Context, namespace string, obj runtime.Object, w Write) (*storage.Object, error) {
	accessor, _ := meta.Accessor(obj)
	// Step 1
	if err := s.fillMetadata(accessor, namespace); err != nil {
		return nil, err
	}
	// Step 2
	obj = s.tracker.created(obj, w)
	attributes := s.attributes(ctx, request.Create, namespace, accessor.GetName(), w)
	attributes.Object = obj
	if err := s.admit(ctx, attributes, w); err != nil {
		return nil, err
	}
	// Step 3
	accessor, _ = meta.Accessor(obj)
	s.Strategy.PrepareForCreate(ctx, obj)
	if err := s.validateCreate(ctx, obj, accessor); err != nil {
		return nil, err
	}
	// Step 4
	if err := s.judge(ctx, attributes, w); err != nil {
		return nil, err
	}
	for _, text := range s.Strategy.WarningsOnCreate(ctx, obj) {
		request.AddWarning(ctx, text)
	}
	// Step 5
	finish, err := s.beginCreate(ctx, obj, w.DryRun)
	if err != nil {
		return nil, err
	}
	created, err := s.writeNew(ctx, obj, accessor, w.DryRun)
	finish(err == nil && !w.DryRun)
	return created, err
}

func (s *Store) writeNew(ctx context.Context, obj runtime.Object, accessor metav1.Object, dryRun bool) (*storage.Object, error) {
	key := s.key(accessor.GetNamespace(), accessor.GetName())
	if dryRun {
		if _, err := s.Storage.Get(ctx, key, ""); err == nil {
			return nil, s.alreadyExists(accessor)
		}
		obj.GetObjectKind().SetGroupVersionKind(s.Kind)
		return storage.NewObject(key, obj), nil
	}
	created, err := s.Storage.Create(ctx, key, obj, s.ttl(obj))
	if err == nil {
		return created, nil
	}
	err = s.statusError(err, accessor.GetName())
	if !errors.IsAlreadyExists(err) {
		return nil, err
	}
	err = s.alreadyExists(accessor)
	if present, getErr := s.Storage.Get(ctx, key, ""); getErr == nil {
		if a, accErr := meta.Accessor(present.Object); accErr == nil && a.GetDeletionTimestamp() != nil {
			if status, ok := err.(*errors.StatusError); ok {
				status.ErrStatus.Message = "object is being deleted: " + status.ErrStatus.Message
			}
		}
	}
	return nil, err
}

// alreadyExists tells a client who left the name to the server that another try may do.
func (s *Store) alreadyExists(accessor metav1.Object) error {
	if accessor.GetGenerateName() != "" {
		return errors.NewGenerateNameConflict(s.GroupResource(), accessor.GetName(), 1)
	}
	return errors.NewAlreadyExists(s.GroupResource(), accessor.GetName())
}

// fillMetadata sets what is the server's to say about a new object.
func (s *Store) fillMetadata(accessor metav1.Object, namespace string) error {
	if err := s.checkNamespace(accessor, namespace); err != nil {
		return err
	}
	if accessor.GetResourceVersion() != "" {
		return errors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if accessor.GetName() == "" && accessor.GetGenerateName() != "" {
		accessor.SetName(generateName(accessor.GetGenerateName(), s.env.nameSuffix()))
	}
	accessor.SetDeletionTimestamp(nil)
	accessor.SetDeletionGracePeriodSeconds(nil)
	accessor.SetSelfLink("")
	accessor.SetUID(uuid.NewUUID())
	accessor.SetCreationTimestamp(metav1.NewTime(s.env.now().Truncate(1e9)))
	return nil
}

// checkNamespace lets an object without a namespace live in the request's, and refuses one of another.
func (s *Store) checkNamespace(accessor metav1.Object, namespace string) error {
	if s.ClusterScoped {
		namespace = ""
	}
	switch {
	case accessor.GetNamespace() == namespace:
	case accessor.GetNamespace() == "":
		accessor.SetNamespace(namespace)
	case s.ClusterScoped:
		return errors.NewBadRequest("namespace may not be set on an object of cluster scope")
	default:
		return errors.NewBadRequest(fmt.Sprintf("the namespace of the provided object does not match the namespace sent on the request"))
	}
	return nil
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

func (s *Store) validateCreate(ctx context.Context, obj runtime.Object, accessor metav1.Object) error {
	errs := validation.ValidateObjectMetaAccessor(accessor, !s.ClusterScoped, s.Strategy.ValidateName, field.NewPath("metadata"))
	errs = append(errs, s.Strategy.Validate(ctx, obj)...)
	return s.invalid(accessor.GetName(), errs)
}

func (s *Store) invalid(name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return errors.NewInvalid(s.Kind.GroupKind(), name, inOrder(errs))
}

func (s *Store) attributes(ctx context.Context, op request.Operation, namespace, name string, w Write) *request.AdmissionAttributes {
	if s.ClusterScoped && s.Name != "namespaces" {
		namespace = ""
	}
	return &request.AdmissionAttributes{
		User: request.UserFrom(ctx), Operation: op, Kind: s.Kind, Resource: s.GroupVersionResource(),
		Subresource: w.Subresource, Namespace: namespace, Name: name, Options: w.Options, DryRun: w.DryRun, Spent: w.spent,
	}
}

func (s *Store) admit(ctx context.Context, a *request.AdmissionAttributes, w Write) error {
	if s.env.Admission == nil || w.Unadmitted {
		return nil
	}
	return refusal(a, s.env.Admission.Admit(ctx, a))
}

func (s *Store) judge(ctx context.Context, a *request.AdmissionAttributes, w Write) error {
	if s.env.Admission == nil || w.Unadmitted {
		return nil
	}
	return refusal(a, s.env.Admission.Validate(ctx, a))
}

// refusal answers an error of admission: a Status as it is, any other as Forbidden.
func refusal(a *request.AdmissionAttributes, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(errors.APIStatus); ok {
		return err
	}
	return errors.NewForbidden(a.Resource.GroupResource(), a.Name, err)
}

func (s *Store) beginCreate(ctx context.Context, obj runtime.Object, dryRun bool) (func(bool), error) {
	if s.Hooks.BeginCreate == nil {
		return func(bool) {}, nil
	}
	return orNothing(s.Hooks.BeginCreate(ctx, obj, dryRun))
}

func (s *Store) beginUpdate(ctx context.Context, obj, old runtime.Object, dryRun bool) (func(bool), error) {
	if s.Hooks.BeginUpdate == nil {
		return func(bool) {}, nil
	}
	return orNothing(s.Hooks.BeginUpdate(ctx, obj, old, dryRun))
}

func orNothing(finish func(bool), err error) (func(bool), error) {
	if finish == nil {
		finish = func(bool) {}
	}
	return finish, err
}

func (s *Store) ttl(obj runtime.Object) int64 {
	if s.TTL == nil {
		return 0
	}
	return s.TTL(obj)
}

func isPathSegment(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/%")
}
