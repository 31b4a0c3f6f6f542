package flow

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"hyperkube/reconcile"
)

// Span is a part of a trace as OpenTelemetry has it: what the record exports. It bears names and figures, and
// never a value out of an object.
type Span struct {
	// TraceID and SpanID are hexadecimal, as in traceparent. Parent is the span id of the one around it;
	// "" for the first of a trace.
	TraceID, SpanID, Parent string
	// Service is the component whose span it is; Server says that it answers somebody's request.
	Service    string
	Server     bool
	Name       string
	Start, End time.Time
	// Attributes bear OpenTelemetry's names where it has one. Values are strings or int64.
	Attributes []Attribute
	// Links are the spans of the writes that made a run happen.
	Links []SpanLink
	// Error is what went wrong; "" when nothing did.
	Error string
}

// Attribute is a name and a value.
type Attribute struct {
	Key   string
	Value any
}

// SpanLink leads to the span of a write that caused another, by an object's version.
type SpanLink struct {
	TraceID, SpanID, Cause string
}

// Tap has every entry handed to take, once it is in the record, until the record is gone. It is called once,
// before the first entry. take must not block: it is called by whoever is recorded.
func (r *Record) Tap(take func(Entry)) {
	if r != nil {
		r.tap = take
	}
}

// Entry is what a tap gets: a request or an effect.
type Entry struct{ entry }

// Spans makes spans of entries:
//
//	the request of a client        a span, within the client's if it sent a traceparent
//	a run of a component's loop    a span of its own trace, linked to the writes that caused it
//	└ its requests and effects     spans within it
//
// That is KEP-5915's form: a reconcile is no part of the request that it follows. Spans knows
// the newest writes by their revisions, to link to them, and the newest runs. One goroutine uses it.
type Spans struct {
	writes  map[int64]writeSpan
	written []int64 // the keys of writes, oldest first
	runs    map[string]bool
	ran     []string // likewise
}

// maxSpansKnown bounds the writes and the runs that are known.
const maxSpansKnown = 1 << 15

// writeSpan is the span of a write, and the object that was written ("Kind ns/name").
type writeSpan struct{ traceID, spanID, object string }

// NewSpans returns one that knows nothing yet.
func NewSpans() *Spans { return &Spans{writes: map[int64]writeSpan{}, runs: map[string]bool{}} }

// Of returns the spans of entries. A write may be answered, and so recorded, after what it caused: entries with
// a cause that is not known yet come back in waiting, to be given once more; then with final.
func (s *Spans) Of(entries []Entry, final bool) (spans []Span, waiting []Entry) {
	for _, e := range entries {
		if q, ok := e.entry.(*Request); ok {
			s.learn(q)
		}
	}
	gathered := map[string]*Span{}
	var order []string
	for _, e := range entries {
		p := partOf(e.entry)
		if p.span.TraceID == "" {
			continue
		}
		links, missing := s.links(p.causes)
		switch {
		case missing && !final:
			waiting = append(waiting, e)
			continue
		case p.run == "":
			p.span.Links = links
		case !s.runs[p.run]:
			if gathered[p.run] == nil {
				gathered[p.run] = p.newRun()
				order = append(order, p.run)
			}
			gathered[p.run].take(p.span, links)
		}
		spans = append(spans, p.span)
	}
	for _, id := range order {
		s.made(id)
		spans = append(spans, *gathered[id])
	}
	return spans, waiting
}

// learn remembers the span of each write of a request.
func (s *Spans) learn(q *Request) {
	for _, w := range q.Writes() {
		if _, known := s.writes[w.Revision]; known {
			continue
		}
		s.writes[w.Revision] = writeSpan{q.traceID(), q.spanID(), w.Kind.Kind + " " + w.Key}
		if s.written = append(s.written, w.Revision); len(s.written) > maxSpansKnown {
			delete(s.writes, s.written[0])
			s.written = s.written[1:]
		}
	}
}

// made remembers that the span of a run has been made.
func (s *Spans) made(run string) {
	s.runs[run] = true
	if s.ran = append(s.ran, run); len(s.ran) > maxSpansKnown {
		delete(s.runs, s.ran[0])
		s.ran = s.ran[1:]
	}
}

// links are the spans of the writes that causes name; a cause is believed only if it names
// the object that was written at that revision.
func (s *Spans) links(causes []reconcile.Cause) (links []SpanLink, missing bool) {
	for _, c := range causes {
		revision, err := strconv.ParseInt(c.ResourceVersion, 10, 64)
		if err != nil {
			continue
		}
		w, known := s.writes[revision]
		missing = missing || !known
		if known && w.object == c.Kind+" "+keyOf(c.Namespace, c.Name) && w.traceID != "" {
			links = append(links, SpanLink{TraceID: w.traceID, SpanID: w.spanID, Cause: c.String()})
		}
	}
	return links, missing
}

