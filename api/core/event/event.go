// Package event is what is true of an Event in both of its versions: one event
// is stored, as core/v1, and events.k8s.io/v1 is another view of it.
//
// In Kubernetes: pkg/apis/core/validation/events.go and
// pkg/apis/events/v1/conversion.go.
package event

import (
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// Validate checks what both versions share, and, where the event says when it
// happened as a series does (eventTime), what the newer version asks for.
func Validate(e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	if e.InvolvedObject.Namespace == "" {
		// An event about an object without a namespace lives in default.
		if e.Namespace != metav1.NamespaceNone && e.Namespace != metav1.NamespaceDefault {
			errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), e.InvolvedObject.Namespace, "does not match event.namespace"))
		}
	} else if e.Namespace != e.InvolvedObject.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), e.InvolvedObject.Namespace, "does not match event.namespace"))
	}
	if e.EventTime.IsZero() {
		return errs
	}
	errs = append(errs, rule.NonEmpty(e.ReportingController, field.NewPath("reportingController"))...)
	if e.ReportingController != "" {
		errs = append(errs, rule.QualifiedName(e.ReportingController, field.NewPath("reportingController"))...)
	}
	errs = append(errs, bounded(e.ReportingInstance, 128, field.NewPath("reportingInstance"))...)
	errs = append(errs, bounded(e.Action, 128, field.NewPath("action"))...)
	errs = append(errs, bounded(e.Reason, 128, field.NewPath("reason"))...)
	if len(e.Message) > 1024 {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", "can have at most 1024 characters"))
	}
	if e.Series != nil {
		if e.Series.Count < 2 {
			errs = append(errs, field.Invalid(field.NewPath("series", "count"), e.Series.Count, "should be at least 2"))
		}
		if e.Series.LastObservedTime.IsZero() {
			errs = append(errs, field.Required(field.NewPath("series", "lastObservedTime"), ""))
		}
	}
	return errs
}

func bounded(value string, most int, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(value) > most {
		return field.ErrorList{field.Invalid(path, "", "can have at most 128 characters")}
	}
	return nil
}

// ValidateUpdate: an event that tells its time is a fact; only its series goes on.
func ValidateUpdate(e, old *corev1.Event) field.ErrorList {
	errs := Validate(e)
	if old.EventTime.IsZero() {
		return errs
	}
	errs = append(errs, rule.Immutable(e.EventTime, old.EventTime, field.NewPath("eventTime"))...)
	errs = append(errs, rule.Immutable(e.Reason, old.Reason, field.NewPath("reason"))...)
	errs = append(errs, rule.Immutable(e.Message, old.Message, field.NewPath("message"))...)
	errs = append(errs, rule.Immutable(e.InvolvedObject, old.InvolvedObject, field.NewPath("involvedObject"))...)
	errs = append(errs, rule.Immutable(e.Type, old.Type, field.NewPath("type"))...)
	errs = append(errs, rule.Immutable(e.Action, old.Action, field.NewPath("action"))...)
	return append(errs, rule.Immutable(e.ReportingController, old.ReportingController, field.NewPath("reportingController"))...)
}

// ToEvents is a stored event as events.k8s.io/v1 shows it.
func ToEvents(e *corev1.Event) *eventsv1.Event {
	out := &eventsv1.Event{
		TypeMeta:                 metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"},
		ObjectMeta:               e.ObjectMeta,
		EventTime:                e.EventTime,
		ReportingController:      e.ReportingController,
		ReportingInstance:        e.ReportingInstance,
		Action:                   e.Action,
		Reason:                   e.Reason,
		Regarding:                e.InvolvedObject,
		Related:                  e.Related,
		Note:                     e.Message,
		Type:                     e.Type,
		DeprecatedSource:         e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp,
		DeprecatedLastTimestamp:  e.LastTimestamp,
		DeprecatedCount:          e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

// ToCore is what is stored of an events.k8s.io/v1 event.
func ToCore(e *eventsv1.Event) *corev1.Event {
	out := &corev1.Event{
		TypeMeta:            metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:          e.ObjectMeta,
		EventTime:           e.EventTime,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
		Action:              e.Action,
		Reason:              e.Reason,
		InvolvedObject:      e.Regarding,
		Related:             e.Related,
		Message:             e.Note,
		Type:                e.Type,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}
