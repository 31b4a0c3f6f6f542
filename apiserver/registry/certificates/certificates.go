// Package certificates is the table of certificates.k8s.io/v1.
//
// In Kubernetes: pkg/registry/certificates.
package certificates

import (
	"context"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"hyperkube/api/certificates/certificatesigningrequest"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
	"hyperkube/apiserver/request"
)

// Resources is the table of certificates.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{signingRequests(env), clusterTrustBundles(), podCertificateRequests(env)}
}

func kind(name string) schema.GroupVersionKind {
	return certificatesv1.SchemeGroupVersion.WithKind(name)
}

type signingRequest = certificatesv1.CertificateSigningRequest

// anyName: nobody minds what a request is called, as long as it fits into a path.
func anyName(name string, prefix bool) []string { return nil }

func signingRequests(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "certificatesigningrequests", Singular: "certificatesigningrequest", Kind: kind("CertificateSigningRequest"),
		ShortNames: []string{"csr"}, ClusterScoped: true,
		New:     func() runtime.Object { return &signingRequest{} },
		NewList: func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },
		Strategy: requestStrategy{typed.Strategy[*signingRequest]{
			Name:        anyName,
			OnUpdate:    func(r, old *signingRequest) { r.Spec, r.Status = old.Spec, old.Status },
			Check:       certificatesigningrequest.Validate,
			CheckUpdate: certificatesigningrequest.ValidateUpdate,
		}},
		StatusStrategy: typed.Strategy[*signingRequest]{
			OnUpdate: func(r, old *signingRequest) {
				r.Spec = old.Spec
				keepDecision(r, old)
				stampConditions(r, old, env)
			},
			CheckUpdate: certificatesigningrequest.ValidateStatusUpdate,
		},
		Subresources: map[string]registry.Subresource{"approval": {
			Kind: kind("CertificateSigningRequest"), New: func() runtime.Object { return &signingRequest{} },
			View: typed.Strategy[*signingRequest]{
				OnUpdate: func(r, old *signingRequest) {
					r.Spec, r.Status.Certificate = old.Spec, old.Status.Certificate
					stampConditions(r, old, env)
				},
				CheckUpdate: certificatesigningrequest.ValidateApprovalUpdate,
			},
		}},
		Resets: map[string][]string{"": {"spec"}, "status": {"status.conditions"}, "approval": {"spec", "status.certificate"}},
		Fields: typed.Fields(func(r *signingRequest) fields.Set { return fields.Set{"spec.signerName": r.Spec.SignerName} }),
		Table:  requestTable,
	}
}

// requestStrategy writes into a new request who made it: the approver and the signer judge by it.
type requestStrategy struct {
	typed.Strategy[*signingRequest]
}

func (requestStrategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	r := obj.(*signingRequest)
	r.Status = certificatesv1.CertificateSigningRequestStatus{}
	r.Spec.Username, r.Spec.UID, r.Spec.Groups, r.Spec.Extra = "", "", nil, nil
	user := request.UserFrom(ctx)
	if user == nil {
		return
	}
	r.Spec.Username, r.Spec.UID, r.Spec.Groups = user.Name, user.UID, slices.Clone(user.Groups)
	for key, values := range user.Extra {
		if r.Spec.Extra == nil {
			r.Spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		r.Spec.Extra[key] = slices.Clone(values)
	}
}

// keepDecision: a signer may not approve what it signs; Approved and Denied are written at /approval only. One that is there
// stays as it is; one that comes or goes is left for validation to refuse.
func keepDecision(r, old *signingRequest) {
	for _, kind := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		now, before := conditionsOf(r, kind), conditionsOf(old, kind)
		if len(now) != len(before) {
			continue
		}
		for i := range now {
			*now[i] = *before[i]
		}
	}
}

func conditionsOf(r *signingRequest, kind certificatesv1.RequestConditionType) []*certificatesv1.CertificateSigningRequestCondition {
	var found []*certificatesv1.CertificateSigningRequestCondition
	for i := range r.Status.Conditions {
		if c := &r.Status.Conditions[i]; c.Type == kind {
			found = append(found, c)
		}
	}
	return found
}

// stampConditions gives new conditions their time where the writer did not.
func stampConditions(r, old *signingRequest, env *registry.Env) {
	now := metav1.NewTime(env.Clock.Now())
	for i := range r.Status.Conditions {
		c := &r.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, before := range old.Status.Conditions {
			if before.Type == c.Type && before.Status == c.Status && !before.LastTransitionTime.IsZero() {
				c.LastTransitionTime = before.LastTransitionTime
			}
		}
	}
}

var requestTable = typed.Table(func(r *signingRequest) []any {
	asked := "<none>"
	if seconds := r.Spec.ExpirationSeconds; seconds != nil {
		asked = duration.HumanDuration(time.Duration(*seconds) * time.Second)
	}
	return []any{r.Name, column.Since(r.CreationTimestamp), column.Or(r.Spec.SignerName, "<none>"), r.Spec.Username, asked, state(r)}
},
	column.Name(), column.Age(),
	column.Text("SignerName", certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["signerName"]),
	column.Text("Requestor", certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["request"]),
	column.Text("RequestedDuration", certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["expirationSeconds"]),
	column.Text("Condition", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
)

// state is "Pending", "Approved,Issued", "Denied" …
func state(r *signingRequest) string {
	words := []string{"Pending"}
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.CertificateDenied:
			words[0] = "Denied"
		case certificatesv1.CertificateApproved:
			if words[0] != "Denied" {
				words[0] = "Approved"
			}
		case certificatesv1.CertificateFailed:
			words = append(words, "Failed")
		}
	}
	if len(r.Status.Certificate) > 0 {
		words = append(words, "Issued")
	}
	return strings.Join(words, ",")
}
