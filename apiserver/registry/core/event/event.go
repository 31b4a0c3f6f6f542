// Package event is the apiserver's room of Events: stored once, for an hour, as
// core/v1, and served in the core group and as events.k8s.io/v1.
//
// In Kubernetes: pkg/registry/core/event.
package event

import (
	"context"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/event"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
	"hyperkube/apiserver/request"
)

// ttl is how long an event is kept after its last write, in seconds.
const ttl = 60 * 60

// Resource is the line of events in the table of the core group.
func Resource(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "events", Singular: "event", Kind: v1.SchemeGroupVersion.WithKind("Event"),
		ShortNames: []string{"ev"},
		New:        func() runtime.Object { return &v1.Event{} },
		NewList:    func() runtime.Object { return &v1.EventList{} },
		Strategy:   strategy{typed.Strategy[*v1.Event]{CreateOnUpdate: true}},
		Fields:     typed.Fields(selectableFields),
		Table:      table,
		TTL:        func(runtime.Object) int64 { return ttl },

		NoDependents: true,
	}
}

// strategy asks more of who writes through events.k8s.io/v1 than of the elder clients of core/v1.
type strategy struct{ typed.Strategy[*v1.Event] }

func (strategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	if isStrict(ctx) {
		return event.ValidateNew(obj.(*v1.Event))
	}
	return event.Validate(obj.(*v1.Event))
}

func (strategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	if isStrict(ctx) {
		return event.ValidateUpdateNew(obj.(*v1.Event), old.(*v1.Event))
	}
	return event.Validate(obj.(*v1.Event))
}

// MetaRules implements registry.Strategy.
func (strategy) MetaRules(ctx context.Context) registry.MetaRules {
	return registry.MetaRules{None: !isStrict(ctx)}
}

func isStrict(ctx context.Context) bool {
	info := request.InfoFrom(ctx)
	return info != nil && info.APIGroup == eventsv1.GroupName
}

// View is the line of events in the table of events.k8s.io.
func View(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "events", Singular: "event", Kind: eventsv1.SchemeGroupVersion.WithKind("Event"),
		ShortNames: []string{"ev"},
		New:        func() runtime.Object { return &eventsv1.Event{} },
		NewList:    func() runtime.Object { return &eventsv1.EventList{} },
		View: &registry.View{
			Of:       schema.GroupResource{Resource: "events"},
			ToServed: func(stored runtime.Object) runtime.Object { return event.ToEvents(stored.(*v1.Event)) },
			ToStored: func(served runtime.Object) runtime.Object { return event.ToCore(served.(*eventsv1.Event)) },
		},
		Selects: viewSelects,
		Table:   typed.Table(func(e *eventsv1.Event) []any { return cells(event.ToCore(e)) }, columns...),
	}
}

func selectableFields(e *v1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	object := e.InvolvedObject
	return fields.Set{
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         source,
		"type":                           e.Type,
		"involvedObject.kind":            object.Kind,
		"involvedObject.namespace":       object.Namespace,
		"involvedObject.name":            object.Name,
		"involvedObject.uid":             string(object.UID),
		"involvedObject.apiVersion":      object.APIVersion,
		"involvedObject.resourceVersion": object.ResourceVersion,
		"involvedObject.fieldPath":       object.FieldPath,
	}
}

// viewSelects reads labels as events.k8s.io/v1 names its fields, which are stored under the names of v1.
func viewSelects(label string) (string, error) {
	switch label {
	case "metadata.name", "metadata.namespace", "reason", "type":
		return label, nil
	case "reportingController":
		return "reportingComponent", nil
	}
	if part, ok := strings.CutPrefix(label, "regarding."); ok {
		field := "involvedObject." + part
		if _, known := selectableFields(&v1.Event{})[field]; known {
			return field, nil
		}
	}
	return "", fmt.Errorf("field label not supported: %s", label)
}

var columns = []metav1.TableColumnDefinition{
	column.Text("Last Seen", v1.Event{}.SwaggerDoc()["lastTimestamp"]),
	column.Text("Type", v1.Event{}.SwaggerDoc()["type"]),
	column.Text("Reason", v1.Event{}.SwaggerDoc()["reason"]),
	column.Text("Object", v1.Event{}.SwaggerDoc()["involvedObject"]),
	column.Wide(column.Text("Subobject", v1.Event{}.InvolvedObject.SwaggerDoc()["fieldPath"])),
	column.Wide(column.Text("Source", v1.Event{}.SwaggerDoc()["source"])),
	column.Text("Message", v1.Event{}.SwaggerDoc()["message"]),
	column.Wide(column.Text("First Seen", v1.Event{}.SwaggerDoc()["firstTimestamp"])),
	column.Wide(column.Text("Count", v1.Event{}.SwaggerDoc()["count"])),
	column.Wide(column.Name()),
}

var table = typed.Table(cells, columns...)

func cells(e *v1.Event) []any {
	first := column.Since(e.FirstTimestamp)
	if e.FirstTimestamp.IsZero() {
		first = column.SinceMicro(e.EventTime)
	}
	last := first
	if !e.LastTimestamp.IsZero() {
		last = column.Since(e.LastTimestamp)
	}
	count := e.Count
	if e.Series != nil {
		last, count = column.SinceMicro(e.Series.LastObservedTime), e.Series.Count
	} else if count == 0 {
		count = 1
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	return []any{last, e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source(e), strings.TrimSpace(e.Message), first, int64(count), e.Name}
}

func source(e *v1.Event) string {
	component, instance := e.Source.Component, e.Source.Host
	if component == "" {
		component, instance = e.ReportingController, e.ReportingInstance
	}
	if instance == "" {
		return component
	}
	return fmt.Sprintf("%s, %s", component, instance)
}
