package flowapi

import (
	"encoding/json"
	"net/http"

	"hyperkube/flow"
)

// handleStream serves what the live page reads.
func handleStream(mux *http.ServeMux, record *flow.Record, access *Access) {
	mux.HandleFunc("GET /debug/flow/stream", func(w http.ResponseWriter, r *http.Request) { stream(record, access, w, r) })
	mux.HandleFunc("GET /debug/flow/entry", func(w http.ResponseWriter, r *http.Request) {
		detail, found := record.Entry(r.URL.Query().Get("id"))
		if !found {
			http.Error(w, "this entry is not recorded any more", http.StatusNotFound)
			return
		}
		detail.Hide(access.of(r))
		answer(w, detail)
	})
}

// stream sends arrows, one a line, until the client goes. since=NEXT goes on where an earlier
// stream was; since=now leaves out what is recorded already.
func stream(record *flow.Record, access *Access, w http.ResponseWriter, r *http.Request) {
	since := r.URL.Query().Get("since")
	place := record.Now()
	if since != "now" {
		var err error
		if place, err = flow.ParsePlace(since); err != nil {
			http.Error(w, "since="+err.Error(), http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	if out.Flush() != nil {
		return
	}
	encoder := json.NewEncoder(w)
	// What ends it is the client or the server: neither has to be told.
	_ = record.Follow(r.Context(), place, func(arrows []flow.Arrow) error {
		may := access.of(r) // rights may have changed since the last arrows
		for i := range arrows {
			if arrows[i].Kind == flow.ArrowEffect && !may(arrows[i].About()) {
				arrows[i].Hide()
			}
			if err := encoder.Encode(&arrows[i]); err != nil {
				return err
			}
		}
		return out.Flush()
	})
}
