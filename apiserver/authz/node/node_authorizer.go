// Package node authorizes kubelets: each may read what the pods bound to its node need, and nothing
// of other nodes.
//
//	Secret, ConfigMap, PersistentVolumeClaim, ResourceClaim, ServiceAccount token
//	   ▲ refers to
//	  Pod ── spec.nodeName ──► Node            a path from the object to the node allows
//
// The paths are looked up when asked for: the pods of the object's namespace are in the watch
// cache, and a kubelet asks once for each object that a pod of its own brings. There is
// nothing to keep up to date. What the request's object may contain is not
// seen here: that is NodeRestriction's part (package admission).
//
// In Kubernetes: plugin/pkg/auth/authorizer/node, which keeps a graph of vertices and edges
// up to date from informers, since it has no store beside it.
package node

import (
	"context"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// Listers are what the paths are found in. All but Pods may be nil: then no such object leads to a node.
type Listers struct {
	Pods                   lister.Lister[*corev1.Pod]
	PersistentVolumeClaims lister.Lister[*corev1.PersistentVolumeClaim]
	PersistentVolumes      lister.Lister[*corev1.PersistentVolume]
	VolumeAttachments      lister.Lister[*storagev1.VolumeAttachment]
	PodCertificateRequests lister.Lister[*certificatesv1.PodCertificateRequest]
	ResourceSlices         lister.Lister[*resourcev1.ResourceSlice]
}

// Authorizer allows kubelets; of all others it has no opinion.
type Authorizer struct {
	listers Listers
	rules   []rbacv1.PolicyRule // of all nodes alike
}

// New makes an Authorizer; rules are what every kubelet may do besides.
func New(l Listers, rules []rbacv1.PolicyRule) *Authorizer { return &Authorizer{l, rules} }

// Identity returns the node that u is the kubelet of. isNode with an empty name: a member of
// system:nodes that names no node.
func Identity(u *request.User) (nodeName string, isNode bool) {
	if !u.InGroup(request.NodesGroup) {
		return "", false
	}
	if !strings.HasPrefix(u.Name, request.NodeUserPrefix) {
		return "", false
	}
	return strings.TrimPrefix(u.Name, request.NodeUserPrefix), true
}

// no is the answer of every rule that does not match: RBAC may still allow.
func no(format string, args ...any) (request.Decision, string, error) {
	return request.NoOpinion, fmt.Sprintf(format, args...), nil
}

// yes names the rule by which it is allowed.
func yes(rule string) (request.Decision, string, error) {
	return request.Allow, rule, nil
}

// Authorize implements request.Authorizer.
func (z *Authorizer) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	nodeName, isNode := Identity(a.User)
	if !isNode {
		return request.NoOpinion, "", nil
	}
	if nodeName == "" {
		return no("unknown node for user %q", a.User.Name)
	}
	if a.ResourceRequest {
		switch (schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}) {
		case schema.GroupResource{Resource: "secrets"}, schema.GroupResource{Resource: "configmaps"}:
			return z.authorizeReadNamespacedObject(nodeName, a)
		case schema.GroupResource{Resource: "persistentvolumeclaims"}:
			return z.authorizeClaim(nodeName, a)
		case schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceslices"}:
			return z.authorizeResourceSlice(nodeName, a)
		case schema.GroupResource{Resource: "persistentvolumes"}, schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"}, schema.GroupResource{Group: "storage.k8s.io", Resource: "volumeattachments"}:
			return z.authorizeGet(nodeName, a)
		case schema.GroupResource{Resource: "serviceaccounts"}:
			return z.authorizeServiceAccount(nodeName, a)
		case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
			return authorizeLease(nodeName, a)
		case schema.GroupResource{Group: "storage.k8s.io", Resource: "csinodes"}:
			return authorizeCSINode(nodeName, a)
		case schema.GroupResource{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}:
			return z.authorizePodCertificateRequest(nodeName, a)
		case schema.GroupResource{Resource: "nodes"}:
			return authorizeNode(nodeName, a)
		case schema.GroupResource{Resource: "pods"}:
			return z.authorizePod(nodeName, a)
		}
	}
	if rbac.RulesAllow(a, z.rules...) {
		return yes("node authorizer: what every kubelet may do (ClusterRole system:node)")
	}
	return request.NoOpinion, "", nil
}

// authorizeReadNamespacedObject: get, list and watch of one object that a pod of the node refers to.
func (z *Authorizer) authorizeReadNamespacedObject(nodeName string, a request.Attributes) (request.Decision, string, error) {
	switch a.Verb {
	case "get", "list", "watch":
	default:
		return no("can only read resources of this type")
	}
	if a.Subresource != "" {
		return no("cannot read subresource")
	}
	if a.Namespace == "" {
		return no("can only read namespaced object of this type")
	}
	return z.authorizeRelated(nodeName, a)
}

func (z *Authorizer) authorizeClaim(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if a.Subresource != "status" {
		return z.authorizeGet(nodeName, a)
	}
	if a.Verb != "update" && a.Verb != "patch" {
		return no("can only get/update/patch this type")
	}
	return z.authorizeRelated(nodeName, a)
}

func (z *Authorizer) authorizeGet(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if a.Verb != "get" {
		return no("can only get individual resources of this type")
	}
	if a.Subresource != "" {
		return no("cannot get subresource")
	}
	return z.authorizeRelated(nodeName, a)
}

