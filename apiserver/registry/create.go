package registry

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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
	wipe(accessor)
	if err := s.checkNamespace(accessor, namespace); err != nil {
		return nil, err
	}
	obj, err = s.admitNew(ctx, namespace, obj, w)
	if err != nil {
		return nil, err
	}
	if accessor, _ = meta.Accessor(obj); accessor.GetName() != "" || accessor.GetGenerateName() == "" {
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

// admitNew tracks who set what in a new object, and lets admission change it; it may have no name yet.
func (s *Store) admitNew(ctx context.Context, namespace string, obj runtime.Object, w Write) (runtime.Object, error) {
	obj = s.tracker.created(obj, w)
	attributes := s.newAttributes(ctx, namespace, obj, w)
	if err := s.admit(ctx, attributes, w); err != nil {
		return nil, err
	}
	DedupOwners(ctx, attributes.Object, duplicateOwnersAfterAdmission)
	return attributes.Object, nil
}

// createOnce is a create under one name, of what admission has changed:
//
//	Step 1: metadata that the server decides: name, uid, time.
//	Step 2: what the resource holds elsewhere.
//	Step 3: the strategy prepares, then all is validated.
//	Step 4: admission that judges.
//	Step 5: the write.
func (s *Store) createOnce(ctx context.Context, namespace string, obj runtime.Object, w Write) (created *storage.Object, err error) {
	accessor, _ := meta.Accessor(obj)
	// Step 1
	s.fillMetadata(accessor)
	// Step 2
	if accessor.GetName() == "" && !w.DryRun { // nothing can be held for what has no name
		if err := s.invalid("", s.validateCreate(ctx, obj, accessor)); err != nil {
			return nil, err
		}
	}
	finish, err := s.beginCreate(ctx, obj, w.DryRun)
	if err != nil {
		return nil, err
	}
	defer func() { finish(err == nil && !w.DryRun) }()
	// Step 3
	s.Strategy.PrepareForCreate(ctx, obj)
	if err := s.invalid(accessor.GetName(), s.validateCreate(ctx, obj, accessor)); err != nil {
		return nil, err
	}
	for _, text := range s.Strategy.WarningsOnCreate(ctx, obj) {
		request.AddWarning(ctx, text)
	}
	// Step 4
	if err := s.judge(ctx, s.newAttributes(ctx, namespace, obj, w), w); err != nil {
		return nil, err
	}
	// Step 5
	return s.writeNew(ctx, obj, accessor, w.DryRun)
}

func (s *Store) newAttributes(ctx context.Context, namespace string, obj runtime.Object, w Write) *request.AdmissionAttributes {
	accessor, _ := meta.Accessor(obj)
	attributes := s.attributes(ctx, request.Create, namespace, accessor.GetName(), w)
	attributes.Object = obj
	return attributes
}

func (s *Store) writeNew(ctx context.Context, obj runtime.Object, accessor metav1.Object, dryRun bool) (*storage.Object, error) {
	key := s.key(accessor.GetNamespace(), accessor.GetName())
	if s.Default != nil {
		s.Default(obj) // once more, by what it has become: else the first read would differ from this answer (a Job's labels)
	}
	if dryRun {
		if present, err := s.Storage.Get(ctx, key, ""); err == nil {
			return nil, s.alreadyExists(ctx, accessor, present)
		}
		obj.GetObjectKind().SetGroupVersionKind(s.Kind)
		return storage.NewObject(key, obj), nil
	}
	if rv, err := version(accessor); err == nil && rv != 0 {
		return nil, errors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	accessor.SetResourceVersion("")
	created, err := s.Storage.Create(ctx, key, obj, s.ttl(obj))
	if err == nil {
		return created, nil
	}
	err = s.statusError(ctx, err, accessor.GetName())
	if !errors.IsAlreadyExists(err) {
		return nil, err
	}
	present, _ := s.Storage.Get(ctx, key, "")
	return nil, s.alreadyExists(ctx, accessor, present)
}

// alreadyExists tells a client who left the name to the server that another try may do, and any that the one present, unless
// nil, is on its way out.
func (s *Store) alreadyExists(ctx context.Context, accessor metav1.Object, present *storage.Object) error {
	err := errors.NewAlreadyExists(s.asked(ctx), accessor.GetName())
	if accessor.GetGenerateName() != "" {
		err = errors.NewGenerateNameConflict(s.asked(ctx), accessor.GetName(), 1)
	}
	if present == nil {
		return err
	}
	if a, accErr := meta.Accessor(present.Object); accErr == nil && a.GetDeletionTimestamp() != nil {
		err.ErrStatus.Message = "object is being deleted: " + err.ErrStatus.Message
	}
	return err
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
