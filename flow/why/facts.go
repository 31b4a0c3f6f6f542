package why

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"hyperkube/flow"
)

// facts are what is gathered of any object. Everything that decides reads only facts.
type facts struct {
	now                          time.Time
	kind, group, namespace, name string
	object                       metav1.Object
	// events are about the object, oldest first.
	events []corev1.Event
	// changes are the writes of the object that the record still has, oldest first; recorded is
	// false when there is no record to read.
	changes  []change
	recorded bool
	// holders: who renews the Leases of the control plane ("kube-scheduler").
	holders map[string]holder
}

// change is a write of an object, from the record.
type change struct {
	time    time.Time
	verb    string
	user    string
	program string
	diff    []string
	source  string
}

// by names who made a change, with the line of code where it is one of ours.
func (c *change) by() string {
	text := c.program
	if c.user != "" {
		text += " as " + c.user
	}
	if c.source != "" {
		text += ", " + c.source
	}
	return text
}

// holder is who has a component's Lease.
type holder struct {
	identity string
	renewed  time.Time
	duration time.Duration
}

// alive says whether the Lease is being renewed.
func (h holder) alive(now time.Time) bool {
	return !h.renewed.IsZero() && now.Sub(h.renewed) <= h.duration
}

// runs tells whether a component of the control plane runs, as far as its Lease says.
func (f *facts) runs(component string) string {
	h, ok := f.holders[component]
	switch {
	case !ok:
		return component + " holds no Lease: it never ran here, or runs without leader election"
	case h.alive(f.now):
		return fmt.Sprintf("%s runs (%s renewed its Lease %s)", component, h.identity, ago(f.now, h.renewed))
	}
	return fmt.Sprintf("%s does not run: its Lease was last renewed %s, by %s", component, ago(f.now, h.renewed), h.identity)
}

// stopped says that the component had a Lease and let it expire.
func (f *facts) stopped(component string) bool {
	h, ok := f.holders[component]
	return ok && !h.alive(f.now)
}

// reading is one explanation while its facts are gathered.
type reading struct {
	*Gatherer
	facts
	// unread is what could not be read, and why.
	unread []string
}

// failed notes that something could not be read, and says whether that was so. What does not exist is
// no failure to read.
func (r *reading) failed(what string, err error) bool {
	if err == nil {
		return false
	}
	if !apierrors.IsNotFound(err) {
		r.unread = append(r.unread, oneLine(what+": "+err.Error(), 2*screenWidth))
	}
	return true
}

// common gathers what is told of every kind: Events, Leases, and the record's changes.
func (r *reading) common(ctx context.Context, object metav1.Object) {
	r.object = object
	r.events = r.eventsOf(ctx, r.kind, r.namespace, r.name, string(object.GetUID()))
	r.holders = map[string]holder{}
	leases, err := r.client.CoordinationV1().Leases(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if !r.failed("the control plane's Leases", err) {
		for i := range leases.Items {
			r.holders[leases.Items[i].Name] = holderOf(&leases.Items[i])
		}
	}
	r.changes, r.recorded = r.changesOf(ctx, r.group, r.kind, r.namespace, r.name)
}

func holderOf(lease *coordinationv1.Lease) (h holder) {
	if lease.Spec.HolderIdentity != nil {
		h.identity = *lease.Spec.HolderIdentity
	}
	if lease.Spec.RenewTime != nil {
		h.renewed = lease.Spec.RenewTime.Time
	}
	if lease.Spec.LeaseDurationSeconds != nil {
		h.duration = time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
	}
	return h
}

// eventsOf reads the Events of an object, oldest first. uid keeps those of an earlier namesake
// out; of nodes, events carry the name instead.
func (r *reading) eventsOf(ctx context.Context, kind, namespace, name, uid string) []corev1.Event {
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	selector := fields.Set{"involvedObject.kind": kind, "involvedObject.name": name}.String()
	list, err := r.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: selector})
	if r.failed("the Events of "+key(namespace, name), err) {
		return nil
	}
	events := slices.DeleteFunc(list.Items, func(e corev1.Event) bool {
		about := string(e.InvolvedObject.UID)
		return about != "" && about != uid && kind != "Node"
	})
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return lastSeen(&a).Compare(lastSeen(&b)) })
	return events
}

// lastSeen is when an Event happened last; there are three ways to say it.
func lastSeen(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// times is how often an Event happened.
func times(e *corev1.Event) int {
	if e.Series != nil {
		return int(e.Series.Count)
	}
	return max(1, int(e.Count))
}

// lastEvent is the newest of events that holds; nil: there is none.
func lastEvent(events []corev1.Event, holds func(*corev1.Event) bool) *corev1.Event {
	for i := len(events) - 1; i >= 0; i-- {
		if holds(&events[i]) {
			return &events[i]
		}
	}
	return nil
}

// ask reads a document that upstream's apiserver has not; false: there is none.
func (r *reading) ask(ctx context.Context, path string, query url.Values, into any) bool {
	request := r.client.Discovery().RESTClient().Get().AbsPath(path)
	for name := range query {
		request.Param(name, query.Get(name))
	}
	data, err := request.Do(ctx).Raw()
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err == nil {
		return true
	}
	reason := "the record (" + path + ")"
	if apierrors.IsNotFound(err) {
		reason, err = "the record", fmt.Errorf("this apiserver keeps none: it is upstream's, or runs with --flow-buffer=-1")
	}
	if r.failed(reason, err); len(r.unread) > 1 && slices.Contains(r.unread[:len(r.unread)-1], r.unread[len(r.unread)-1]) {
		r.unread = r.unread[:len(r.unread)-1] // once is enough
	}
	return false
}

func targetOf(group, kind, namespace, name string) url.Values {
	return url.Values{"group": {group}, "kind": {kind}, "namespace": {namespace}, "name": {name}}
}

// changesOf asks the record who wrote an object.
func (r *reading) changesOf(ctx context.Context, group, kind, namespace, name string) (changes []change, recorded bool) {
	var story flow.Story
	if !r.ask(ctx, "/debug/flow/trace", targetOf(group, kind, namespace, name), &story) {
		return nil, false
	}
	for _, n := range story.Flat() {
		if n.Object != kind+" "+key(namespace, name) || n.Revision == 0 {
			continue
		}
		source := n.Source.String()
		changes = append(changes, change{time: n.Time, verb: n.What, user: n.User, program: n.Component, diff: n.Diff, source: source})
	}
	return changes, true
}

// changed finds the last recorded change of a field: one whose diff has a line that begins so.
func (f *facts) changed(field string) *change {
	for i := len(f.changes) - 1; i >= 0; i-- {
		for _, line := range f.changes[i].diff {
			if strings.HasPrefix(line, field) {
				return &f.changes[i]
			}
		}
	}
	return nil
}

// deletedBy is who asked for the object's deletion, from the record: the first to do so in this life of
// the name. A kubelet that has stopped the containers asks once more.
func (f *facts) deletedBy() (first *change) {
	for i := range f.changes {
		c := &f.changes[i]
		marks := slices.ContainsFunc(c.diff, func(line string) bool { return strings.HasPrefix(line, "metadata.deletionTimestamp: none") })
		switch {
		case strings.HasPrefix(c.verb, "create"):
			first = nil
		case first == nil && (marks || strings.HasPrefix(c.verb, "delete")):
			first = c
		}
	}
	return first
}
