package registry

import (
	"context"
	stderrors "errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
)

// Delete removes an object, or marks it where something must happen first: a
// grace period that a kubelet observes, finalizers that controllers remove. gone
// tells which; obj is its last, or its marked state.
func (s *Store) Delete(ctx context.Context, namespace, name string, opts *metav1.DeleteOptions) (obj *storage.Object, gone bool, err error) {
	if s.Hooks.CheckDelete != nil {
		if err := s.Hooks.CheckDelete(name); err != nil {
			return nil, false, errors.NewForbidden(s.GroupResource(), name, err)
		}
	}
	return s.deleteAdmitted(ctx, namespace, name, opts)
}

func (s *Store) deleteAdmitted(ctx context.Context, namespace, name string, opts *metav1.DeleteOptions) (obj *storage.Object, gone bool, err error) {
	if opts == nil {
		opts = &metav1.DeleteOptions{}
	}
	return s.deleteAs(ctx, namespace, name, opts, Write{Options: opts, DryRun: len(opts.DryRun) > 0})
}

// DeleteUnadmitted deletes without asking admission: for an eviction, which admission has judged as what it is, the creation of an
// Eviction. Whoever holds deletions up by a rule holds evictions up by one about pods/eviction.
func (s *Store) DeleteUnadmitted(ctx context.Context, namespace, name string, opts *metav1.DeleteOptions) error {
	_, _, err := s.deleteAs(ctx, namespace, name, opts, Write{Options: opts, DryRun: len(opts.DryRun) > 0, Unadmitted: true})
	return err
}

