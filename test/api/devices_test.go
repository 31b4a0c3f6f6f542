package api_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	resourceclient "k8s.io/client-go/kubernetes/typed/resource/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

func deviceClaim(name string, admin bool) *resourcev1.ResourceClaim {
	exactly := &resourcev1.ExactDeviceRequest{DeviceClassName: "c"}
	if admin {
		exactly.AdminAccess = ptr.To(true)
	}
	return &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{
		Requests: []resourcev1.DeviceRequest{{Name: "r", Exactly: exactly}}}}}
}

// allocated gives a claim one device of node n.
func allocated(c *resourcev1.ResourceClaim, admin bool) {
	result := resourcev1.DeviceRequestAllocationResult{Request: "r", Driver: "d.example.com", Pool: "n", Device: "d0"}
	if admin {
		result.AdminAccess = ptr.To(true)
	}
	c.Status.Allocation = &resourcev1.AllocationResult{
		Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{result}},
		NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
			Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n"}}}}}},
	}
}

func refusedWith(t *testing.T, what string, err error, want string) {
	t.Helper()
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want %q", what, err, want)
	}
}

// KEP-5018: devices that others use are reached only from namespaces that are labelled for it.
func TestAdminAccessToDevices(t *testing.T) {
	cluster := integration.Start(t)
	ctx := t.Context()
	const want = "Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
	for _, ns := range []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "plain", Labels: map[string]string{resourcev1.DRAAdminNamespaceLabelKey: "yes"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "admin", Labels: map[string]string{resourcev1.DRAAdminNamespaceLabelKey: "true"}}}} {
		if _, err := cluster.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	claims, templates := cluster.Client.ResourceV1().ResourceClaims, cluster.Client.ResourceV1().ResourceClaimTemplates
	template := &resourcev1.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "t"}, Spec: resourcev1.ResourceClaimTemplateSpec{Spec: deviceClaim("", true).Spec}}
	_, err := claims("plain").Create(ctx, deviceClaim("a", true), metav1.CreateOptions{})
	refusedWith(t, "a claim", err, "spec.devices.requests[0].adminAccess: "+want)
	_, err = templates("plain").Create(ctx, template, metav1.CreateOptions{})
	refusedWith(t, "a template", err, "spec.devices.requests[0].adminAccess: "+want)
	eventually(t, "a claim in a labelled namespace", func() error {
		_, err := claims("admin").Create(ctx, deviceClaim("a", true), metav1.CreateOptions{})
		return err
	})
	if _, err := templates("admin").Create(ctx, template, metav1.CreateOptions{}); err != nil {
		t.Errorf("a template in a labelled namespace: %v", err)
	}
	c, err := claims("plain").Create(ctx, deviceClaim("b", false), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	allocated(c, true)
	_, err = claims("plain").UpdateStatus(ctx, c, metav1.UpdateOptions{})
	refusedWith(t, "an allocation", err, "status.allocation.devices.results[0].adminAccess: "+want)
}

// Who may write the status of claims may not yet allocate, nor speak for any driver: these are rights of their own.
func TestStatusOfClaimsNeedsMore(t *testing.T) {
	cluster := integration.Start(t)
	ctx := t.Context()
	rule := func(resource, verb string, names ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{resourcev1.GroupName}, Resources: []string{resource}, Verbs: []string{verb}, ResourceNames: names}
	}
	status := []rbacv1.PolicyRule{rule("resourceclaims", "get"), rule("resourceclaims/status", "update")}
	allow(t, cluster, "writer", "writer", status...)
	allow(t, cluster, "scheduler", "scheduler", append(status, rule("resourceclaims/binding", "update"))...)
	allow(t, cluster, "driver", "driver", append(status, rule("resourceclaims/driver", "arbitrary-node:update", "d.example.com"))...)
	allow(t, cluster, "other", "other", append(status, rule("resourceclaims/driver", "arbitrary-node:update", "other.example.com"))...)
	const local = "system:serviceaccount:default:driver"
	allow(t, cluster, local, "local", append(status, rule("resourceclaims/driver", "associated-node:update", "d.example.com"))...)
	as := func(user string) resourceclient.ResourceClaimInterface {
		return kubernetes.NewForConfigOrDie(cluster.ConfigAs(user)).ResourceV1().ResourceClaims("default")
	}
	at := func(node string) resourceclient.ResourceClaimInterface {
		config := rest.CopyConfig(cluster.Config)
		config.Impersonate = rest.ImpersonationConfig{UserName: local, Groups: []string{"system:serviceaccounts", "system:authenticated"}, Extra: map[string][]string{"authentication.kubernetes.io/node-name": {node}}}
		return kubernetes.NewForConfigOrDie(config).ResourceV1().ResourceClaims("default")
	}
	c, err := cluster.Client.ResourceV1().ResourceClaims("default").Create(ctx, deviceClaim("c", false), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "rights that count", func() error {
		_, err := as("writer").UpdateStatus(ctx, c, metav1.UpdateOptions{})
		return err
	})
	allocated(c, false)
	const noBinding, noDriver = "status: Forbidden: changing status.allocation or status.reservedFor requires extra permission", "status.devices: Forbidden: changing status.devices requires extra permission"
	_, err = as("writer").UpdateStatus(ctx, c, metav1.UpdateOptions{})
	refusedWith(t, "a writer allocates", err, noBinding)
	_, err = as("driver").UpdateStatus(ctx, c, metav1.UpdateOptions{})
	refusedWith(t, "a driver allocates", err, noBinding)
	if c, err = as("scheduler").UpdateStatus(ctx, c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	say := func(word string) *resourcev1.ResourceClaim {
		said := c.DeepCopy()
		said.ResourceVersion = ""
		said.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: "d.example.com", Pool: "n", Device: "d0", NetworkData: &resourcev1.NetworkDeviceData{InterfaceName: word}}}
		return said
	}
	for _, test := range []struct {
		who    string
		claims resourceclient.ResourceClaimInterface
		want   string
	}{
		{"writer", as("writer"), noDriver}, {"scheduler", as("scheduler"), noDriver}, {"other driver", as("other"), noDriver}, {"driver", as("driver"), ""},
		{"driver of another node", at("m"), noDriver}, {"driver of the node", at("n"), ""},
	} {
		_, err := test.claims.UpdateStatus(ctx, say(strings.ReplaceAll(test.who, " ", "-")), metav1.UpdateOptions{})
		if test.want == "" && err != nil {
			t.Errorf("%s: %v", test.who, err)
		} else if test.want != "" {
			refusedWith(t, test.who, err, test.want)
		}
	}
}
