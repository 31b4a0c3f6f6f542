package certificates

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/certificates/clustertrustbundle"
	"hyperkube/api/certificates/podcertificaterequest"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// What came with 1.37 for certificates of pods: whom to trust, and how to be trusted.

func clusterTrustBundles() registry.Resource {
	type object = certificatesv1.ClusterTrustBundle
	return registry.Resource{
		Name: "clustertrustbundles", Singular: "clustertrustbundle", Kind: kind("ClusterTrustBundle"), ClusterScoped: true,
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &certificatesv1.ClusterTrustBundleList{} },
		Strategy: typed.Strategy[*object]{
			Conditional: true,
			// Which names are good depends on the signer: Check knows.
			Name:        path.ValidatePathSegmentName,
			Check:       clustertrustbundle.Validate,
			CheckUpdate: clustertrustbundle.ValidateUpdate,
		},
		Fields: typed.Fields(func(b *object) fields.Set { return fields.Set{"spec.signerName": b.Spec.SignerName} }),
		Table: typed.Table(func(b *object) []any { return []any{b.Name, column.Or(b.Spec.SignerName, "<none>")} },
			column.Name(), column.Text("SignerName", certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()["signerName"])),
	}
}

func podCertificateRequests(env *registry.Env) registry.Resource {
	type object = certificatesv1.PodCertificateRequest
	return registry.Resource{
		Name: "podcertificaterequests", Singular: "podcertificaterequest", Kind: kind("PodCertificateRequest"),
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &certificatesv1.PodCertificateRequestList{} },
		Default: typed.Default(podcertificaterequest.SetDefaults),
		Strategy: typed.Strategy[*object]{
			Conditional: true,
			OnCreate:    func(r *object) { r.Status = certificatesv1.PodCertificateRequestStatus{} },
			OnUpdate:    func(r, old *object) { r.Status = old.Status },
			Check:       podcertificaterequest.Validate,
			CheckUpdate: podcertificaterequest.ValidateUpdate,
		},
		Resets: map[string][]string{"status": {"metadata"}},
		StatusStrategy: typed.Strategy[*object]{
			Conditional: true,
			OnUpdate: func(r, old *object) {
				r.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(r, old)
			},
			CheckUpdate: func(r, old *object) field.ErrorList {
				return podcertificaterequest.ValidateStatusUpdate(r, old, env.Clock.Now())
			},
		},
		Fields: typed.Fields(func(r *object) fields.Set {
			return fields.Set{"spec.signerName": r.Spec.SignerName, "spec.podName": r.Spec.PodName, "spec.nodeName": string(r.Spec.NodeName)}
		}),
		Table: typed.Table(func(r *object) []any {
			return []any{r.Name, r.Spec.PodName, r.Spec.ServiceAccountName, string(r.Spec.NodeName), r.Spec.SignerName, end(r), labels.FormatLabels(r.Spec.UnverifiedUserAnnotations)}
		},
			column.Name(),
			column.Text("PodName", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["podName"]),
			column.Text("ServiceAccountName", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["serviceAccountName"]),
			column.Text("NodeName", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["nodeName"]),
			column.Text("SignerName", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["signerName"]),
			column.Text("State", "Is the request Pending, Issued, Denied, or Failed?"),
			column.Text("UnverifiedUserAnnotations", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["unverifiedUserAnnotations"]),
		),
	}
}

// end is how a request ended. Validation lets only one of these conditions in, and only as true.
func end(r *certificatesv1.PodCertificateRequest) string {
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed:
			return c.Type
		}
	}
	return "Pending"
}