// part is an entry as a span, and what it says of the run it belongs to.
type part struct {
	span   Span
	run    string // span id of the component's run; "": it belongs to none
	doer   string // the component
	causes []reconcile.Cause
	source Source
}

func partOf(e entry) part {
	if q, ok := e.(*Request); ok {
		return q.part()
	}
	return e.(*Effect).part()
}

func (q *Request) part() part {
	p := part{doer: ProgramOf(q.UserAgent), source: parseSource(q.Source), span: Span{TraceID: q.traceID(), SpanID: q.spanID(),
		Service: "apiserver", Server: true, Name: strings.TrimRight(q.Verb+" "+q.Resource+"/"+q.Subresource, "/"), Start: q.Start, End: q.Start.Add(q.Took)}}
	if q.TraceParent != "" {
		p.span.Parent = q.TraceParent[36:52]
	}
	if isComponent(q.User) {
		p.causes = parseCauses(q.Cause).List
		p.run = p.span.Parent
	}
	if q.Code >= 500 {
		p.span.Error = "HTTP " + strconv.Itoa(q.Code)
	}
	p.span.add("http.response.status_code", int64(q.Code))
	p.span.add("user_agent.original", q.UserAgent)
	p.span.add("user.name", q.User)
	p.span.add("audit-id", q.AuditID)
	p.span.add("k8s.namespace.name", q.Namespace)
	p.span.add("k8s.object.name", q.Name)
	p.span.add("apiserver.authentication", q.Authn)
	p.span.add("apiserver.authorization", q.Reason)
	p.span.add("apiserver.admission", strings.Join(q.admission.names(), ","))
	p.span.add("apiserver.admission.duration_us", q.admission.Took.Microseconds())
	if q.writes > 0 {
		p.span.add("k8s.object.kind", q.write.Kind.Kind)
		p.span.add("k8s.object.resource_version", strconv.FormatInt(q.write.Revision, 10))
		p.span.add("etcd.key", q.write.Prefix+q.write.Key)
		p.span.add("etcd.duration_us", q.write.Took.Microseconds())
	}
	if q.writes > 1 {
		p.span.add("apiserver.writes", int64(q.writes))
	}
	p.span.addSource(p.source)
	return p
}

// part of an effect: what it says in words (Detail, Lines, Error) stays in the record.
func (e *Effect) part() part {
	p := part{doer: e.Component, causes: parseCauses(e.Cause).List, source: parseSource(e.Source), span: Span{TraceID: e.traceID(), SpanID: e.spanID(),
		Service: e.Component, Name: e.What, Start: e.Time, End: e.Time.Add(e.Took)}}
	if e.TraceParent != "" {
		p.span.Parent = e.TraceParent[36:52]
		p.run = p.span.Parent
	}
	if e.Error != "" {
		p.span.Error = "failed"
	}
	p.span.add("k8s.object.kind", e.Kind)
	p.span.add("k8s.namespace.name", e.Namespace)
	p.span.add("k8s.object.name", e.Name)
	p.span.addSource(p.source)
	return p
}

// newRun is the span of the run that p belongs to. When a run began and ended nobody tells: it is as long as
// what it did.
func (p *part) newRun() *Span {
	run := &Span{TraceID: p.span.TraceID, SpanID: p.run, Service: p.doer, Name: "run", Start: p.span.Start, End: p.span.End}
	switch {
	case p.source.Loop != "":
		run.Name = "reconcile " + p.source.Loop
		run.add("reconcile.loop", p.source.Loop)
		run.add("reconcile.key", p.source.Key)
	case p.source.Function != "":
		run.Name = p.source.Function
	}
	return run
}

// take makes a run cover a part of it.
func (s *Span) take(part Span, links []SpanLink) {
	if part.Start.Before(s.Start) {
		s.Start = part.Start
	}
	if part.End.After(s.End) {
		s.End = part.End
	}
	for _, link := range links {
		if !slices.Contains(s.Links, link) {
			s.Links = append(s.Links, link)
		}
	}
}

// add adds an attribute that says something.
func (s *Span) add(key string, value any) {
	if value != "" && value != int64(0) {
		s.Attributes = append(s.Attributes, Attribute{key, value})
	}
}

func (s *Span) addSource(source Source) {
	s.add("code.function.name", source.Function)
	s.add("code.file.path", source.File)
	s.add("code.line.number", int64(source.Line))
}