func (s *Store) deleteAs(ctx context.Context, namespace, name string, opts *metav1.DeleteOptions, w Write) (obj *storage.Object, gone bool, err error) {
	if err := s.checkScope(namespace, name); err != nil {
		return nil, false, err
	}
	if errs := metavalidation.ValidateDeleteOptions(opts); len(errs) > 0 {
		return nil, false, errors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	for attempt := 0; attempt < maxDeleteAttempts; attempt++ {
		present, err := s.Get(ctx, namespace, name, "")
		if err != nil {
			return nil, false, err
		}
		obj, gone, err = s.deleteVersion(ctx, present, namespace, opts, w)
		// Another write came between: decide anew, upon what is there then.
		if !stderrors.Is(err, storage.ErrConflict) {
			return obj, gone, s.statusError(ctx, err, name)
		}
	}
	return nil, false, errors.NewConflict(s.GroupResource(), name, stderrors.New(optimisticLock))
}

const maxDeleteAttempts = 20

// deleteVersion does to exactly this version of the object what decideDeletion says.
func (s *Store) deleteVersion(ctx context.Context, present *storage.Object, namespace string, opts *metav1.DeleteOptions, w Write) (*storage.Object, bool, error) {
	accessor, err := meta.Accessor(present.Object)
	if err != nil {
		return nil, false, errors.NewInternalError(err)
	}
	if err := s.checkPreconditions(accessor, opts.Preconditions); err != nil {
		return nil, false, err
	}
	attributes := s.attributes(ctx, request.Delete, namespace, accessor.GetName(), w)
	attributes.OldObject = present.Object
	if err := s.admit(ctx, attributes, w); err != nil {
		return nil, false, err
	}
	if err := s.judge(ctx, attributes, w); err != nil {
		return nil, false, err
	}
	d := s.decideDeletion(ctx, present.Object, opts)
	uid, rv := accessor.GetUID(), accessor.GetResourceVersion()
	exactly := &storage.Preconditions{UID: &uid, ResourceVersion: &rv}
	switch {
	case d.pending:
		return present, false, nil
	case w.DryRun:
		d.marked.GetObjectKind().SetGroupVersionKind(s.Kind)
		return storage.NewObject(present.Key, d.marked), d.now, nil
	case d.now:
		last, err := s.Storage.Delete(ctx, present.Key, exactly, nil)
		if err != nil {
			return nil, false, err
		}
		s.afterDelete(last.Object)
		if s.Graceful {
			return s.asMarked(last, d.marked), true, nil
		}
		return last, true, nil
	}
	marked, err := s.Storage.GuaranteedUpdate(ctx, present.Key, exactly, func(runtime.Object, int64) (runtime.Object, int64, error) {
		return d.marked.DeepCopyObject(), 0, nil
	})
	return marked, false, err
}

// RefuseUnread answers who would delete an object without reading it, for it cannot be read: this one can be.
func (s *Store) RefuseUnread(ctx context.Context, namespace, name string) error {
	if _, err := s.Get(ctx, namespace, name, ""); err != nil {
		return err
	}
	return errors.NewConflict(s.GroupResource(), name, fmt.Errorf("StorageError: invalid object, Code: 4, Key: /registry%s, ResourceVersion: 0, "+
		"AdditionalErrorMsg: unsafe deletion is not allowed because the object is decodable from storage", s.storageKey(namespace, name)))
}

// asMarked shows what is gone as it would have been stored had there been something to wait for.
func (s *Store) asMarked(last *storage.Object, marked runtime.Object) *storage.Object {
	accessor, err := meta.Accessor(marked)
	if err != nil {
		return last
	}
	accessor.SetResourceVersion(strconv.FormatInt(last.ResourceVersion, 10))
	marked.GetObjectKind().SetGroupVersionKind(s.Kind)
	shown := storage.NewObject(last.Key, marked)
	shown.ResourceVersion = last.ResourceVersion
	return shown
}

// deletion is what a DELETE comes to.
type deletion struct {
	pending bool           // nothing to do: it is already marked, and waits
	now     bool           // nothing to wait for: remove it
	marked  runtime.Object // else: a copy of the object, marked
}

// decideDeletion is the whole of the deletion rules:
//
//	Step 1: the propagation policy asks for the garbage collector's finalizers, or takes them away.
//	Step 2: what is marked already may only be hastened.
//	Step 3: a grace period marks; without one, so do finalizers; without these it goes at once.
func (s *Store) decideDeletion(ctx context.Context, present runtime.Object, opts *metav1.DeleteOptions) deletion {
	obj := present.DeepCopyObject()
	accessor, _ := meta.Accessor(obj)
	// Step 2, first half: finalizers cannot be changed by options once the deletion has begun and waits for its grace period.
	if accessor.GetDeletionTimestamp() != nil {
		return s.hastenDeletion(obj, accessor, opts)
	}
	// Step 1
	if !s.NoDependents {
		accessor.SetFinalizers(deletionFinalizers(accessor.GetFinalizers(), opts, s.OrphanByDefault))
	}
	// Step 3
	grace := s.Strategy.CheckGracefulDelete(ctx, obj, opts)
	waits := len(accessor.GetFinalizers()) > 0 || s.held(obj)
	now := grace <= 0 && !waits
	if !now || s.Graceful {
		s.mark(obj, accessor, max(grace, 0))
	}
	return deletion{now: now, marked: obj}
}

// mark says in obj since when, and with what grace period, it is being deleted.
func (s *Store) mark(obj runtime.Object, accessor metav1.Object, grace int64) {
	at := metav1.NewTime(s.env.now().Truncate(time.Second).Add(time.Duration(grace) * time.Second))
	accessor.SetDeletionTimestamp(&at)
	if !s.held(obj) {
		accessor.SetDeletionGracePeriodSeconds(&grace)
	}
	// Being deleted is a change of what is wanted: who follows generations must see it.
	if accessor.GetGeneration() > 0 {
		accessor.SetGeneration(accessor.GetGeneration() + 1)
	}
	if s.Hooks.MarkDeleted != nil {
		s.Hooks.MarkDeleted(obj)
	}
}

// hastenDeletion answers a second DELETE.
func (s *Store) hastenDeletion(obj runtime.Object, accessor metav1.Object, opts *metav1.DeleteOptions) deletion {
	waits := len(accessor.GetFinalizers()) > 0 || s.held(obj)
	present := accessor.GetDeletionGracePeriodSeconds()
	if present != nil && *present > 0 {
		if opts.GracePeriodSeconds == nil {
			return deletion{pending: true}
		}
		shorter := *opts.GracePeriodSeconds
		if shorter < 0 {
			shorter = 1 // nonsense is not a wish to end it at once
		}
		if shorter >= *present {
			return deletion{pending: true}
		}
		at := metav1.NewTime(accessor.GetDeletionTimestamp().Add(time.Duration(shorter-*present) * time.Second))
		accessor.SetDeletionTimestamp(&at)
		accessor.SetDeletionGracePeriodSeconds(&shorter)
		return deletion{now: shorter == 0 && !waits, marked: obj}
	}
	if !waits {
		return deletion{now: true, marked: obj}
	}
	// Its grace is over and it waits for finalizers: a changed propagation policy still counts.
	wanted := deletionFinalizers(accessor.GetFinalizers(), opts, s.OrphanByDefault)
	if slices.Equal(wanted, accessor.GetFinalizers()) {
		return deletion{pending: true}
	}
	accessor.SetFinalizers(wanted)
	return deletion{now: len(wanted) == 0 && !s.held(obj), marked: obj}
}

func (s *Store) held(obj runtime.Object) bool { return s.Hooks.Held != nil && s.Hooks.Held(obj) }

// deletionFinalizers returns present with the garbage collector's two finalizers as the options want them: orphan
// (dependents lose their owner reference), or foregroundDeletion (dependents go first), or neither.
func deletionFinalizers(present []string, opts *metav1.DeleteOptions, orphanByDefault bool) []string {
	var wanted []string
	for _, f := range present {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			wanted = append(wanted, f)
		}
	}
	hadOrphan := slices.Contains(present, metav1.FinalizerOrphanDependents)
	hadForeground := slices.Contains(present, metav1.FinalizerDeleteDependents)
	orphan, foreground := hadOrphan || (orphanByDefault && !hadForeground), hadForeground
	switch {
	case opts.OrphanDependents != nil:
		orphan, foreground = *opts.OrphanDependents, false
	case opts.PropagationPolicy != nil:
		orphan = *opts.PropagationPolicy == metav1.DeletePropagationOrphan
		foreground = *opts.PropagationPolicy == metav1.DeletePropagationForeground
	}
	if orphan == hadOrphan && foreground == hadForeground {
		return present
	}
	if orphan {
		wanted = append(wanted, metav1.FinalizerOrphanDependents)
	}
	if foreground {
		wanted = append(wanted, metav1.FinalizerDeleteDependents)
	}
	return wanted
}

