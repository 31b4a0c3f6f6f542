package flowapi

import (
	"encoding/json"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// maxBody bounds a POST of effects.
const maxBody = 16 << 20

// Handler serves /debug/flow/:
//
//	GET  status                                how full the record is
//	GET  trace?group=&kind=&namespace=&name=&since=RFC3339, or ?id=TRACEID   a flow.Story
//	GET  effects?kind=&namespace=&name=&what=  what components did for an object
//	GET  connections, peers                    the open watches; who asks, with open streams
//	POST effects                               a list of flow.Effect
//	     gates, hold, held                     see handleGates
//	GET  stream, entry                         see handleStream
//
// What the reader may not get is shown without values: see Access.
func Handler(record *flow.Record, access *Access) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/flow/status", func(w http.ResponseWriter, r *http.Request) { answer(w, record.Status()) })
	mux.HandleFunc("GET /debug/flow/connections", func(w http.ResponseWriter, r *http.Request) { answer(w, record.Open()) })
	mux.HandleFunc("GET /debug/flow/peers", func(w http.ResponseWriter, r *http.Request) { answer(w, record.Peers()) })
	mux.HandleFunc("GET /debug/flow/trace", func(w http.ResponseWriter, r *http.Request) { serveTrace(record, access, w, r) })
	mux.HandleFunc("GET /debug/flow/effects", func(w http.ResponseWriter, r *http.Request) { serveEffects(record, access, w, r) })
	mux.HandleFunc("POST /debug/flow/effects", func(w http.ResponseWriter, r *http.Request) { takeEffects(record, w, r) })
	handleGates(mux, record.Gates())
	handleStream(mux, record, access)
	return mux
}

func serveTrace(record *flow.Record, access *Access, w http.ResponseWriter, r *http.Request) {
	if target, ok := targetOf(w, r); ok {
		story := record.Trace(target)
		story.Hide(access.of(r))
		answer(w, story)
	}
}

func serveEffects(record *flow.Record, access *Access, w http.ResponseWriter, r *http.Request) {
	if target, ok := targetOf(w, r); ok {
		effects, may := record.EffectsOf(target, r.URL.Query().Get("what")), access.of(r)
		for i := range effects {
			if !may(effects[i].About()) {
				effects[i].Hide()
			}
		}
		answer(w, effects)
	}
}

// targetOf reads which object is asked about; when the query does not say, it answers so.
func targetOf(w http.ResponseWriter, r *http.Request) (target flow.Target, ok bool) {
	query := r.URL.Query()
	target = flow.Target{
		Kind:      schema.GroupKind{Group: query.Get("group"), Kind: query.Get("kind")},
		Namespace: query.Get("namespace"), Name: query.Get("name"), TraceID: query.Get("id"),
	}
	if target.TraceID == "" && (target.Kind.Kind == "" || target.Name == "") {
		http.Error(w, "kind and name are needed, or id", http.StatusBadRequest)
		return target, false
	}
	if since := query.Get("since"); since != "" {
		var err error
		if target.Since, err = time.Parse(time.RFC3339Nano, since); err != nil {
			http.Error(w, "since: "+err.Error(), http.StatusBadRequest)
			return target, false
		}
	}
	return target, true
}

// takeEffects records what a component did. Its name is taken from who it is, so that
// nobody can report in another's name.
func takeEffects(record *flow.Record, w http.ResponseWriter, r *http.Request) {
	var effects []flow.Effect
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&effects); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user := ""
	if u := request.UserFrom(r.Context()); u != nil {
		user = u.Name
	}
	for _, effect := range effects {
		effect.Component = flow.ComponentOf(user, effect.Component)
		record.Effect(effect)
	}
	w.WriteHeader(http.StatusNoContent)
}

func answer(w http.ResponseWriter, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}
