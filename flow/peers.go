package flow

import (
	"cmp"
	"slices"
	"time"
)

// Peer is a program that talks to the apiserver, as far as it is recorded.
type Peer struct {
	// Program is the short name of the User-Agent, User who it runs as, Authn how that is known.
	Program string `json:"program"`
	User    string `json:"user"`
	Authn   string `json:"authn,omitempty"`
	// Requests are those in the record, Last is when the newest of them came.
	Requests int       `json:"requests"`
	Last     time.Time `json:"last,omitzero"`
	// Watches are open now, and so are Streams: execs, logs, forwarded ports.
	Watches int      `json:"watches"`
	Streams []Stream `json:"streams,omitempty"`
}

// Stream is an open connection through the apiserver to a pod or node: apiserver to kubelet.
type Stream struct {
	// What is the subresource: exec, log, portforward, proxy, attach.
	What string `json:"what"`
	// Object is "resource namespace/name".
	Object string    `json:"object"`
	Since  time.Time `json:"since"`
}

// Opened notes that a request stays open: it goes through to a container. It is closed when
// it has been answered (End).
func (r *Record) Opened(q *Request) {
	if r == nil || q == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[*Request]bool{}
	}
	r.open[q] = true
}

// Peers returns who talks to the apiserver: those that are recorded, and those that watch.
func (r *Record) Peers() []Peer {
	peers := []Peer{}
	if r == nil {
		return peers
	}
	byName := map[[2]string]*Peer{}
	client := func(userAgent, user string) *Peer {
		key := [2]string{ProgramOf(userAgent), user}
		if byName[key] == nil {
			byName[key] = &Peer{Program: key[0], User: user}
		}
		return byName[key]
	}
	for _, e := range r.snapshot() {
		if q, ok := e.(*Request); ok && q.User != "" {
			c := client(q.UserAgent, q.User)
			c.Requests++
			c.Authn = q.Authn
			if q.Start.After(c.Last) {
				c.Last = q.Start
			}
		}
	}
	for _, w := range r.Open() {
		client(w.UserAgent, w.User).Watches++
	}
	r.mu.Lock()
	for q := range r.open {
		c := client(q.UserAgent, q.User)
		c.Streams = append(c.Streams, Stream{What: q.Subresource, Object: q.Resource + " " + keyOf(q.Namespace, q.Name), Since: q.Start})
	}
	r.mu.Unlock()
	for _, c := range byName {
		slices.SortFunc(c.Streams, func(a, b Stream) int { return a.Since.Compare(b.Since) })
		peers = append(peers, *c)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Or(cmp.Compare(a.Program, b.Program), cmp.Compare(a.User, b.User)) })
	return peers
}