// authorizeServiceAccount: whoever asks for a pod's certificate names its account's UID.
func (z *Authorizer) authorizeServiceAccount(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if a.Verb == "get" && a.Subresource == "" {
		return z.authorizeReadNamespacedObject(nodeName, a)
	}
	return z.authorizeCreateToken(nodeName, a)
}

func (z *Authorizer) authorizeCreateToken(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if a.Verb != "create" || a.Name == "" {
		return no("can only create tokens for individual service accounts")
	}
	if a.Subresource != "token" {
		return no("can only create token subresource of serviceaccount")
	}
	return z.authorizeRelated(nodeName, a)
}

func (z *Authorizer) authorizeRelated(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if a.Name == "" {
		return no("No Object name found")
	}
	related, err := z.hasPathFrom(nodeName, a)
	if err != nil || !related {
		return no("no relationship found between node '%s' and this object", nodeName)
	}
	return yes("node authorizer: a pod of its node leads to the object")
}

// authorizeLease: the kubelet's heartbeat. A create bears no name yet; NodeRestriction looks at it.
func authorizeLease(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if !ownObjectVerb(a.Verb) {
		return no("can only get, create, update, patch, or delete a node lease")
	}
	if a.Namespace != corev1.NamespaceNodeLease {
		return no("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if a.Verb != "create" && a.Name != nodeName {
		return no("can only access node lease with the same name as the requesting node")
	}
	return yes("node authorizer: its own Lease")
}

func authorizeCSINode(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if !ownObjectVerb(a.Verb) {
		return no("can only get, create, update, patch, or delete a CSINode")
	}
	if a.Subresource != "" {
		return no("cannot authorize CSINode subresources")
	}
	if a.Verb != "create" && a.Name != nodeName {
		return no("can only access CSINode with the same name as the requesting node")
	}
	return yes("node authorizer: its own CSINode")
}

// authorizeResourceSlice: the devices of its node are a kubelet's to tell of, until their driver does.
func (z *Authorizer) authorizeResourceSlice(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if a.Subresource != "" {
		return no("cannot authorize ResourceSlice subresources")
	}
	switch a.Verb {
	case "create":
		return yes("node authorizer: ResourceSlices, which NodeRestriction limits to those of its node")
	case "get", "update", "patch", "delete":
		return z.authorizeRelated(nodeName, a)
	case "watch", "list", "deletecollection":
		if selects(a, resourcev1.ResourceSliceSelectorNodeName, nodeName) {
			return yes("node authorizer: the ResourceSlices of its node")
		}
		return no("can only list/watch/deletecollection resourceslices with nodeName field selector")
	}
	return no("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection")
}

// authorizePodCertificateRequest: a kubelet asks in the name of pods of its node, which NodeRestriction sees to, and reads
// what became of it. The answer is a signer's to write.
func (z *Authorizer) authorizePodCertificateRequest(nodeName string, a request.Attributes) (request.Decision, string, error) {
	if a.Subresource != "" {
		return no("nodes may not access the %s subresource of podcertificaterequests", a.Subresource)
	}
	switch a.Verb {
	case "create":
		return yes("node authorizer: requests for certificates of pods, which NodeRestriction limits to those of its node")
	case "get":
		return z.authorizeRelated(nodeName, a)
	case "list", "watch":
		if selects(a, "spec.nodeName", nodeName) {
			return yes("node authorizer: the certificate requests of its node")
		}
		return no("can only list/watch podcertificaterequests with nodeName field selector")
	}
	return no("nodes may not %s podcertificaterequests", a.Verb)
}

// selects: a asks for objects only whose field has that value.
func selects(a request.Attributes, field, value string) bool {
	if a.FieldSelector == nil {
		return false
	}
	got, found := a.FieldSelector.RequiresExactMatch(field)
	return found && got == value
}

func ownObjectVerb(verb string) bool {
	switch verb {
	case "get", "create", "update", "patch", "delete":
		return true
	}
	return false
}

// authorizeNode: NodeRestriction limits the writes to the kubelet's own Node.
func authorizeNode(nodeName string, a request.Attributes) (request.Decision, string, error) {
	switch a.Subresource + " " + a.Verb {
	case " create", " update", " patch", "status update", "status patch":
		return yes("node authorizer: writes to Nodes, which NodeRestriction limits to its own")
	case " get", " list", " watch":
		switch a.Name {
		case nodeName:
			return yes("node authorizer: its own Node")
		case "":
			return no("node '%s' cannot read all nodes, only its own Node object", nodeName)
		}
		return no("node '%s' cannot read '%s', only its own Node object", nodeName, a.Name)
	}
	return request.NoOpinion, "", nil
}

// authorizePod: NodeRestriction limits the writes to mirror pods, and to pods of the kubelet's own.
func (z *Authorizer) authorizePod(nodeName string, a request.Attributes) (request.Decision, string, error) {
	switch a.Subresource + " " + a.Verb {
	case " create", " delete", "status update", "status patch", "eviction create":
		return yes("node authorizer: writes to pods, which NodeRestriction limits to those of its node")
	case " get":
		return z.authorizeRelated(nodeName, a)
	case " list", " watch":
		if selects(a, "spec.nodeName", nodeName) {
			return yes("node authorizer: the pods of its node")
		}
		if a.Name != "" {
			return z.authorizeRelated(nodeName, a)
		}
		return no("can only list/watch pods with spec.nodeName field selector")
	}
	return request.NoOpinion, "", nil
}
