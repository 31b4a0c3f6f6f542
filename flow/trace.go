package flow

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Target is the object whose story is asked for.
type Target struct {
	Kind            schema.GroupKind
	Namespace, Name string
	// Since leaves out what began earlier; zero: everything that is still recorded.
	Since time.Time
	// TraceID asks for what was done in one trace (a request, a run of a loop) instead, of whatever object.
	TraceID string
}

func (t Target) key() string { return keyOf(t.Namespace, t.Name) }

func keyOf(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// Link says how it is known why something was done.
type Link string

const (
	Observed Link = "observed" // the component said so
	Inferred Link = "inferred" // it was told of that version before it wrote
	Claimed  Link = "claimed"  // a client that is no component said so
)

// Node is one line of a story: a write, a refused write, or an effect, with all that
// it caused.
type Node struct {
	Time time.Time     `json:"time"`
	Took time.Duration `json:"took,omitempty"`
	// Component is the program; with a loop, the controller: "controller-manager/deployment".
	Component string `json:"component"`
	User      string `json:"user,omitempty"`
	// Authn is how it is known who asked.
	Authn string `json:"authn,omitempty"`
	// What is the verb of a request, or the name of an effect.
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"`
	Error  string `json:"error,omitempty"`
	// Object is "Kind namespace/name".
	Object   string `json:"object,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	Code     int    `json:"code,omitempty"`
	// EtcdKey is where the object is stored, InEtcd and InAdmission are parts of Took.
	EtcdKey     string        `json:"etcdKey,omitempty"`
	InEtcd      time.Duration `json:"inEtcd,omitempty"`
	InAdmission time.Duration `json:"inAdmission,omitempty"`
	// Allowed is the authorizer's reason, Admission the plugins that were asked, AdmissionSteps what
	// each of them did.
	Allowed        string          `json:"allowed,omitempty"`
	Admission      []string        `json:"admission,omitempty"`
	AdmissionSteps []AdmissionStep `json:"admissionSteps,omitempty"`
	Diff           []string        `json:"diff,omitempty"`
	// Causes are the versions that made it happen; the node hangs under the newest.
	Causes []string `json:"causes,omitempty"`
	Link   Link     `json:"link,omitempty"`
	// Claimed are the headers that say why, where and in which trace, of a client that is no component.
	Claimed    []string   `json:"claimed,omitempty"`
	Source     Source     `json:"source,omitzero"`
	TraceID    string     `json:"traceID,omitempty"`
	Deliveries []Delivery `json:"deliveries,omitempty"`
	Children   []*Node    `json:"children,omitempty"`

	about About
}

// Delivery is a watch event of the write that was sent to a client.
type Delivery struct {
	Component string        `json:"component"`
	Resource  string        `json:"resource"`
	After     time.Duration `json:"after"`
}

// tracePrefix begins Story.Object where the story is of a trace.
const tracePrefix = "trace "

// Story is what happened to an object, and because of it.
type Story struct {
	Object string  `json:"object"`
	Roots  []*Node `json:"roots"`
	// Waits is what the object waits for, if it is being deleted and not gone.
	Waits []string `json:"waits,omitempty"`
	// Since is what was asked for: what began earlier is left out.
	Since time.Time `json:"since,omitzero"`
	// Lost is true when the record has dropped entries: the story may begin in the middle.
	Lost   bool   `json:"lost,omitempty"`
	Status Status `json:"status"`
}

// step is an entry while a story is put together: one write of a request, a request
// that was refused, or an effect.
type step struct {
	request *Request
	write   *Write
	effect  *Effect

	parent   *step
	link     Link
	children []*step
	chosen   bool // it is part of the story
	whole    bool // and so is all that it caused
}

func (s *step) revision() int64 {
	if s.write == nil {
		return 0
	}
	return s.write.Revision
}

func (s *step) when() time.Time {
	switch {
	case s.effect != nil:
		return s.effect.Time
	case s.write != nil && len(s.request.others) > 0:
		return s.write.Time // of many, each has its own
	}
	return s.request.Start
}

// Trace tells the story of an object:
//
//	Step 1: make steps of the entries, and find each write by its revision.
//	Step 2: hang each step under the newest write that caused it.
//	Step 3: choose those about the object, all that they caused, and what caused them.
//	Step 4: make nodes of the chosen ones, with diffs and deliveries.
func (r *Record) Trace(t Target) Story {
	story := Story{Object: t.Kind.Kind + " " + t.key(), Roots: []*Node{}, Since: t.Since, Status: r.Status()}
	if r == nil {
		return story
	}
	if t.TraceID != "" {
		story.Object = tracePrefix + t.TraceID
	}
	story.Lost = story.Status.Dropped > 0
	// Step 1: make steps of the entries, and find each write by its revision.
	b := newBuilder(r, t.TraceID)
	// Step 2: hang each step under the newest write that caused it.
	for _, s := range b.steps {
		b.hang(s, t)
	}
	// Step 3: choose those about the object, all that they caused, and what caused them.
	for _, s := range b.steps {
		if t.isAbout(s) {
			s.choose()
			for up := s.parent; up != nil && !up.chosen; up = up.parent {
				up.chosen = true
			}
		}
	}
	// Step 4: make nodes of the chosen ones, with diffs and deliveries.
	b.receipts = r.watches.deliveries(func(revision int64) bool {
		s := b.byRevision[revision]
		return s != nil && s.chosen
	})
	for _, s := range b.steps {
		if s.chosen && (s.parent == nil || !s.parent.chosen) {
			story.Roots = append(story.Roots, b.node(s))
		}
	}
	slices.SortStableFunc(story.Roots, byTime)
	story.Waits = b.waits(t)
	return story
}

func byTime(a, b *Node) int { return a.Time.Compare(b.Time) }

// builder puts one story together.
type builder struct {
	steps      []*step
	byRevision map[int64]*step
	// byObject are the writes of each object ("Kind ns/name"), oldest first.
	byObject map[string][]*step
	receipts map[int64][]receipt
	// kinds of resources, as writes have shown them: requests that wrote nothing name the resource only.
	kinds map[schema.GroupResource]string
	// traceID is asked for: of it requests that only read are steps too.
	traceID string
	// told: when each client (its User-Agent and user) was told of which revision.
	told map[string]map[int64]telling
}

// telling is when a client was told of a revision, on a watch that it ended then (zero: not yet).
type telling struct{ at, ended time.Time }

func newBuilder(r *Record, traceID string) *builder {
	b := &builder{byRevision: map[int64]*step{}, byObject: map[string][]*step{}, kinds: map[schema.GroupResource]string{}, traceID: traceID}
	for _, e := range r.snapshot() {
		switch e := e.(type) {
		case *Effect:
			b.steps = append(b.steps, &step{effect: e})
		case *Request:
			b.addRequest(e)
		}
	}
	slices.SortStableFunc(b.steps, func(x, y *step) int { return x.when().Compare(y.when()) })
	for _, s := range b.steps {
		if s.write != nil {
			b.byRevision[s.write.Revision] = s
			object := s.write.Kind.Kind + " " + s.write.Key
			b.byObject[object] = append(b.byObject[object], s)
		}
	}
	b.told = map[string]map[int64]telling{}
	for revision, receipts := range r.watches.deliveries(func(revision int64) bool { return b.byRevision[revision] != nil }) {
		for _, receipt := range receipts {
			client := receipt.watch.UserAgent + "\n" + receipt.watch.User
			if b.told[client] == nil {
				b.told[client] = map[int64]telling{}
			}
			b.told[client][revision] = telling{at: receipt.at, ended: receipt.ended}
		}
	}
	return b
}

func (b *builder) addRequest(q *Request) {
	writes := q.Writes()
	for i := range writes {
		b.steps = append(b.steps, &step{request: q, write: &writes[i]})
		if q.Subresource == "" && writes[i].Kind.Group == q.Group {
			b.kinds[schema.GroupResource{Group: q.Group, Resource: q.Resource}] = writes[i].Kind.Kind
		}
	}
	if len(writes) == 0 && (q.Code >= 400 && isWriteVerb(q.Verb) || q.connects() || b.traceID != "" && q.traceID() == b.traceID) {
		b.steps = append(b.steps, &step{request: q})
	}
}

func isWriteVerb(verb string) bool {
	return verb != "get" && verb != "list" && verb != "watch"
}

// connects: somebody looked into a pod.
func (q *Request) connects() bool { return Connects(q.Group, q.Resource, q.Subresource) }

// Connects tells the requests that stay open and are part of a pod's story all the same:
// somebody looked into it. Only that they did is recorded, when they have done; never the
// command, nor what went through.
func Connects(group, resource, subresource string) bool {
	return group == "" && resource == "pods" && passesThrough(subresource)
}

// hang finds the parent of a step: the newest of the versions by which its component
// says it acts; else, of those that the client had been told of, the newest version of
// the same object or of its owner.
func (b *builder) hang(s *step, t Target) {
	header := ""
	link := Observed
	switch {
	case s.effect != nil:
		header = s.effect.Cause
	default:
		header = s.request.Cause
		if !isComponent(s.request.User) {
			link = Claimed
		}
	}
	for _, cause := range parseCauses(header).List {
		revision, err := strconv.ParseInt(cause.ResourceVersion, 10, 64)
		parent := b.byRevision[revision]
		if err != nil || parent == nil || s.write != nil && revision >= s.write.Revision {
			continue
		}
		if key := keyOf(cause.Namespace, cause.Name); parent.write.Key != key || parent.write.Kind.Kind != cause.Kind {
			continue // the header names another object's version: believe nothing of it
		}
		if s.parent == nil || t.nearer(s, parent, s.parent) {
			s.parent, s.link = parent, link
		}
	}
	if s.parent == nil {
		if s.parent = b.infer(s); s.parent != nil {
			s.link = Inferred
		}
	}
	if s.parent != nil {
		s.parent = s.parent.notByOwnStatus(s)
		s.parent.children = append(s.parent.children, s)
	}
}

// nearer says whether cause a of s goes before cause b: the newer one; but what others did goes before what the doer of s
// wrote itself, whose echo often comes with it. An effect of several
// changes at once (the proxy writes the rules of all that changed since its last turn) hangs
// under the one that the story is of, or the story of a Service would not show its rules.
func (t Target) nearer(s, a, b *step) bool {
	if s.effect != nil && t.TraceID == "" && !t.isAbout(s) && t.isAbout(a) != t.isAbout(b) {
		return t.isAbout(a)
	}
	if doer := s.doer(); (a.doer() == doer) != (b.doer() == doer) {
		return b.doer() == doer
	}
	return a.revision() > b.revision()
}

// notByOwnStatus climbs from a status that the doer of s wrote itself to what made it write
// that: the kubelet acts on a pod, not on its own report about the pod, though the report
// makes the version that it then holds. Otherwise each crash of a container would hang
// under the report of the one before. Writes of more than a status stay: a loop does go on
// from what it has written.
func (s *step) notByOwnStatus(doer *step) *step {
	if doer.write != nil && doer.request.Subresource == "" && doer.write.Kind.Kind != "Event" {
		return s
	}
	for s.parent != nil && s.write != nil && s.request.Subresource == "status" && s.doer() == doer.doer() {
		s = s.parent
	}
	return s
}

// doer is the program, and the loop in it; recorders of Events know no loop.
func (s *step) doer() string {
	if s.effect != nil {
		return withLoop(s.effect.Component, parseSource(s.effect.Source))
	}
	return withLoop(ProgramOf(s.request.UserAgent), parseSource(s.request.Source))
}

// infer guesses what a step without a known cause answers.
func (b *builder) infer(s *step) *step {
	if s.effect != nil {
		return newest(b.byObject[s.effect.Kind+" "+keyOf(s.effect.Namespace, s.effect.Name)], func(w *step) bool { return !w.when().After(s.effect.Time) })
	}
	if s.write == nil {
		return nil
	}
	if revision := regarding(s.write); revision != 0 && revision < s.write.Revision {
		return b.byRevision[revision] // an Event names the version it is about
	}
	told := b.told[s.request.UserAgent+"\n"+s.request.User]
	if told == nil || ProgramOf(s.request.UserAgent) == "kubectl" {
		// Who does not listen is not made to write by what happens; and behind kubectl is somebody who types: that
		// a `kubectl get --watch` runs beside is no reason.
		return nil
	}
	knew := func(w *step) bool {
		heard, was := told[w.write.Revision]
		return was && w.write.Revision < s.write.Revision && !heard.at.After(s.when().Add(s.request.Took)) &&
			(heard.ended.IsZero() || heard.ended.After(s.when()))
	}
	candidates := newest(b.byObject[s.write.Kind.Kind+" "+s.write.Key], knew)
	if candidates == nil {
		candidates = newest(b.byObject[ownerOf(s.write)], knew)
	}
	return candidates
}

// newest is the last of steps (in order) that holds.
func newest(steps []*step, holds func(*step) bool) *step {
	for _, s := range slices.Backward(steps) {
		if holds(s) {
			return s
		}
	}
	return nil
}

// owned is what of a stored object tells whom it belongs to.
func metadataOf(w *Write) map[string]any {
	data := w.New
	if data == nil {
		data = w.Old
	}
	value, err := decodeValue(data)
	if err != nil {
		return nil
	}
	object, _ := value.(map[string]any)
	return object
}

// ownerOf names the controlling owner of a written object: "Kind ns/name".
func ownerOf(w *Write) string {
	metadata, _ := metadataOf(w)["metadata"].(map[string]any)
	owners, _ := metadata["ownerReferences"].([]any)
	for _, o := range owners {
		owner, _ := o.(map[string]any)
		kind, _ := owner["kind"].(string)
		name, _ := owner["name"].(string)
		if controls, _ := owner["controller"].(bool); controls {
			namespace, _ := metadata["namespace"].(string)
			return kind + " " + keyOf(namespace, name)
		}
	}
	return ""
}

// regarding is the revision of the object that a written Event is about; 0: it is no
// Event, or does not say.
func regarding(w *Write) int64 {
	if w.Kind.Kind != "Event" {
		return 0
	}
	object := metadataOf(w)
	for _, field := range []string{"involvedObject", "regarding"} {
		about, _ := object[field].(map[string]any)
		text, _ := about["resourceVersion"].(string)
		if revision, err := strconv.ParseInt(text, 10, 64); err == nil {
			return revision
		}
	}
	return 0
}

// eventText is what an Event says: "Pulled ×3: Container image …".
func (w *Write) eventText() string {
	object := metadataOf(w)
	text := func(name string) string { s, _ := object[name].(string); return s }
	said := text("reason")
	count := object["count"]
	if series, ok := object["series"].(map[string]any); ok {
		count = series["count"]
	}
	if n := fmt.Sprint(count); count != nil && n != "0" && n != "1" {
		said += " ×" + n
	}
	return said + ": " + cmp.Or(text("message"), text("note"))
}

// isAbout says whether a step is part of the object's own history.
func (t Target) isAbout(s *step) bool {
	if s.when().Before(t.Since) {
		return false
	}
	switch {
	case t.TraceID != "" && s.effect != nil:
		return s.effect.traceID() == t.TraceID
	case t.TraceID != "":
		return s.request.traceID() == t.TraceID
	case s.effect != nil:
		return s.effect.Kind == t.Kind.Kind && s.effect.Namespace == t.Namespace && s.effect.Name == t.Name
	case s.write != nil:
		return s.write.Kind.Kind == t.Kind.Kind && s.write.Kind.Group == t.Kind.Group && s.write.Key == t.key()
	}
	plural, _ := meta.UnsafeGuessKindToResource(t.Kind.WithVersion("")) // names that are no rule's are not refused often
	return s.request.Resource == plural.Resource && s.request.Group == t.Kind.Group &&
		s.request.Namespace == t.Namespace && s.request.Name == t.Name
}

// choose takes a step and all that it caused.
func (s *step) choose() {
	if s.whole {
		return
	}
	s.chosen, s.whole = true, true
	for _, child := range s.children {
		child.choose()
	}
}

// node makes the line of a chosen step, and those below it.
func (b *builder) node(s *step) *Node {
	var n *Node
	if s.effect != nil {
		n = s.effect.node()
	} else {
		n = s.request.node(s.write)
		n.Time = s.when()
		if kind := b.kinds[schema.GroupResource{Group: s.request.Group, Resource: s.request.Resource}]; s.write == nil && s.request.Name != "" && kind != "" {
			n.Object = kind + " " + keyOf(s.request.Namespace, s.request.Name)
		}
	}
	if s.parent != nil {
		n.Link = s.link
	}
	if s.write != nil {
		n.Deliveries = deliveriesOf(s.write, b.receipts[s.write.Revision])
	}
	for _, child := range s.children {
		if child.chosen {
			n.Children = append(n.Children, b.node(child))
		}
	}
	slices.SortStableFunc(n.Children, byTime)
	return n
}

func (e *Effect) node() *Node {
	n := &Node{Time: e.Time, Took: e.Took, Component: e.Component, What: e.What, Detail: e.Detail, Error: e.Error, Diff: e.Lines, Source: parseSource(e.Source)}
	if e.Kind != "" {
		n.Object = e.Kind + " " + keyOf(e.Namespace, e.Name)
	}
	n.Causes, n.TraceID = causeTexts(e.Cause), e.traceID()
	n.Component, n.about = withLoop(n.Component, n.Source), e.About()
	return n
}

func (q *Request) node(w *Write) *Node {
	n := &Node{Time: q.Start, Took: q.Took, Component: ProgramOf(q.UserAgent), User: q.User, Authn: q.Authn, What: q.Verb, Code: q.Code,
		Allowed: q.Reason, Causes: causeTexts(q.Cause), Source: parseSource(q.Source), TraceID: q.traceID(), Claimed: q.claimed(),
		Admission: q.admission.names(), AdmissionSteps: q.admissionSteps(w), InAdmission: q.admission.Took}
	n.Component = withLoop(n.Component, n.Source)
	if q.Subresource != "" {
		n.What += " " + q.Subresource
	}
	if w == nil {
		n.about = About{Group: q.Group, Resource: q.Resource, Namespace: q.Namespace, Name: q.Name}
		n.Object = q.Resource + " " + keyOf(q.Namespace, q.Name)
		if q.connects() {
			n.Object = "Pod " + keyOf(q.Namespace, q.Name)
		}
		if q.Name == "" && q.Namespace != "" {
			n.Object = q.Resource + " in " + q.Namespace
		}
		if n.Error = q.refusal; q.isConfidential(nil) {
			n.Error = ""
		}
		return n
	}
	n.Object, n.Revision, n.Diff = w.Kind.Kind+" "+w.Key, w.Revision, w.diff()
	n.EtcdKey, n.InEtcd = w.Prefix+w.Key, w.Took
	n.about = w.about()
	if w.Kind.Kind == "Event" {
		n.Detail, n.Diff = w.eventText(), nil
	}
	if w.Deleted && q.Verb != "delete" {
		n.What += " (gone)"
	}
	return n
}

func (w *Write) about() About {
	namespace, name, found := strings.Cut(w.Key, "/")
	if !found {
		namespace, name = "", w.Key
	}
	return About{Group: w.Kind.Group, Kind: w.Kind.Kind, Namespace: namespace, Name: name}
}

func withLoop(component string, s Source) string {
	if s.Loop == "" || s.Loop == component {
		return component
	}
	return component + "/" + s.Loop
}

func causeTexts(header string) []string {
	var texts []string
	causes := parseCauses(header)
	for _, c := range causes.List {
		texts = append(texts, c.String())
	}
	if causes.More > 0 {
		texts = append(texts, "and "+strconv.Itoa(causes.More)+" more")
	}
	return texts
}

func deliveriesOf(w *Write, receipts []receipt) []Delivery {
	// The watch may be told before the writer has etcd's answer: the write was then, too.
	stored := w.Time
	for _, r := range receipts {
		if r.at.Before(stored) {
			stored = r.at
		}
	}
	var deliveries []Delivery
	for _, r := range receipts {
		deliveries = append(deliveries, Delivery{Component: ProgramOf(r.watch.UserAgent), Resource: r.watch.Resource, After: r.at.Sub(stored)})
	}
	slices.SortFunc(deliveries, func(a, b Delivery) int {
		return cmp.Or(cmp.Compare(a.After, b.After), strings.Compare(a.Component, b.Component))
	})
	return deliveries
}
