package noderestriction

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func pod(node, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "uid-of-" + "pod"}, Spec: corev1.PodSpec{NodeName: node}}
	for _, c := range change {
		c(p)
	}
	return p
}

func mirror(p *corev1.Pod) {
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "node-uid", Controller: ptr.To(true)}}
}

func newNode(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "node-uid"}}
	for _, c := range change {
		c(n)
	}
	return n
}

func labelled(key string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels = map[string]string{key: "x"} }
}

// tokenOf mounts a token for the audience.
func tokenOf(audience string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience}}},
		}}})
	}
}

// rights is an authorizer that knows one right in the namespace ns: verb, resource and name.
type rights string

func (r rights) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	if a.Namespace == "ns" && a.ResourceRequest && a.Subresource == "" && string(r) == strings.Join([]string{a.Verb, a.Resource, a.Name}, " ") {
		return request.Allow, "", nil
	}
	return request.NoOpinion, "", nil
}

func token(ref *authenticationv1.BoundObjectReference) *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: ref}}
}

func slice(node string) *resourcev1.ResourceSlice {
	return &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{NodeName: &node}}
}

func signingRequest(t *testing.T, signer, name string) *certificatesv1.CertificateSigningRequest {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: signer, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
	}}
}

func withCertificate(p *corev1.Pod) {
	p.Spec.ServiceAccountName = "sa"
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/s"}}},
	}}}}
}

// certified asks for a certificate of the pod that has such a volume.
func certified(change ...func(*certificatesv1.PodCertificateRequestSpec)) *certificatesv1.PodCertificateRequest {
	r := &certificatesv1.PodCertificateRequest{Spec: certificatesv1.PodCertificateRequestSpec{
		SignerName: "example.com/s", PodName: "certified", PodUID: "uid-of-pod", ServiceAccountName: "sa", ServiceAccountUID: "sa-uid", NodeName: "n1", NodeUID: "node-uid",
	}}
	for _, c := range change {
		c(&r.Spec)
	}
	return r
}

// volume mounts a volume v from there.
func volume(from corev1.VolumeSource) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "v", VolumeSource: from})
	}
}

type write struct {
	op       request.Operation
	resource string // [group/]resource[:subresource]
	name     string
	obj, old runtime.Object
	want     string
}

