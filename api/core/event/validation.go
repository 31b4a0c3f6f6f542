package event

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// Bounds of an event that says when it happened as a series does (eventTime), in bytes.
const (
	maxReportingInstance = 128
	maxAction            = 128
	maxReason            = 128
	maxNote              = 1024
)

// Validate checks an event of core/v1, as its elder clients write it.
func Validate(e *corev1.Event) field.ErrorList { return validateLegacy(e, "reportingComponent") }

// ValidateNew checks a new event of events.k8s.io/v1: it has a time and a type, and nothing of what it replaced.
func ValidateNew(e *corev1.Event) field.ErrorList {
	errs := validateLegacy(e, "reportingController")
	errs = append(errs, validateSeries(e)...)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, old := range []struct {
		field string
		set   bool
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero()}, {"lastTimestamp", !e.LastTimestamp.IsZero()}, {"count", e.Count != 0},
		{"source", e.Source != corev1.EventSource{}},
	} {
		if old.set {
			errs = append(errs, field.Invalid(field.NewPath(old.field), "", "needs to be unset"))
		}
	}
	return errs
}

// ValidateUpdateNew: an event of events.k8s.io/v1 is a fact; only its series goes on.
func ValidateUpdateNew(e, old *corev1.Event) field.ErrorList {
	errs := validateLegacy(e, "reportingController")
	if !equality.Semantic.DeepEqual(e.Series, old.Series) {
		errs = append(errs, validateSeries(e)...)
	}
	same := func(name string, value, before any) {
		errs = append(errs, rule.Immutable(value, before, field.NewPath(name))...)
	}
	same("involvedObject", e.InvolvedObject, old.InvolvedObject)
	same("reason", e.Reason, old.Reason)
	same("message", e.Message, old.Message)
	same("source", e.Source, old.Source)
	same("firstTimestamp", e.FirstTimestamp, old.FirstTimestamp)
	same("lastTimestamp", e.LastTimestamp, old.LastTimestamp)
	same("count", e.Count, old.Count)
	same("type", e.Type, old.Type)
	// Some clients keep less than nanoseconds; what they send back is the same time.
	if !e.EventTime.Truncate(time.Microsecond).Equal(old.EventTime.Truncate(time.Microsecond)) {
		same("eventTime", e.EventTime, old.EventTime)
	}
	same("action", e.Action, old.Action)
	same("related", e.Related, old.Related)
	same("reportingController", e.ReportingController, old.ReportingController)
	same("reportingInstance", e.ReportingInstance, old.ReportingInstance)
	return errs
}

func validateSeries(e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	if e.Series == nil {
		return errs
	}
	if e.Series.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series", "count"), "", "should be at least 2"))
	}
	if e.Series.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series", "lastObservedTime"), ""))
	}
	return errs
}

// validateLegacy is what each event must fulfil; reporter is the name of a field that the versions call differently.
func validateLegacy(e *corev1.Event, reporter string) field.ErrorList {
	errs := validateNamespace(e)
	if e.EventTime.IsZero() {
		return append(errs, rule.DNSSubdomain(e.Namespace, field.NewPath("namespace"))...)
	}
	errs = append(errs, rule.NonEmpty(e.ReportingController, field.NewPath(reporter))...)
	errs = append(errs, rule.QualifiedName(e.ReportingController, field.NewPath(reporter))...)
	for _, text := range []struct {
		field, value string
		most         int
	}{{"reportingInstance", e.ReportingInstance, maxReportingInstance}, {"action", e.Action, maxAction}, {"reason", e.Reason, maxReason}} {
		errs = append(errs, rule.NonEmpty(text.value, field.NewPath(text.field))...)
		errs = append(errs, atMost(text.value, text.most, field.NewPath(text.field))...)
	}
	errs = append(errs, atMost(e.Message, maxNote, field.NewPath("message"))...)
	return append(errs, rule.DNSSubdomain(e.Namespace, field.NewPath("namespace"))...)
}

// validateNamespace: an event lives where its object does; one about an object without a namespace in default.
func validateNamespace(e *corev1.Event) field.ErrorList {
	of, in := e.InvolvedObject.Namespace, e.Namespace
	var apart bool
	switch timed := !e.EventTime.IsZero(); {
	case timed:
		apart = of == "" && in != metav1.NamespaceDefault && in != metav1.NamespaceSystem
	case of == "":
		apart = in != metav1.NamespaceNone && in != metav1.NamespaceDefault
	default:
		apart = in != of
	}
	if !apart {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("involvedObject", "namespace"), of, "does not match event.namespace")}
}

func atMost(value string, most int, path *field.Path) field.ErrorList {
	if len(value) <= most {
		return nil
	}
	return field.ErrorList{field.Invalid(path, "", fmt.Sprintf("can have at most %d characters", most))}
}
