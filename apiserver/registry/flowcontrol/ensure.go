package flowcontrol

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"

	"hyperkube/api/flowcontrol/bootstrap"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/storage"
)

// Ensure brings the objects of flow control to what every cluster has, and says of each FlowSchema whether its
// priority level is there:
//
//	Step 1: priority levels, then the schemas that name them. What is missing is made.
//	Step 2: what is there and mandatory is put right; what is suggested only while its administrator lets it
//	        (annotation apf.kubernetes.io/autoupdate-spec).
//	Step 3: the condition Dangling of all schemas.
func Ensure(ctx context.Context, env *registry.Env) error {
	for _, level := range bootstrap.PriorityLevelConfigurations() {
		err := ensure(ctx, env, "prioritylevelconfigurations", level, func(current, wanted *flowcontrolv1.PriorityLevelConfiguration) {
			spec := *wanted.Spec.DeepCopy()
			if wanted.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt && current.Spec.Exempt != nil {
				spec.Exempt = current.Spec.Exempt // the administrator's to say
			}
			current.Spec = spec
		})
		if err != nil {
			return err
		}
	}
	for _, s := range bootstrap.FlowSchemas() {
		err := ensure(ctx, env, "flowschemas", s, func(current, wanted *flowcontrolv1.FlowSchema) { current.Spec = *wanted.Spec.DeepCopy() })
		if err != nil {
			return err
		}
	}
	return markDangling(ctx, env)
}

// Who owns the fields: of what is made here, and of what is found about it.
const (
	producer = "api-priority-and-fairness-config-producer-v1"
	consumer = "api-priority-and-fairness-config-consumer-v1"
)

type object interface {
	metav1.Object
	runtime.Object
}

func storeOf(env *registry.Env, resource string) *registry.Store {
	return env.Store(schema.GroupResource{Group: flowcontrolv1.GroupName, Resource: resource})
}

// ensure makes or mends one object; set gives current the spec that wanted has.
func ensure[T object](ctx context.Context, env *registry.Env, resource string, wanted T, set func(current, wanted T)) error {
	store, own := storeOf(env, resource), registry.Own()
	own.Manager = producer
	present, err := store.GetCached(ctx, "", wanted.GetName())
	if apierrors.IsNotFound(err) {
		if _, err = store.Create(ctx, "", wanted, own); apierrors.IsAlreadyExists(err) {
			return nil // another apiserver was faster
		}
	}
	if err != nil || present == nil {
		return err
	}
	mend := func(current T) T {
		auto := autoUpdates(current)
		annotations := maps.Clone(current.GetAnnotations())
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[flowcontrolv1.AutoUpdateAnnotationKey] = strconv.FormatBool(auto)
		current.SetAnnotations(annotations)
		if auto || bootstrap.Mandatory(wanted.GetName()) {
			set(current, wanted)
		}
		return current
	}
	if equality.Semantic.DeepEqual(mend(present.DeepCopyObject().(T)), present) {
		return nil
	}
	_, _, err = store.Update(ctx, "", wanted.GetName(), func(current runtime.Object) (runtime.Object, error) { return mend(current.(T)), nil }, own)
	return err
}

// autoUpdates: the annotation says so, or, where there is none, that nobody has changed the spec yet. The mandatory
// objects have no choice.
func autoUpdates(obj metav1.Object) bool {
	switch obj.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey] {
	case "true":
		return true
	case "false":
		return bootstrap.Mandatory(obj.GetName())
	}
	return bootstrap.Mandatory(obj.GetName()) || obj.GetGeneration() == 1
}

// markDangling writes into each schema whether the level it names exists: kubectl's column MissingPL.
func markDangling(ctx context.Context, env *registry.Env) error {
	schemas, err := storeOf(env, "flowschemas").ListCached(ctx, "", nil)
	if err != nil {
		return err
	}
	for _, obj := range schemas {
		s := obj.(*flowcontrolv1.FlowSchema)
		level := s.Spec.PriorityLevelConfiguration.Name
		_, err := storeOf(env, "prioritylevelconfigurations").GetCached(ctx, "", level)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		wanted := dangling(level, err != nil, metav1.NewTime(env.Clock.Now()))
		if same(s.Status.Conditions, wanted) {
			continue
		}
		err = storeOf(env, "flowschemas").ApplyOwnStatus(ctx, s.Name, consumer, &flowcontrolv1.FlowSchemaStatus{Conditions: []flowcontrolv1.FlowSchemaCondition{wanted}})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// followDangling runs until ctx ends: a schema is told of its level as soon as either comes or goes.
func followDangling(env *registry.Env) func(ctx context.Context) {
	return func(ctx context.Context) {
		for ctx.Err() == nil {
			if err := followOnce(ctx, env); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).V(1).Info("Following flow schemas, will try again", "err", err)
			}
			select {
			case <-ctx.Done():
			case <-env.Clock.After(time.Second):
			}
		}
	}
}

func followOnce(ctx context.Context, env *registry.Env) error {
	var changes [2]storage.Watcher
	for i, resource := range []string{"flowschemas", "prioritylevelconfigurations"} {
		watcher, err := storeOf(env, resource).Watch(ctx, "", storage.WatchOptions{ResourceVersion: "0"})
		if err != nil {
			return err
		}
		defer watcher.Stop()
		changes[i] = watcher
	}
	for open := true; open; {
		select {
		case <-ctx.Done():
			return nil
		case _, open = <-changes[0].Events():
		case _, open = <-changes[1].Events():
		}
		drain(changes[0].Events())
		drain(changes[1].Events())
		if err := markDangling(ctx, env); err != nil {
			return err
		}
	}
	return nil
}

// drain takes what is there: one look at all schemas answers many changes.
func drain(events <-chan storage.Event) {
	for {
		select {
		case _, open := <-events:
			if open {
				continue
			}
		default:
		}
		return
	}
}

func dangling(level string, missing bool, now metav1.Time) flowcontrolv1.FlowSchemaCondition {
	c := flowcontrolv1.FlowSchemaCondition{
		Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionFalse, LastTransitionTime: now, Reason: "Found",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", level),
	}
	if missing {
		c.Status, c.Reason = flowcontrolv1.ConditionTrue, "NotFound"
		c.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", level)
	}
	return c
}

func same(conditions []flowcontrolv1.FlowSchemaCondition, wanted flowcontrolv1.FlowSchemaCondition) bool {
	return len(conditions) == 1 && conditions[0].Type == wanted.Type && conditions[0].Status == wanted.Status && conditions[0].Message == wanted.Message
}