func TestAdmit(t *testing.T) {
	p := New(Config{
		Pods: lister.Slice(schema.GroupResource{Resource: "pods"}, pod("n1", "mine", tokenOf("")), pod("n2", "other"),
			pod("n1", "certified", withCertificate), pod("n1", "mirror", mirror, withCertificate)),
		Nodes:           lister.Slice(schema.GroupResource{Resource: "nodes"}, newNode("n1")),
		ServiceAccounts: lister.Slice(schema.GroupResource{Resource: "serviceaccounts"}, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "sa-uid"}}),
		Authorizer: func() request.Authorizer {
			return rights("request-serviceaccounts-podcertificate-signer example.com:any sa")
		},
	})
	running := func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }
	for name, w := range map[string]write{
		"mirror pod":                    {request.Create, "pods", "", pod("n1", "m", mirror), nil, ""},
		"plain pod":                     {request.Create, "pods", "", pod("n1", "m"), nil, "can only create mirror pods"},
		"mirror pod of another node":    {request.Create, "pods", "", pod("n2", "m", mirror), nil, "spec.nodeName set to itself"},
		"mirror pod without owner":      {request.Create, "pods", "", pod("n1", "m", mirror, func(p *corev1.Pod) { p.OwnerReferences = nil }), nil, "with an owner reference set to itself"},
		"mirror pod of another life":    {request.Create, "pods", "", pod("n1", "m", mirror, func(p *corev1.Pod) { p.OwnerReferences[0].UID = "before" }), nil, "UID mismatch: expected before got node-uid"},
		"mirror pod, not controlled":    {request.Create, "pods", "", pod("n1", "m", mirror, func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil }), nil, "controller owner reference"},
		"mirror pod that blocks":        {request.Create, "pods", "", pod("n1", "m", mirror, func(p *corev1.Pod) { p.OwnerReferences[0].BlockOwnerDeletion = ptr.To(true) }), nil, "must not set blockOwnerDeletion"},
		"mirror pod with account":       {request.Create, "pods", "", pod("n1", "m", mirror, func(p *corev1.Pod) { p.Spec.ServiceAccountName = "x" }), nil, "reference serviceaccounts"},
		"mirror pod with secret":        {request.Create, "pods", "", pod("n1", "m", mirror, func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}} }), nil, "reference secrets"},
		"mirror pod with a claim":       {request.Create, "pods", "", pod("n1", "m", mirror, volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}})), nil, "reference persistentvolumeclaims"},
		"mirror pod with a new claim":   {request.Create, "pods", "", pod("n1", "m", mirror, volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}})), nil, "reference persistentvolumeclaims (via ephemeral volumes)"},
		"mirror pod with a driver":      {request.Create, "pods", "", pod("n1", "m", mirror, volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{}})), nil, "reference csidrivers (via CSI volumes)"},
		"mirror pod with endpoints":     {request.Create, "pods", "", pod("n1", "m", mirror, volume(corev1.VolumeSource{Glusterfs: &corev1.GlusterfsVolumeSource{}})), nil, "reference endpoints (via glusterFS volumes)"},
		"mirror pod with a token":       {request.Create, "pods", "", pod("n1", "m", mirror, tokenOf("")), nil, "reference serviceaccounts (via projected volumes)"},
		"mirror pod with a certificate": {request.Create, "pods", "", pod("n1", "m", mirror, withCertificate, func(p *corev1.Pod) { p.Spec.ServiceAccountName = "" }), nil, "reference podcertificates"},
		"mirror pod with who knows":     {request.Create, "pods", "", pod("n1", "m", mirror, volume(corev1.VolumeSource{})), nil, `error checking mirror pod for API references: unknown volume type for volume  "v"`},
		"mirror pod with what it is":    {request.Create, "pods", "", pod("n1", "m", mirror, volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{}})), nil, ""},
		"update a pod":                  {request.Update, "pods", "mine", pod("n1", "mine"), pod("n1", "mine"), "can only create and delete mirror pods"},
		"delete":                        {request.Delete, "pods", "mine", nil, nil, ""},
		"delete another's":              {request.Delete, "pods", "other", nil, nil, "can only delete pods with spec.nodeName set to itself"},
		"delete what is gone":           {request.Delete, "pods", "none", nil, nil, `pods "none" not found`},
		"status":                        {request.Update, "pods:status", "mine", pod("n1", "mine", running), pod("n1", "mine"), ""},
		"another's status":              {request.Update, "pods:status", "other", pod("n2", "other", running), pod("n2", "other"), "can only update pod status for pods with spec.nodeName set to itself"},
		"labels through status":         {request.Update, "pods:status", "mine", pod("n1", "mine", func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }), pod("n1", "mine"), "cannot update labels through pod status"},
		"evict":                         {request.Create, "pods:eviction", "mine", &policyv1.Eviction{}, nil, ""},
		"evict another's":               {request.Create, "pods:eviction", "other", &policyv1.Eviction{}, nil, "can only evict pods with spec.nodeName set to itself"},
		"bind":                          {request.Create, "pods:binding", "mine", &corev1.Binding{}, nil, "only 'status' and 'eviction' are allowed"},
		"register":                      {request.Create, "nodes", "", newNode("n1", labelled("kubernetes.io/hostname")), nil, ""},
		"register another":              {request.Create, "nodes", "", newNode("n2"), nil, `node "n1" is not allowed to modify node "n2"`},
		"register as control plane":     {request.Create, "nodes", "", newNode("n1", labelled("node-role.kubernetes.io/control-plane")), nil, "not allowed to set the following labels: node-role.kubernetes.io/control-plane"},
		"register with a restricted":    {request.Create, "nodes", "", newNode("n1", labelled("team.node-restriction.kubernetes.io/x")), nil, "node-restriction.kubernetes.io"},
		"a label of its own":            {request.Update, "nodes", "n1", newNode("n1", labelled("example.com/gpu")), newNode("n1"), ""},
		"taking a restricted label off": {request.Update, "nodes", "n1", newNode("n1"), newNode("n1", labelled("node-restriction.kubernetes.io/x")), "is not allowed to modify labels"},
		"own taints":                    {request.Update, "nodes", "n1", newNode("n1"), newNode("n1", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "a"}} }), "is not allowed to modify taints"},
		"another's status of node":      {request.Update, "nodes:status", "n2", newNode("n2"), newNode("n2"), "is not allowed to modify node"},
		"lease":                         {request.Create, "coordination.k8s.io/leases", "", &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, nil, ""},
		"another's lease":               {request.Create, "coordination.k8s.io/leases", "", &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, nil, "same name as the requesting node"},
		"token":                         {request.Create, "serviceaccounts:token", "sa", token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine", UID: "uid-of-pod"}), nil, ""},
		"token of another's pod":        {request.Create, "serviceaccounts:token", "sa", token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "other", UID: "uid-of-pod"}), nil, "bound to a pod scheduled on a different node"},
		"token of a former pod":         {request.Create, "serviceaccounts:token", "sa", token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine", UID: "before"}), nil, "does not match the UID in record"},
		"token without uid":             {request.Create, "serviceaccounts:token", "sa", token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine"}), nil, "pod binding without a uid"},
		"unbound token":                 {request.Create, "serviceaccounts:token", "sa", token(nil), nil, "not bound to a pod"},
		"claim":                         {request.Update, "persistentvolumeclaims", "c", &corev1.PersistentVolumeClaim{}, &corev1.PersistentVolumeClaim{}, "may only update PVC status"},
		"slice":                         {request.Create, "resource.k8s.io/resourceslices", "", slice("n1"), nil, ""},
		"another's slice":               {request.Create, "resource.k8s.io/resourceslices", "", slice("n2"), nil, "can only create ResourceSlice with the same NodeName as the requesting node"},
		"delete a slice":                {request.Delete, "resource.k8s.io/resourceslices", "s", nil, slice("n1"), ""},
		"delete another's slice":        {request.Delete, "resource.k8s.io/resourceslices", "s", nil, slice("n2"), "can only delete ResourceSlice with the same NodeName as the requesting node"},
		"own certificate":               {request.Create, "certificates.k8s.io/certificatesigningrequests", "", signingRequest(t, certificatesv1.KubeletServingSignerName, "system:node:n1"), nil, ""},
		"another's certificate":         {request.Create, "certificates.k8s.io/certificatesigningrequests", "", signingRequest(t, certificatesv1.KubeletServingSignerName, "system:node:n2"), nil, "can only create a node CSR with CN=system:node:n1"},
		"another signer":                {request.Create, "certificates.k8s.io/certificatesigningrequests", "", signingRequest(t, "example.com/a", "jane"), nil, ""},
		"no request":                    {request.Create, "certificates.k8s.io/certificatesigningrequests", "", &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: certificatesv1.KubeletServingSignerName}}, nil, "unable to parse csr"},
		"a pod's certificate":           {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(), nil, ""},
		"of another node":               {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeName = "n2" }), nil, `PodCertificateRequest.Spec.NodeName="n2", which is not the requesting node "n1"`},
		"of a node's former life":       {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeUID = "before" }), nil, `PodCertificateRequest for pod "ns/certified" names node UID "before", inconsistent with the running node ("node-uid")`},
		"of another's pod":              {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "other" }), nil, `pod "ns/other" is not running on node "n1" named in the PodCertificateRequest`},
		"of no pod":                     {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "none" }), nil, `while retrieving pod "ns/none" named in the PodCertificateRequest: pod "none" not found`},
		"of a pod's former life":        {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.PodUID = "before" }), nil, `PodCertificateRequest for pod "ns/certified" contains pod UID ("before") which differs from running pod "uid-of-pod"`},
		"of another account":            {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountName = "admin" }), nil, `PodCertificateRequest for pod "ns/certified" contains serviceAccountName ("admin") that differs from running pod ("sa")`},
		"of an account's former life":   {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountUID = "before" }), nil, `PodCertificateRequest for pod "ns/certified" names service account UID "before", which differs from the running service account ("sa-uid")`},
		"of a signer it does not name":  {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.SignerName = "example.com/t" }), nil, "does not mount a podCertificate projected volume for signer"},
		"of a signer RBAC lets it ask":  {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.SignerName = "example.com/any" }), nil, ""},
		"of a mirror pod":               {request.Create, "certificates.k8s.io/podcertificaterequests", "", certified(func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "mirror" }), nil, `pod "ns/mirror" is a mirror pod`},
		"other kinds":                   {request.Create, "events", "", &corev1.Event{}, nil, ""},
	} {
		err := p.Admit(t.Context(), attributes(w, &request.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}))
		if w.want == "" && err != nil || w.want != "" && (err == nil || !strings.Contains(err.Error(), w.want)) {
			t.Errorf("%s: %v, want %q", name, err, w.want)
		}
	}
	w := write{op: request.Create, resource: "pods", obj: pod("n1", "m")}
	if err := p.Admit(t.Context(), attributes(w, &request.User{Name: "jane"})); err != nil {
		t.Errorf("jane is taken for a node: %v", err)
	}
	if err := p.Admit(t.Context(), attributes(w, &request.User{Name: "system:node:", Groups: []string{"system:nodes"}})); err == nil {
		t.Error("a node without a name may write")
	}
}

func attributes(w write, user *request.User) *request.AdmissionAttributes {
	resource, subresource, _ := strings.Cut(w.resource, ":")
	group := ""
	if g, r, ok := strings.Cut(resource, "/"); ok {
		group, resource = g, r
	}
	a := &request.AdmissionAttributes{
		User: user, Operation: w.op, Resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource},
		Subresource: subresource, Namespace: "ns", Name: w.name, Object: w.obj, OldObject: w.old,
	}
	switch resource {
	case "nodes":
		a.Namespace = ""
	case "leases":
		a.Namespace = corev1.NamespaceNodeLease
	}
	return a
}
