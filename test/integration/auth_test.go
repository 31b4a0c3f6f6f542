package integration

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// DESIGN.md, Contracts: anonymous only for health and version; a wrong credential is a 401, whatever it is
// for.
func TestAnonymous(t *testing.T) {
	c := Start(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for _, test := range []struct {
		path, token string
		code        int
	}{
		{"/healthz", "", 200}, {"/livez", "", 200}, {"/readyz", "", 200}, {"/version", "", 200},
		{"/api", "", 401}, {"/api/v1/pods", "", 401}, {"/openapi/v2", "", 401}, {"/metrics", "", 401},
		{"/version", "wrong", 401}, {"/api", "wrong", 401},
	} {
		req, _ := http.NewRequest(http.MethodGet, c.Config.Host+test.path, nil)
		if test.token != "" {
			req.Header.Set("Authorization", "Bearer "+test.token)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != test.code {
			t.Errorf("%s with token %q: %d, want %d: %s", test.path, test.token, resp.StatusCode, test.code, body)
		}
		if test.code == 401 && !strings.Contains(string(body), `"message":"Unauthorized","reason":"Unauthorized","code":401`) {
			t.Errorf("%s: %s", test.path, body)
		}
	}
}

// S0-09: a token of a pod's service account works, says whose it is, and ends with the pod.
func TestPodToken(t *testing.T) {
	c := Start(t)
	ctx := t.Context()
	core := c.Client.CoreV1()
	must(t)(core.ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder"}}, metav1.CreateOptions{}))
	pod := must(t)(core.Pods("default").Create(ctx, podOf("web", "builder", "n1"), metav1.CreateOptions{})).(*corev1.Pod)
	if pod.Spec.Volumes[0].Projected == nil || pod.Spec.Containers[0].VolumeMounts[0].MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" {
		t.Errorf("no token is mounted: %+v", pod.Spec)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: ptr.To(int64(600)),
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web", UID: pod.UID},
	}}
	answer := must(t)(core.ServiceAccounts("default").CreateToken(ctx, "builder", request, metav1.CreateOptions{})).(*authenticationv1.TokenRequest)

	bearer := clientFor(t, &rest.Config{Host: c.Config.Host, BearerToken: answer.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAFile: c.Dir.CAFile()}})
	self := must(t)(bearer.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})).(*authenticationv1.SelfSubjectReview)
	info := self.Status.UserInfo
	if info.Username != "system:serviceaccount:default:builder" || info.Extra["authentication.kubernetes.io/pod-name"][0] != "web" ||
		strings.Join(info.Groups, " ") != "system:serviceaccounts system:serviceaccounts:default system:authenticated" {
		t.Errorf("the token is %+v", info)
	}
	_, err := bearer.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	if want := `pods is forbidden: User "system:serviceaccount:default:builder" cannot list resource "pods" in API group "" in the namespace "default"`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	review := must(t)(c.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: answer.Status.Token}}, metav1.CreateOptions{})).(*authenticationv1.TokenReview)
	if !review.Status.Authenticated || review.Status.User.Username != info.Username {
		t.Errorf("review: %+v", review.Status)
	}

	if err := core.Pods("default").Delete(ctx, "web", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if _, err := bearer.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("the pod is gone and its token still works: %v", err)
	}
}

// A kubelet sees and writes what is its node's: the node authorizer and NodeRestriction together.
func TestKubelet(t *testing.T) {
	c := Start(t)
	ctx := t.Context()
	admin := c.Client.CoreV1()
	must(t)(admin.ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}))
	for _, name := range []string{"mine", "other"} {
		must(t)(admin.Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
	}
	kubelet := clientFor(t, c.ConfigAs("system:node:n1", "system:nodes"))
	core := kubelet.CoreV1()
	node := must(t)(core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})).(*corev1.Node)
	if len(node.Spec.Taints) != 1 || node.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
		t.Errorf("a new node has taints %v", node.Spec.Taints)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	must(t)(core.Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}))
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	must(t)(kubelet.CoordinationV1().Leases("kube-node-lease").Create(ctx, lease, metav1.CreateOptions{}))
	must(t)(core.Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"}))
	must(t)(core.Services("").List(ctx, metav1.ListOptions{}))
	must(t)(core.Events("default").Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}}, metav1.CreateOptions{}))

	_, err := core.Secrets("default").Get(ctx, "mine", metav1.GetOptions{})
	wantForbidden(t, err, "no relationship found between node 'n1' and this object")
	pod := podOf("web", "", "n1")
	pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "mine"}}}}
	pod = must(t)(admin.Pods("default").Create(ctx, pod, metav1.CreateOptions{})).(*corev1.Pod)
	must(t)(core.Secrets("default").Get(ctx, "mine", metav1.GetOptions{}))
	must(t)(core.ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web", UID: pod.UID},
	}}, metav1.CreateOptions{}))
	pod.Status.Phase = corev1.PodRunning
	must(t)(core.Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{}))

	_, err = core.Secrets("default").Get(ctx, "other", metav1.GetOptions{})
	wantForbidden(t, err, "no relationship found")
	_, err = core.Pods("").List(ctx, metav1.ListOptions{})
	wantForbidden(t, err, "can only list/watch pods with spec.nodeName field selector")
	_, err = core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{})
	wantForbidden(t, err, `node "n1" is not allowed to modify node "n2"`)
	_, err = core.ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	wantForbidden(t, err, "node requested token not bound to a pod")
	_, err = core.Pods("default").Create(ctx, podOf("forged", "", "n1"), metav1.CreateOptions{})
	wantForbidden(t, err, "can only create mirror pods")
}

