package service

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"

	"hyperkube/apiserver/registry"
)

// problem is what a repair found; it becomes a Warning.
type problem struct{ reason, action, message string }

// recorder writes events straight into their store: the apiserver is no client of itself. The same problem is one event, counted.
type recorder struct {
	env       *registry.Env
	component string
	// isSeries: the events have the form of events.k8s.io, with an action and a series, as upstream's controller of that name writes.
	isSeries bool
}

// about records a problem of a Service or an IPAddress. An event that cannot be written is logged: it must not hold up the repair.
func (r recorder) about(ctx context.Context, obj metav1.Object, p problem) {
	logger := klog.FromContext(ctx)
	logger.Info(p.message, "reason", p.reason, "namespace", obj.GetNamespace(), "name", obj.GetName())
	store := r.env.Store(schema.GroupResource{Resource: "events"})
	if store == nil {
		return
	}
	event := r.newEvent(obj, p)
	_, err := store.GuaranteedUpdate(ctx, event.Namespace, event.Name, false, func(current runtime.Object) (runtime.Object, error) {
		r.count(current.(*v1.Event))
		return current, nil
	})
	if errors.IsNotFound(err) {
		_, err = store.CreateObject(ctx, event.Namespace, event, &metav1.CreateOptions{})
	}
	if err != nil {
		logger.Error(err, "Recording an event", "reason", p.reason, "name", obj.GetName())
	}
}

func (r recorder) newEvent(obj metav1.Object, p problem) *v1.Event {
	kind, namespace := v1.SchemeGroupVersion.WithKind("Service"), obj.GetNamespace()
	if _, ok := obj.(*networkingv1.IPAddress); ok {
		kind, namespace = networkingv1.SchemeGroupVersion.WithKind("IPAddress"), metav1.NamespaceDefault
	}
	hash := fnv.New64a()
	fmt.Fprint(hash, obj.GetUID(), p.reason, p.message)
	now := r.env.Clock.Now()
	event := &v1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", obj.GetName(), hash.Sum64())},
		InvolvedObject: v1.ObjectReference{
			APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(),
		},
		Type: v1.EventTypeWarning, Reason: p.reason, Message: p.message, Action: p.action, ReportingController: r.component,
	}
	if r.isSeries {
		host, _ := os.Hostname()
		event.EventTime, event.ReportingInstance = metav1.NewMicroTime(now), r.component+"-"+host
		return event
	}
	event.Source = v1.EventSource{Component: r.component}
	event.FirstTimestamp, event.LastTimestamp, event.Count = metav1.NewTime(now), metav1.NewTime(now), 1
	return event
}

// count notes that it has happened once more.
func (r recorder) count(event *v1.Event) {
	now := r.env.Clock.Now()
	if !r.isSeries {
		event.Count++
		event.LastTimestamp = metav1.NewTime(now)
		return
	}
	if event.Series == nil {
		event.Series = &v1.EventSeries{Count: 1}
	}
	event.Series.Count++
	event.Series.LastObservedTime = metav1.NewMicroTime(now)
}
