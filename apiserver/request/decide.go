package request

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Authenticator says who sent a request. ok=false without an error means that
// it found no credentials it knows (the next one is asked; at last the request is
// anonymous); an error means that there were some and they are wrong (401).
type Authenticator interface {
	AuthenticateRequest(r *http.Request) (user *User, ok bool, err error)
}

// Decision is an authorizer's answer.
type Decision int

const (
	// NoOpinion lets the next authorizer decide; when all have none, the request is refused.
	NoOpinion Decision = iota
	Allow
	Deny
)

// Attributes are what an authorizer decides upon.
type Attributes struct {
	User        *User
	Verb        string
	Namespace   string
	APIGroup    string
	APIVersion  string
	Resource    string
	Subresource string
	Name        string
	// ResourceRequest is false for paths such as /healthz; then only User, Verb and Path count.
	ResourceRequest bool
	Path            string
	// The selectors of a list, watch or deletecollection; nil when none or not parseable.
	FieldSelector fields.Selector
	LabelSelector labels.Selector
}

// Authorizer says whether a request may be done. reason is shown to the user
// when it is refused. An error stands beside a decision: a rule could not be read.
type Authorizer interface {
	Authorize(ctx context.Context, a Attributes) (decision Decision, reason string, err error)
}

// Operation is what a write does to its object, as admission sees it.
type Operation string

const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// AdmissionAttributes describe one write to admission.
type AdmissionAttributes struct {
	User        *User
	Operation   Operation
	Kind        schema.GroupVersionKind
	Resource    schema.GroupVersionResource
	Subresource string
	Namespace   string
	// Name is empty in a create with generateName.
	Name string
	// Object is the object to be stored; Admit may change it, Validate may not. nil in a
	// DELETE; the options (PodExecOptions …) in a CONNECT.
	Object runtime.Object
	// OldObject is the present one in UPDATE and DELETE. It is shared: read only.
	OldObject runtime.Object
	// Options are the *metav1.CreateOptions, UpdateOptions, PatchOptions or DeleteOptions of the request.
	Options runtime.Object
	DryRun  bool
	// Spent is what plugins have already spent on this write, each under its name, when a conflict makes it ask them again; nil
	// where nothing is asked twice.
	Spent map[string]any
}

// Admission changes (Admit) and then judges (Validate) the object of a write. An error
// refuses the write; an errors.APIStatus is answered as it is, any other as
// Forbidden. Warnings go through AddWarning.
type Admission interface {
	Admit(ctx context.Context, a *AdmissionAttributes) error
	Validate(ctx context.Context, a *AdmissionAttributes) error
}
