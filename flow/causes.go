package flow

import (
	"fmt"
	"strconv"
	"strings"

	"hyperkube/reconcile"
)

// formatCauses is the value of Flow-Cause:
//
//	ADDED Deployment default/web@123, MODIFIED ReplicaSet default/web-5d@130; more=2
func formatCauses(c reconcile.Causes) string {
	var b strings.Builder
	for _, cause := range c.List {
		if cause.ResourceVersion == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(cause.String())
	}
	if c.More > 0 {
		fmt.Fprintf(&b, "; more=%d", c.More)
	}
	return b.String()
}

// parseCauses reads what formatCauses wrote. It leaves out what it does not
// understand: the header is anybody's.
func parseCauses(header string) reconcile.Causes {
	var causes reconcile.Causes
	list, more, _ := strings.Cut(header, "; more=")
	causes.More, _ = strconv.Atoi(more)
	for text := range strings.SplitSeq(list, ", ") {
		parts := strings.Split(text, " ")
		if len(parts) != 3 || len(causes.List) == 16 {
			continue
		}
		key, version, found := strings.Cut(parts[2], "@")
		if !found {
			continue
		}
		namespace, name, namespaced := strings.Cut(key, "/")
		if !namespaced {
			namespace, name = "", key
		}
		causes.List = append(causes.List, reconcile.Cause{Verb: parts[0], Kind: parts[1], Namespace: namespace, Name: name, ResourceVersion: version})
	}
	return causes
}

// Source is where in the code something was done, and by which loop on which key.
type Source struct {
	// File is relative to the module: "controllers/deployment/sync.go".
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Function string `json:"function,omitempty"`
	// Loop and Key name the reconcile run, where there was one.
	Loop string `json:"loop,omitempty"`
	Key  string `json:"key,omitempty"`
}

func (s Source) String() string {
	if s.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d %s", s.File, s.Line, s.Function)
}

// formatSource is the value of Flow-Source: FILE:LINE FUNCTION; loop=NAME; key=KEY
func formatSource(position string, run reconcile.Run) string {
	if run.Loop == "" {
		return position
	}
	return position + "; loop=" + run.Loop + "; key=" + run.Key
}

// parseSource reads what formatSource wrote.
func parseSource(header string) Source {
	var s Source
	parts := strings.Split(header, "; ")
	position, function, _ := strings.Cut(parts[0], " ")
	if file, line, found := strings.Cut(position, ":"); found {
		s.File, s.Function = file, function
		s.Line, _ = strconv.Atoi(line)
	}
	for _, part := range parts[1:] {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "loop":
			s.Loop = value
		case "key":
			s.Key = value
		}
	}
	return s
}
