package flowapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// defaultWait is how long a step waits for something to let through, maxWait how long it may be asked to.
const defaultWait, maxWait = 2 * time.Second, 10 * time.Minute

// handleGates serves, below /debug/flow/:
//
//	GET  gates                                       the closed gates, as flow.GateStatus
//	POST gates?component=&resource=|controller=      closes one
//	POST gates/one?component=…&wait=2s               lets one event, or key, through
//	POST gates/continue?component=…                  opens one; without a component, all
//
// and for the processes whose controllers are held at their queues (client.FollowGates):
//
//	GET  hold                                        a stream of flow.Wish, a line each
//	POST held                                        a flow.KeyReport
func handleGates(mux *http.ServeMux, gates *flow.Gates) {
	mux.HandleFunc("GET /debug/flow/gates", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"gates": gates.Status()})
	})
	mux.HandleFunc("POST /debug/flow/gates", func(w http.ResponseWriter, r *http.Request) {
		status, err := gates.Close(r.Context(), gateName(r))
		answerOr(w, status, err)
	})
	mux.HandleFunc("POST /debug/flow/gates/one", func(w http.ResponseWriter, r *http.Request) { passOne(gates, w, r) })
	mux.HandleFunc("POST /debug/flow/gates/continue", func(w http.ResponseWriter, r *http.Request) {
		opened, err := gates.Continue(gateName(r))
		answerOr(w, map[string]any{"opened": opened}, err)
	})
	mux.HandleFunc("GET /debug/flow/hold", func(w http.ResponseWriter, r *http.Request) { streamWishes(gates, w, r) })
	mux.HandleFunc("POST /debug/flow/held", func(w http.ResponseWriter, r *http.Request) { takeReport(gates, w, r) })
}

func gateName(r *http.Request) flow.GateName {
	query := r.URL.Query()
	return flow.GateName{Component: query.Get("component"), Resource: query.Get("resource"), Controller: query.Get("controller")}
}

func passOne(gates *flow.Gates, w http.ResponseWriter, r *http.Request) {
	wait := defaultWait
	if text := r.URL.Query().Get("wait"); text != "" {
		asked, err := time.ParseDuration(text)
		if err != nil || asked < 0 || asked > maxWait {
			http.Error(w, "wait="+text+": say a time of at most "+maxWait.String()+", as 2s", http.StatusBadRequest)
			return
		}
		wait = asked
	}
	passed, note, err := gates.One(r.Context(), gateName(r), wait)
	answerOr(w, map[string]any{"passed": passed, "note": note}, err)
}

// answerOr answers with value, or with one line that says why not.
func answerOr(w http.ResponseWriter, value any, err error) {
	var refused *flow.GateError
	var status apierrors.APIStatus
	switch {
	case err == nil:
		answer(w, value)
	case errors.As(err, &refused):
		http.Error(w, refused.Message, refused.Code)
	case errors.As(err, &status):
		http.Error(w, err.Error(), int(status.Status().Code))
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable) // etcd does not answer, or the client has gone
	}
}

// streamWishes tells a process which of its controllers to hold, until either ends. The
// process is called by who it is: nobody can hear of, or report for, another.
func streamWishes(gates *flow.Gates, w http.ResponseWriter, r *http.Request) {
	link := gates.Link(gateClient(r))
	defer link.Close()
	w.Header().Set("Content-Type", "application/json")
	flusher := http.NewResponseController(w)
	for {
		data, err := json.Marshal(link.Wish())
		if err != nil {
			return
		}
		if _, err := w.Write(append(data, '\n')); err != nil || flusher.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-link.Wake():
		}
	}
}

func takeReport(gates *flow.Gates, w http.ResponseWriter, r *http.Request) {
	var report flow.KeyReport
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&report); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !gates.Report(gateClient(r), report) {
		http.Error(w, "no such link: it has ended; connect anew", http.StatusGone)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func gateClient(r *http.Request) flow.Client {
	client := flow.Client{UserAgent: r.UserAgent()}
	if user := request.UserFrom(r.Context()); user != nil {
		client.User = user.Name
	}
	return client
}
