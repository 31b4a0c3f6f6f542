package node

import (
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func local(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

// podOn refers to the secret s-NAME, the config map c-NAME, the claim p-NAME and the account a-NAME.
func podOn(node, name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{
		NodeName: node, ServiceAccountName: "a-" + name,
		ResourceClaims: []corev1.PodResourceClaim{{Name: "d", ResourceClaimName: ptr.To("d-" + name)}, {Name: "t", ResourceClaimTemplateName: ptr.To("t")}},
		Containers:     []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("c-" + name)}}}}},
		Volumes: []corev1.Volume{
			{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s-" + name}}},
			{Name: "p", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "p-" + name}}},
			{Name: "e", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
		},
	}, Status: corev1.PodStatus{
		ResourceClaimStatuses:       []corev1.PodResourceClaimStatus{{Name: "t", ResourceClaimName: ptr.To("made-" + name)}},
		ExtendedResourceClaimStatus: &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "extended-" + name},
	}}
}

func slice(name, node string) *resourcev1.ResourceSlice {
	return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceSliceSpec{NodeName: &node}}
}

func newAuthorizer() *Authorizer {
	mirror := podOn("n1", "mirror")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v-one"}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef:               &corev1.ObjectReference{Namespace: "ns", Name: "p-one"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{NodeStageSecretRef: &corev1.SecretReference{Namespace: "storage", Name: "key"}}},
	}}
	gr := func(s string) schema.GroupResource { return schema.GroupResource{Resource: s} }
	return New(Listers{
		Pods:              lister.Slice(gr("pods"), podOn("n1", "one"), podOn("n2", "two"), podOn("", "unbound"), mirror),
		PersistentVolumes: lister.Slice(gr("persistentvolumes"), volume),
		PodCertificateRequests: lister.Slice(gr("podcertificaterequests"),
			&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pcr-one"}, Spec: certificatesv1.PodCertificateRequestSpec{NodeName: "n1"}},
			&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pcr-two"}, Spec: certificatesv1.PodCertificateRequestSpec{NodeName: "n2"}}),
		ResourceSlices: lister.Slice(gr("resourceslices"), slice("slice-one", "n1"), slice("slice-two", "n2"),
			&resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "slice-all"}}),
		VolumeAttachments: lister.Slice(gr("volumeattachments"), &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "at"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "n1"}}),
	}, []rbacv1.PolicyRule{{Verbs: []string{"list"}, APIGroups: []string{""}, Resources: []string{"services"}}})
}