// Nobody grants what they do not hold; kubectl auth can-i tells what one does.
func TestEscalation(t *testing.T) {
	c := Start(t)
	ctx := t.Context()
	must(t)(c.Client.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "jane-admin"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "admin"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}},
	}, metav1.CreateOptions{}))
	jane := clientFor(t, c.ConfigAs("jane"))
	role := func(name string, rule rbacv1.PolicyRule) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{rule}}
	}
	pods := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	must(t)(jane.RbacV1().Roles("default").Create(ctx, role("reader", pods), metav1.CreateOptions{}))
	_, err := jane.RbacV1().Roles("default").Create(ctx, role("more", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"nodes"}}), metav1.CreateOptions{})
	wantForbidden(t, err, `user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:`)
	wantForbidden(t, err, `{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}`)
	_, err = jane.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "root"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}},
	}, metav1.CreateOptions{})
	wantForbidden(t, err, "not currently held")

	canI := func(verb, resource, namespace string) bool {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Resource: resource, Namespace: namespace}}}
		return must(t)(jane.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})).(*authorizationv1.SelfSubjectAccessReview).Status.Allowed
	}
	if !canI("create", "pods", "default") || canI("create", "pods", "kube-system") || canI("get", "nodes", "") {
		t.Error("can-i is wrong")
	}
	rules := must(t)(jane.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "default"}}, metav1.CreateOptions{})).(*authorizationv1.SelfSubjectRulesReview)
	if len(rules.Status.ResourceRules) < 20 || len(rules.Status.NonResourceRules) == 0 || rules.Status.Incomplete {
		t.Errorf("rules: %d %d %v", len(rules.Status.ResourceRules), len(rules.Status.NonResourceRules), rules.Status.Incomplete)
	}
	if _, err := clientFor(t, impersonateFrom(c, "jane", "root")).CoreV1().Pods("default").List(ctx, metav1.ListOptions{}); err == nil {
		t.Error("jane, whom root impersonates, may impersonate")
	}
}

// impersonateFrom asks, with a certificate of user, to be done as another.
func impersonateFrom(c *Cluster, user, as string) *rest.Config {
	pair, err := c.Dir.ClientCert(user, user)
	if err != nil {
		c.t.Fatal(err)
	}
	return &rest.Config{
		Host: c.Config.Host, Impersonate: rest.ImpersonationConfig{UserName: as},
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.Dir.CAFile(), CertFile: pair.CertFile, KeyFile: pair.KeyFile},
	}
}

// Admission of namespaces: 404 for what is not there, and the immortal three.
func TestNamespaceLifecycle(t *testing.T) {
	c := Start(t)
	ctx := t.Context()
	_, err := c.Client.CoreV1().ConfigMaps("none").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	if !apierrors.IsNotFound(err) || err.Error() != `namespaces "none" not found` {
		t.Error(err)
	}
	for _, name := range []string{"default", "kube-system", "kube-public"} {
		wantForbidden(t, c.Client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}), "this namespace may not be deleted")
	}
	must(t)(c.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "gone"}}, metav1.CreateOptions{}))
	if err := c.Client.CoreV1().Namespaces().Delete(ctx, "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Client.CoreV1().ConfigMaps("gone").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	wantForbidden(t, err, "unable to create new content in namespace gone because it is being terminated")
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("without its cause: %v", err)
	}
}

