package registry

import (
	"context"
	stderrors "errors"
	"strconv"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
)

// optimisticLock is the message by which clients and people know a lost race.
const optimisticLock = "the object has been modified; please apply your changes to the latest version and try again"

// Change makes the new state of an object from the present one, which is its own copy and
// nil when there is none (Write.MayCreate). It runs again when the object changed
// meanwhile.
type Change func(current runtime.Object) (runtime.Object, error)

// Update changes one object, or creates it where w allows; created tells which.
//
// PUT, PATCH, apply and /status differ only in their change, their strategy
// (w.View) and who tracks managed fields.
func (s *Store) Update(ctx context.Context, namespace, name string, change Change, w Write) (obj *storage.Object, created bool, err error) {
	if err := s.checkScope(namespace, name); err != nil {
		return nil, false, err
	}
	w.spent = map[string]any{}
	// A create may lose against another's, and a last finalizer against any write: then look again.
	for attempt := 0; attempt < maxUpdateAttempts; attempt++ {
		turn := update{store: s, ctx: ctx, namespace: namespace, name: name, change: change, write: w}
		obj, err = turn.run()
		switch {
		case err == nil:
			return obj, false, nil
		case stderrors.Is(err, storage.ErrNotFound) && w.MayCreate:
			obj, err = s.createByUpdate(ctx, namespace, name, change, w)
			if !errors.IsAlreadyExists(err) {
				return obj, err == nil, err
			}
		case stderrors.Is(err, errRetry):
		default:
			return nil, false, s.statusError(ctx, err, name)
		}
	}
	return nil, false, errors.NewConflict(s.asked(ctx), name, stderrors.New(optimisticLock))
}

const maxUpdateAttempts = 5

var (
	errRetry = stderrors.New("the object changed while it was being removed")
	// errEmptied ends a storage update whose outcome is that the object has nothing left to wait for.
	errEmptied = stderrors.New("the object's last finalizer is gone")
)

