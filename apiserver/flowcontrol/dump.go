package flowcontrol

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	apischema "k8s.io/apimachinery/pkg/runtime/schema"
)

// DebugPath is where the dumps are, each a table of upstream's columns.
const DebugPath = "/debug/api_priority_and_fairness/"

// Debug answers the dumps: what waits and runs, by level, by queue, by request.
func (c *Controller) Debug(w http.ResponseWriter, r *http.Request) {
	var rows [][]string
	switch strings.TrimPrefix(r.URL.Path, DebugPath) {
	case "dump_priority_levels":
		rows = c.dump([]string{"PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
			"DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests"}, true, (*queueSet).dumpLevel)
	case "dump_queues":
		rows = c.dump([]string{"PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
			"InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum"}, true, (*queueSet).dumpQueues)
	case "dump_requests":
		columns := []string{"PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime",
			"InitialSeats", "FinalSeats", "AdditionalLatency"}
		details := r.URL.Query().Get("includeRequestDetails") != ""
		if details {
			columns = append(columns, "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
		}
		rows = c.dump(columns, false, func(s *queueSet, _ bool) [][]string { return s.dumpRequests(details) })
	default:
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	table := tabwriter.NewWriter(w, 8, 0, 1, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, ",\t"))
	}
	_ = table.Flush()
}

// dump makes a table of all levels; those without queues get a line that says so, where showExempt.
func (c *Controller) dump(columns []string, showExempt bool, of func(s *queueSet, quiescing bool) [][]string) [][]string {
	levels := c.settings().levels
	c.mu.Lock()
	defer c.mu.Unlock()
	rows := [][]string{columns}
	for _, name := range slices.Sorted(maps.Keys(c.sets)) {
		set := c.sets[name]
		if set.exempt {
			if showExempt {
				rows = append(rows, append([]string{name}, slices.Repeat([]string{"<none>"}, len(columns)-1)...))
			}
			continue
		}
		for _, row := range of(set, levels[name] == nil) {
			rows = append(rows, append([]string{name}, row...))
		}
	}
	return rows
}

func (s *queueSet) dumpLevel(quiescing bool) [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	active, waiting := 0, 0
	for _, q := range s.queues {
		waiting += len(q.waiting)
		if len(q.waiting) > 0 {
			active++
		}
	}
	return [][]string{{strconv.Itoa(active), strconv.FormatBool(waiting == 0 && s.executing == 0), strconv.FormatBool(quiescing), strconv.Itoa(waiting), strconv.Itoa(s.executing),
		strconv.Itoa(s.totals.dispatched), strconv.Itoa(s.totals.rejected), strconv.Itoa(s.totals.timedOut), strconv.Itoa(s.totals.cancelled)}}
}

func (s *queueSet) dumpQueues(bool) [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows [][]string
	for i, q := range s.queues {
		initial, most, total := 0, 0, time.Duration(0)
		for _, w := range q.waiting {
			initial += w.seats
			most += w.most()
			total += estimate*time.Duration(w.most()) + w.after*time.Duration(w.final)
		}
		rows = append(rows, []string{strconv.Itoa(i), strconv.Itoa(len(q.waiting)), strconv.Itoa(q.executing), strconv.Itoa(q.inUse),
			seatSeconds(q.served), strconv.Itoa(initial), strconv.Itoa(most), seatSeconds(total)})
	}
	return rows
}

func seatSeconds(d time.Duration) string { return fmt.Sprintf("%.8fss", d.Seconds()) }

func (s *queueSet) dumpRequests(details bool) [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows [][]string
	for iq, q := range s.queues {
		for ir, w := range q.waiting {
			row := []string{w.schema, strconv.Itoa(iq), strconv.Itoa(ir), w.distinguisher, w.arrived.UTC().Format(time.RFC3339Nano),
				strconv.Itoa(w.seats), strconv.Itoa(w.final), w.after.String()}
			if details {
				gv := apischema.GroupVersion{Group: w.info.APIGroup, Version: w.info.APIVersion}
				row = append(row, w.user.Name, w.info.Verb, w.info.Path, w.info.Namespace, w.info.Name, gv.String(), w.info.Resource, w.info.Subresource)
			}
			rows = append(rows, row)
		}
	}
	return rows
}