func podOf(name, account, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{ServiceAccountName: account, NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "hyperkube.local/demo"}}},
	}
}

func clientFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func must(t *testing.T) func(obj any, err error) any {
	return func(obj any, err error) any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return obj
	}
}

func wantForbidden(t *testing.T, err error, text string) {
	t.Helper()
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), text) {
		t.Errorf("want forbidden: %s; have %v", text, err)
	}
}

// R40: kubectl's own questions about identity and rights.
func TestKubectlAuth(t *testing.T) {
	c := Start(t)
	kubeconfig := c.Kubeconfig()
	for _, step := range []struct{ args, want string }{
		{"auth whoami", "kubernetes-admin"},
		{"auth can-i delete nodes", "yes"},
		{"auth can-i list secrets --as=system:kube-dns -n default", "no"},
		{"auth can-i --list --as=jane", "selfsubjectrulesreviews.authorization.k8s.io"},
		{"create serviceaccount robot", "serviceaccount/robot created"},
		{"create token robot", "eyJ"},
		{"create token robot --duration=1m", "may not specify a duration less than 10 minutes"},
		{"create role reader --verb=get --resource=pods", "role.rbac.authorization.k8s.io/reader created"},
		{"create rolebinding readers --role=reader --serviceaccount=default:robot", "rolebinding.rbac.authorization.k8s.io/readers created"},
		{"get rolebinding readers -o wide", "default/robot"},
		{"auth can-i get pods --as=system:serviceaccount:default:robot", "yes"},
		{"auth can-i get pods -n kube-system --as=system:serviceaccount:default:robot", "no"},
		{"describe clusterrole system:kube-dns", "endpoints"},
		{"get clusterroles", "CREATED AT"},
		{"get --raw /openid/v1/jwks", `"use":"sig"`},
		{"get pods --as=jane", `Error from server (Forbidden): pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"`},
	} {
		if got := kubectl(t, kubeconfig, "", strings.Fields(step.args)...); !strings.Contains(got, step.want) {
			t.Errorf("kubectl %s: %s\nwant %s", step.args, got, step.want)
		}
	}
}

// A start over an existing store makes good what was lost of the default roles, keeps what was added, and respects
// an opt-out.
func TestBootstrapPolicyIsReconciled(t *testing.T) {
	c := Start(t)
	ctx := t.Context()
	roles, bindings := c.Client.RbacV1().ClusterRoles(), c.Client.RbacV1().ClusterRoleBindings()
	extra := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"example.com"}, Resources: []string{"things"}}
	changed := must(t)(roles.Get(ctx, "system:node-proxier", metav1.GetOptions{})).(*rbacv1.ClusterRole)
	whole := len(changed.Rules)
	changed.Rules = []rbacv1.PolicyRule{extra}
	must(t)(roles.Update(ctx, changed, metav1.UpdateOptions{}))
	optedOut := must(t)(bindings.Get(ctx, "system:discovery", metav1.GetOptions{})).(*rbacv1.ClusterRoleBinding)
	optedOut.Annotations[rbacv1.AutoUpdateAnnotationKey] = "false"
	optedOut.Subjects = nil
	must(t)(bindings.Update(ctx, optedOut, metav1.UpdateOptions{}))
	if err := roles.Delete(ctx, "view", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	untouched := must(t)(roles.Get(ctx, "edit", metav1.GetOptions{})).(*rbacv1.ClusterRole)

	c.Stop()
	c.Run("127.0.0.1:0")
	roles, bindings = c.Client.RbacV1().ClusterRoles(), c.Client.RbacV1().ClusterRoleBindings()
	again := must(t)(roles.Get(ctx, "system:node-proxier", metav1.GetOptions{})).(*rbacv1.ClusterRole)
	if len(again.Rules) != whole+1 || again.Rules[0].Resources[0] != "things" {
		t.Errorf("%d rules of %d and one: %v", len(again.Rules), whole, again.Rules)
	}
	if b := must(t)(bindings.Get(ctx, "system:discovery", metav1.GetOptions{})).(*rbacv1.ClusterRoleBinding); len(b.Subjects) > 0 {
		t.Errorf("the opt-out was overruled: %v", b.Subjects)
	}
	must(t)(roles.Get(ctx, "view", metav1.GetOptions{}))
	if e := must(t)(roles.Get(ctx, "edit", metav1.GetOptions{})).(*rbacv1.ClusterRole); e.ResourceVersion != untouched.ResourceVersion {
		t.Error("what was as it should be has been written")
	}
}
