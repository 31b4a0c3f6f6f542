package framework

import (
	"errors"
	"strings"
)

// Code is the kind of answer a plugin gives.
type Code int

const (
	// Success: the plugin has no objection. A nil *Status means the same.
	Success Code = iota
	// Error: the plugin itself failed; the pod is retried after a backoff.
	Error
	// Unschedulable: the node (or in PreFilter: every node) cannot take the pod
	// now; evicting other pods may help.
	Unschedulable
	// UnschedulableAndUnresolvable: as Unschedulable, but evicting pods would not help.
	UnschedulableAndUnresolvable
	// Wait: a Permit plugin holds the pod back until it is allowed or rejected.
	Wait
	// Skip: in PreFilter and PreScore, the plugin has nothing to say about this pod
	// and its Filter or Score need not be called; in Bind, another plugin shall bind.
	Skip
	// Pending: a PreEnqueue or Permit plugin waits for something outside; when that
	// happens the pod is retried at once, without backoff.
	Pending
)

// String returns the name used in metrics and explanations.
func (c Code) String() string {
	names := [...]string{"Success", "Error", "Unschedulable", "UnschedulableAndUnresolvable", "Wait", "Skip", "Pending"}
	if c < 0 || int(c) >= len(names) {
		return "Unknown"
	}
	return names[c]
}

// Status is a plugin's answer. The methods accept a nil Status, which is Success.
type Status struct {
	code    Code
	reasons []string
	err     error
	// plugin is the one that answered; framework/runtime fills it in.
	plugin string
}

// NewStatus makes a Status with human-readable reasons. Reasons of a Filter are
// counted over all nodes, so they must not name the node.
func NewStatus(code Code, reasons ...string) *Status {
	return &Status{code: code, reasons: reasons}
}

// AsStatus wraps an error; nil gives nil (Success).
func AsStatus(err error) *Status {
	if err == nil {
		return nil
	}
	return &Status{code: Error, reasons: []string{err.Error()}, err: err}
}

// WithError attaches the error that AsError returns.
func (s *Status) WithError(err error) *Status {
	s.err = err
	return s
}

// WithPlugin names the plugin that answered.
func (s *Status) WithPlugin(plugin string) *Status {
	s.plugin = plugin
	return s
}

// Code returns the kind of answer.
func (s *Status) Code() Code {
	if s == nil {
		return Success
	}
	return s.code
}

// Reasons returns the texts given to NewStatus, or the text of the error.
func (s *Status) Reasons() []string {
	if s == nil {
		return nil
	}
	if len(s.reasons) == 0 && s.err != nil {
		return []string{s.err.Error()}
	}
	return s.reasons
}

// Message joins the reasons.
func (s *Status) Message() string { return strings.Join(s.Reasons(), ", ") }

// Plugin returns the name of the plugin that answered, or "".
func (s *Status) Plugin() string {
	if s == nil {
		return ""
	}
	return s.plugin
}

// IsSuccess tells whether there is no objection.
func (s *Status) IsSuccess() bool { return s.Code() == Success }

// IsWait tells whether a Permit plugin wants to wait.
func (s *Status) IsWait() bool { return s.Code() == Wait }

// IsSkip tells whether the plugin has nothing to say.
func (s *Status) IsSkip() bool { return s.Code() == Skip }

// IsRejected tells whether the pod was refused, as opposed to a failure of the
// plugin: refused pods wait for an event, failed ones for a backoff.
func (s *Status) IsRejected() bool {
	code := s.Code()
	return code == Unschedulable || code == UnschedulableAndUnresolvable || code == Pending
}

// AsError returns nil for Success, Wait and Skip, else an error with the reasons.
func (s *Status) AsError() error {
	if s.IsSuccess() || s.IsWait() || s.IsSkip() {
		return nil
	}
	if s.err != nil {
		return s.err
	}
	return errors.New(s.Message())
}