func TestAuthorize(t *testing.T) {
	z := newAuthorizer()
	const unrelated = "no relationship found between node 'n1' and this object"
	type q struct{ verb, group, resource, sub, namespace, name, selector string }
	for _, test := range []struct {
		q      q
		allow  bool
		reason string
	}{
		{q{verb: "get", resource: "secrets", namespace: "ns", name: "s-one"}, true, ""},
		{q{verb: "watch", resource: "secrets", namespace: "ns", name: "s-one"}, true, ""},
		{q{verb: "get", resource: "secrets", namespace: "ns", name: "s-two"}, false, unrelated},
		{q{verb: "get", resource: "secrets", namespace: "other", name: "s-one"}, false, unrelated},
		{q{verb: "get", resource: "secrets", namespace: "ns", name: "s-unbound"}, false, unrelated},
		{q{verb: "get", resource: "secrets", namespace: "ns", name: "s-mirror"}, false, unrelated},
		{q{verb: "list", resource: "secrets", namespace: "ns"}, false, "No Object name found"},
		{q{verb: "list", resource: "secrets"}, false, "can only read namespaced object of this type"},
		{q{verb: "update", resource: "secrets", namespace: "ns", name: "s-one"}, false, "can only read resources of this type"},
		{q{verb: "get", resource: "secrets", namespace: "storage", name: "key"}, true, ""},
		{q{verb: "get", resource: "configmaps", namespace: "ns", name: "c-one"}, true, ""},
		{q{verb: "get", resource: "configmaps", namespace: "ns", name: "c-two"}, false, unrelated},
		{q{verb: "get", resource: "persistentvolumeclaims", namespace: "ns", name: "p-one"}, true, ""},
		{q{verb: "get", resource: "persistentvolumeclaims", namespace: "ns", name: "one-e"}, true, ""},
		{q{verb: "patch", resource: "persistentvolumeclaims", sub: "status", namespace: "ns", name: "p-one"}, true, ""},
		{q{verb: "delete", resource: "persistentvolumeclaims", namespace: "ns", name: "p-one"}, false, "can only get individual resources of this type"},
		{q{verb: "get", resource: "persistentvolumes", name: "v-one"}, true, ""},
		{q{verb: "get", group: "storage.k8s.io", resource: "volumeattachments", name: "at"}, true, ""},
		{q{verb: "create", resource: "serviceaccounts", sub: "token", namespace: "ns", name: "a-one"}, true, ""},
		{q{verb: "create", resource: "serviceaccounts", sub: "token", namespace: "ns", name: "a-two"}, false, unrelated},
		{q{verb: "create", resource: "serviceaccounts", namespace: "ns", name: "a-one"}, false, "can only create token subresource of serviceaccount"},
		{q{verb: "get", resource: "serviceaccounts", namespace: "ns", name: "a-one"}, true, ""},
		{q{verb: "get", resource: "serviceaccounts", namespace: "ns", name: "a-two"}, false, unrelated},
		{q{verb: "create", group: "certificates.k8s.io", resource: "podcertificaterequests", namespace: "ns"}, true, ""},
		{q{verb: "get", group: "certificates.k8s.io", resource: "podcertificaterequests", namespace: "ns", name: "pcr-one"}, true, ""},
		{q{verb: "get", group: "certificates.k8s.io", resource: "podcertificaterequests", namespace: "ns", name: "pcr-two"}, false, unrelated},
		{q{verb: "watch", group: "certificates.k8s.io", resource: "podcertificaterequests", selector: "spec.nodeName=n1"}, true, ""},
		{q{verb: "list", group: "certificates.k8s.io", resource: "podcertificaterequests", selector: "spec.nodeName=n2"}, false, "can only list/watch podcertificaterequests with nodeName field selector"},
		{q{verb: "delete", group: "certificates.k8s.io", resource: "podcertificaterequests", namespace: "ns", name: "pcr-one"}, false, "nodes may not delete podcertificaterequests"},
		{q{verb: "update", group: "certificates.k8s.io", resource: "podcertificaterequests", sub: "status", namespace: "ns", name: "pcr-one"}, false, "nodes may not access the status subresource of podcertificaterequests"},
		{q{verb: "update", group: "coordination.k8s.io", resource: "leases", namespace: "kube-node-lease", name: "n1"}, true, ""},
		{q{verb: "create", group: "coordination.k8s.io", resource: "leases", namespace: "kube-node-lease"}, true, ""},
		{q{verb: "update", group: "coordination.k8s.io", resource: "leases", namespace: "kube-node-lease", name: "n2"}, false, "can only access node lease with the same name as the requesting node"},
		{q{verb: "get", group: "coordination.k8s.io", resource: "leases", namespace: "kube-system", name: "n1"}, false, `can only access leases in the "kube-node-lease" system namespace`},
		{q{verb: "list", group: "coordination.k8s.io", resource: "leases", namespace: "kube-node-lease"}, false, "can only get, create, update, patch, or delete a node lease"},
		{q{verb: "get", group: "storage.k8s.io", resource: "csinodes", name: "n1"}, true, ""},
		{q{verb: "get", group: "storage.k8s.io", resource: "csinodes", name: "n2"}, false, "can only access CSINode with the same name as the requesting node"},
		{q{verb: "get", group: "resource.k8s.io", resource: "resourceclaims", namespace: "ns", name: "d-one"}, true, ""},
		{q{verb: "get", group: "resource.k8s.io", resource: "resourceclaims", namespace: "ns", name: "made-one"}, true, ""},
		{q{verb: "get", group: "resource.k8s.io", resource: "resourceclaims", namespace: "ns", name: "extended-one"}, true, ""},
		{q{verb: "get", group: "resource.k8s.io", resource: "resourceclaims", namespace: "ns", name: "d-two"}, false, unrelated},
		{q{verb: "list", group: "resource.k8s.io", resource: "resourceclaims", namespace: "ns"}, false, "can only get individual resources of this type"},
		{q{verb: "create", group: "resource.k8s.io", resource: "resourceslices"}, true, ""},
		{q{verb: "patch", group: "resource.k8s.io", resource: "resourceslices", name: "slice-one"}, true, ""},
		{q{verb: "get", group: "resource.k8s.io", resource: "resourceslices", name: "slice-two"}, false, unrelated},
		{q{verb: "delete", group: "resource.k8s.io", resource: "resourceslices", name: "slice-all"}, false, unrelated},
		{q{verb: "deletecollection", group: "resource.k8s.io", resource: "resourceslices", selector: "spec.nodeName=n1"}, true, ""},
		{q{verb: "list", group: "resource.k8s.io", resource: "resourceslices"}, false, "can only list/watch/deletecollection resourceslices with nodeName field selector"},
		{q{verb: "create", resource: "nodes"}, true, ""},
		{q{verb: "patch", resource: "nodes", sub: "status", name: "n1"}, true, ""},
		{q{verb: "watch", resource: "nodes", name: "n1"}, true, ""},
		{q{verb: "list", resource: "nodes"}, false, "node 'n1' cannot read all nodes, only its own Node object"},
		{q{verb: "get", resource: "nodes", name: "n2"}, false, "node 'n1' cannot read 'n2', only its own Node object"},
		{q{verb: "delete", resource: "nodes", name: "n1"}, false, ""},
		{q{verb: "watch", resource: "pods", selector: "spec.nodeName=n1"}, true, ""},
		{q{verb: "list", resource: "pods", selector: "spec.nodeName=n2"}, false, "can only list/watch pods with spec.nodeName field selector"},
		{q{verb: "list", resource: "pods", selector: "spec.nodeName!=n1"}, false, "can only list/watch pods with spec.nodeName field selector"},
		{q{verb: "list", resource: "pods"}, false, "can only list/watch pods with spec.nodeName field selector"},
		{q{verb: "get", resource: "pods", namespace: "ns", name: "one"}, true, ""},
		{q{verb: "get", resource: "pods", namespace: "ns", name: "two"}, false, unrelated},
		{q{verb: "update", resource: "pods", sub: "status", namespace: "ns", name: "one"}, true, ""},
		{q{verb: "create", resource: "pods", sub: "eviction", namespace: "ns", name: "one"}, true, ""},
		{q{verb: "create", resource: "pods", sub: "exec", namespace: "ns", name: "one"}, false, ""},
		{q{verb: "list", resource: "services"}, true, ""},
		{q{verb: "list", resource: "deployments", group: "apps"}, false, ""},
	} {
		a := request.Attributes{
			User: &request.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}, ResourceRequest: true, Verb: test.q.verb, APIGroup: test.q.group,
			Resource: test.q.resource, Subresource: test.q.sub, Namespace: test.q.namespace, Name: test.q.name,
		}
		if test.q.selector != "" {
			a.FieldSelector = fields.ParseSelectorOrDie(test.q.selector)
		}
		decision, reason, err := z.Authorize(t.Context(), a)
		if (decision == request.Allow) != test.allow || (decision == request.Allow) != strings.HasPrefix(reason, "node authorizer: ") || !test.allow && reason != test.reason || err != nil {
			t.Errorf("%+v: %v %q %v", test.q, decision, reason, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	for _, test := range []struct {
		user   request.User
		name   string
		isNode bool
	}{
		{request.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}, "n1", true},
		{request.User{Name: "system:node:", Groups: []string{"system:nodes"}}, "", true},
		{request.User{Name: "system:node:n1"}, "", false},
		{request.User{Name: "jane", Groups: []string{"system:nodes"}}, "", false},
	} {
		if name, isNode := Identity(&test.user); name != test.name || isNode != test.isNode {
			t.Errorf("%+v: %q %v", test.user, name, isNode)
		}
	}
}