func (s *Store) createByUpdate(ctx context.Context, namespace, name string, change Change, w Write) (*storage.Object, error) {
	obj, err := change(nil)
	if err != nil {
		return nil, err
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	if uid := accessor.GetUID(); uid != "" {
		return nil, s.UIDConflict(ctx, s.key(namespace, name), uid, "", w.DryRun)
	}
	if accessor.GetResourceVersion() != "" && accessor.GetResourceVersion() != "0" {
		return nil, errors.NewConflict(s.asked(ctx), name, stderrors.New(optimisticLock))
	}
	accessor.SetResourceVersion("")
	accessor.SetName(name)
	if err := s.checkNamespace(accessor, namespace); err != nil {
		return nil, err
	}
	if obj, err = s.admitNew(ctx, namespace, obj, w); err != nil {
		return nil, err
	}
	accessor, _ = meta.Accessor(obj)
	wipe(accessor)
	return s.createOnce(ctx, namespace, obj, w)
}

// update is one attempt to change one object.
type update struct {
	store           *Store
	ctx             context.Context
	namespace, name string
	change          Change
	write           Write

	finish  func(bool)     // of the hooks of the latest turn
	emptied runtime.Object // what is to be removed instead of stored
	old     metav1.Object
}

// run does it, against storage, or for a dry run beside it.
func (u *update) run() (*storage.Object, error) {
	key := u.store.key(u.namespace, u.name)
	u.finish = func(bool) {}
	var obj *storage.Object
	var err error
	if u.write.DryRun {
		obj, err = u.store.dryUpdate(u.ctx, key, u.turn)
	} else {
		obj, err = u.store.Storage.GuaranteedUpdate(u.ctx, key, nil, u.turn)
	}
	u.finish(err == nil && !u.write.DryRun)
	if stderrors.Is(err, errEmptied) {
		return u.remove(key)
	}
	return obj, err
}

// remove deletes what has just lost its last finalizer.
func (u *update) remove(key string) (*storage.Object, error) {
	if u.write.DryRun {
		return storage.NewObject(key, u.emptied), nil
	}
	uid, rv := u.old.GetUID(), u.old.GetResourceVersion()
	gone, err := u.store.Storage.Delete(u.ctx, key, &storage.Preconditions{UID: &uid, ResourceVersion: &rv}, nil)
	if stderrors.Is(err, storage.ErrConflict) {
		return nil, errRetry
	}
	if err != nil {
		return nil, err
	}
	u.store.afterDelete(gone.Object)
	accessor, _ := meta.Accessor(u.emptied)
	accessor.SetResourceVersion(strconv.FormatInt(gone.ResourceVersion, 10))
	u.emptied.GetObjectKind().SetGroupVersionKind(u.store.Kind)
	return storage.NewObject(key, u.emptied), nil
}

// turn makes what is to be stored from current:
//
//	Step 1: the change, on a copy, of the object it was made for.
//	Step 2: managed fields, and admission that changes.
//	Step 3: the version it was made for; what the resource holds elsewhere.
//	Step 4: the strategy keeps what may not change, then all is validated.
//	Step 5: admission that judges.
func (u *update) turn(current runtime.Object, rv int64) (runtime.Object, int64, error) {
	s, w := u.store, u.write
	u.finish(false)
	u.finish = func(bool) {}
	old := current // storage has made it for this turn
	oldMeta, err := meta.Accessor(old)
	if err != nil {
		return nil, 0, errors.NewInternalError(err)
	}
	u.old = oldMeta
	// Step 1
	obj, err := u.changed(old)
	if err != nil {
		return nil, 0, err
	}
	// Step 2
	obj = s.tracker.updated(old, obj, w)
	attributes := s.attributes(u.ctx, request.Update, u.namespace, u.name, w)
	attributes.Object, attributes.OldObject = obj, old
	if err := s.admit(u.ctx, attributes, w); err != nil {
		return nil, 0, err
	}
	DedupOwners(u.ctx, obj, duplicateOwnersAfterAdmission)
	// Step 3
	accessor, _ := meta.Accessor(obj)
	if err := s.checkVersion(u.ctx, accessor, oldMeta, u.strategy()); err != nil {
		return nil, 0, err
	}
	if w.View == nil { // a status holds nothing
		finish, err := s.beginUpdate(u.ctx, obj, old, w.DryRun)
		if err != nil {
			return nil, 0, err
		}
		u.finish = finish
	}
	// Step 4
	if err := u.prepare(obj, old, oldMeta); err != nil {
		return nil, 0, err
	}
	keepTimesOfUnchanged(obj, old)
	// Step 5
	if err := s.judge(u.ctx, attributes, w); err != nil {
		return nil, 0, err
	}
	if s.nothingHolds(obj, oldMeta) {
		u.emptied = obj
		return nil, 0, errEmptied
	}
	return obj, s.ttl(obj), nil
}

// changed is the change of old. One that replaces it and names an incarnation is made for that one only.
func (u *update) changed(old runtime.Object) (runtime.Object, error) {
	current := old
	if !u.write.Replaces {
		current = old.DeepCopyObject()
	}
	obj, err := u.change(current)
	if err != nil {
		return nil, err
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	if uid := accessor.GetUID(); u.write.Replaces && uid != "" && uid != u.old.GetUID() {
		return nil, u.store.UIDConflict(u.ctx, u.store.key(u.namespace, u.name), uid, u.old.GetUID(), u.write.DryRun)
	}
	return obj, nil
}

func (u *update) strategy() Strategy {
	if u.write.View != nil {
		return u.write.View
	}
	return u.store.Strategy
}

// prepare lets the strategy decide what may change, and validates the outcome.
func (u *update) prepare(obj, old runtime.Object, oldMeta metav1.Object) error {
	accessor, _ := meta.Accessor(obj)
	strategy := u.strategy()
	if err := u.store.checkNamespace(accessor, u.namespace); err != nil {
		return err
	}
	accessor.SetGeneration(oldMeta.GetGeneration())
	strategy.PrepareForUpdate(u.ctx, obj, old)
	keepLife(accessor, oldMeta)
	errs := u.store.validateMetadataUpdate(u.ctx, accessor, oldMeta, strategy)
	errs = append(errs, strategy.ValidateUpdate(u.ctx, obj, old)...)
	if err := u.store.invalid(accessor.GetName(), errs); err != nil {
		return err
	}
	for _, text := range strategy.WarningsOnUpdate(u.ctx, obj, old) {
		request.AddWarning(u.ctx, text)
	}
	return nil
}

// checkVersion is optimistic concurrency: a client that names a version writes only upon it.
func (s *Store) checkVersion(ctx context.Context, accessor, old metav1.Object, strategy Strategy) error {
	wanted, err := version(accessor)
	switch {
	case err != nil:
		return err
	case wanted == 0 && strategy.AllowUnconditionalUpdate():
		accessor.SetResourceVersion(old.GetResourceVersion())
	case wanted == 0:
		// The kind is the resource, in upstream's answer too.
		kind := schema.GroupKind{Group: s.Kind.Group, Kind: s.Name}
		return errors.NewInvalid(kind, old.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update"),
		})
	case accessor.GetResourceVersion() != old.GetResourceVersion():
		return errors.NewConflict(s.asked(ctx), old.GetName(), stderrors.New(optimisticLock))
	}
	return nil
}

// nothingHolds says that obj, already marked for deletion and past its grace period, has no finalizer any more.
func (s *Store) nothingHolds(obj runtime.Object, old metav1.Object) bool {
	accessor, _ := meta.Accessor(obj)
	if old.GetDeletionTimestamp() == nil || len(accessor.GetFinalizers()) > 0 {
		return false
	}
	if grace := old.GetDeletionGracePeriodSeconds(); grace != nil && *grace > 0 {
		return false
	}
	return s.Hooks.Held == nil || !s.Hooks.Held(obj)
}

// dryUpdate is an update that stops before the write.
func (s *Store) dryUpdate(ctx context.Context, key string, turn storage.UpdateFunc) (*storage.Object, error) {
	present, err := s.Storage.Get(ctx, key, "")
	if err != nil {
		return nil, err
	}
	obj, _, err := turn(present.Object.DeepCopyObject(), present.ResourceVersion)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(s.Kind)
	return storage.NewObject(key, obj), nil
}

// GuaranteedUpdate changes an object under no strategy, admission or validation: for the apiserver's own writes
// (binding a pod, the endpoints of the kubernetes Service).
func (s *Store) GuaranteedUpdate(ctx context.Context, namespace, name string, dryRun bool, change func(current runtime.Object) (runtime.Object, error)) (runtime.Object, error) {
	turn := func(current runtime.Object, rv int64) (runtime.Object, int64, error) {
		obj, err := change(current)
		return obj, 0, err
	}
	key := s.key(namespace, name)
	var obj *storage.Object
	var err error
	if dryRun {
		obj, err = s.dryUpdate(ctx, key, turn)
	} else {
		obj, err = s.Storage.GuaranteedUpdate(ctx, key, nil, turn)
	}
	return bare(obj, s.statusError(ctx, err, name))
}