func (s *Store) checkPreconditions(accessor metav1.Object, pre *metav1.Preconditions) error {
	if pre == nil {
		return nil
	}
	kind := schema.GroupResource{Group: s.Kind.Group, Resource: s.Kind.Kind} // upstream names the kind here
	const uid, version = "the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated",
		"the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified"
	refused := func(text, wanted, present string) error {
		return errors.NewConflict(kind, accessor.GetName(), fmt.Errorf(text, wanted, present))
	}
	if s.Hooks.Held != nil {
		// A namespace is marked by code of its own there, which has its own words.
		refused = func(text, wanted, present string) error {
			what := "ResourceVersion"
			if text == uid {
				what = "UID"
			}
			return errors.NewConflict(s.GroupResource(), accessor.GetName(), fmt.Errorf("Precondition failed: %[1]s in precondition: %[2]s, %[1]s in object meta: %[3]s", what, wanted, present))
		}
	}
	if pre.UID != nil && *pre.UID != accessor.GetUID() {
		return refused(uid, string(*pre.UID), string(accessor.GetUID()))
	}
	if pre.ResourceVersion != nil && *pre.ResourceVersion != accessor.GetResourceVersion() {
		return refused(version, *pre.ResourceVersion, accessor.GetResourceVersion())
	}
	return nil
}

func (s *Store) afterDelete(obj runtime.Object) {
	if s.Hooks.AfterDelete != nil {
		s.Hooks.AfterDelete(obj)
	}
}

// DeleteCollection deletes all that list chooses, and returns the list of it as it was before: with a limit, a page of it. What has
// gone meanwhile is no error; any other error ends it.
func (s *Store) DeleteCollection(ctx context.Context, namespace string, opts *metav1.DeleteOptions, list storage.ListOptions) (*storage.List, error) {
	found, err := s.List(ctx, namespace, list)
	if err != nil {
		return nil, err
	}
	var group errgroup.Group
	group.SetLimit(deleteCollectionWorkers)
	for _, item := range found.Items {
		group.Go(func() error {
			accessor, err := meta.Accessor(item.Object)
			if err != nil {
				return err
			}
			if _, _, err = s.deleteAdmitted(ctx, accessor.GetNamespace(), accessor.GetName(), opts.DeepCopy()); errors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return found, nil
}

// deleteCollectionWorkers keep etcd's fsync busy: it commits what arrives together at once.
const deleteCollectionWorkers = 16
