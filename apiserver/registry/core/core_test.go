package core_test

import (
	"context"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"hyperkube/apiserver"
	"hyperkube/test/integration"
)

// reservedPort is a node port that the control plane listens on in these tests (R56).
const reservedPort = 30443

func start(t *testing.T) kubernetes.Interface {
	t.Helper()
	client := integration.Start(t, func(c *apiserver.Config) { c.ReservedNodePorts = []int{reservedPort} }).Client
	// Pods need the account that a controller makes in a whole cluster.
	account := &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts("default").Create(context.Background(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return client
}

func demoPod(name string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "web", Image: "hyperkube.local/demo"}}},
	}
}

// A scheduler's whole effect on a pod is a Binding (S0-04): it sets the node once.
func TestBinding(t *testing.T) {
	client, ctx := start(t), context.Background()
	pods := client.CoreV1().Pods("default")
	if _, err := pods.Create(ctx, demoPod("web"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &v1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Target: v1.ObjectReference{Kind: "Node", Name: "node-1"}}
	binding.Annotations = map[string]string{"note": "kept", "pod.beta.kubernetes.io/init-containers": "[]"}
	if err := pods.Bind(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod, err := pods.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod.Spec.NodeName != "node-1" || len(pod.Status.Conditions) != 1 || pod.Status.Conditions[0].Type != v1.PodScheduled || pod.Status.Conditions[0].ObservedGeneration != 0 {
		t.Errorf("the bound pod is %+v, %+v", pod.Spec.NodeName, pod.Status.Conditions)
	}
	if len(pod.Annotations) != 1 || pod.Annotations["note"] != "kept" {
		t.Errorf("its annotations are %v", pod.Annotations)
	}
	if err := pods.Bind(ctx, binding, metav1.CreateOptions{}); !errors.IsConflict(err) {
		t.Errorf("binding a bound pod: %v, want a conflict", err)
	}
	list, err := pods.List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=node-1,status.phase=Pending"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("the node's pods: %v, %v", list, err)
	}
}

// What admission charges to a quota is the apiserver's own write: managedFields say so.
func TestQuotaChargesHaveAnOwner(t *testing.T) {
	client, ctx := start(t), context.Background()
	quotas := client.CoreV1().ResourceQuotas("default")
	hard := v1.ResourceList{"count/secrets": resource.MustParse("1")}
	quota, err := quotas.Create(ctx, &v1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: v1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	quota.Status = v1.ResourceQuotaStatus{Hard: hard, Used: v1.ResourceList{"count/secrets": resource.MustParse("0")}}
	if _, err := quotas.UpdateStatus(ctx, quota, metav1.UpdateOptions{FieldManager: "counter"}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Secrets("default").Create(ctx, &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if quota, err = quotas.Get(ctx, "q", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	owners := map[string]string{}
	for _, entry := range quota.ManagedFields {
		owners[entry.Manager+"/"+entry.Subresource] = string(entry.FieldsV1.GetRawBytes())
	}
	if used := quota.Status.Used["count/secrets"]; used.Value() != 1 || !strings.Contains(owners["kube-apiserver/status"], "f:used") {
		t.Errorf("used %s, owners %v", used.String(), owners)
	}
}

// A pod nobody runs goes at once; one that a kubelet has waits for its grace period.
func TestGracefulDeletion(t *testing.T) {
	client, ctx := start(t), context.Background()
	pods := client.CoreV1().Pods("default")
	scheduled := demoPod("scheduled")
	scheduled.Spec.NodeName = "node-1"
	for _, pod := range []*v1.Pod{demoPod("waiting"), scheduled} {
		if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pods.Get(ctx, "waiting", metav1.GetOptions{}); !errors.IsNotFound(err) {
		t.Errorf("the unscheduled pod: %v, want it gone", err)
	}
	pod, err := pods.Get(ctx, "scheduled", metav1.GetOptions{})
	if err != nil || pod.DeletionTimestamp == nil || *pod.DeletionGracePeriodSeconds != 30 {
		t.Fatalf("the scheduled pod: %v, %v", pod, err)
	}
	zero := int64(0)
	if err := pods.Delete(ctx, "scheduled", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(ctx, "scheduled", metav1.GetOptions{}); !errors.IsNotFound(err) {
		t.Errorf("after the kubelet's own delete: %v, want it gone", err)
	}
}

func TestPodUpdateAndStatus(t *testing.T) {
	client, ctx := start(t), context.Background()
	pods := client.CoreV1().Pods("default")
	pod, err := pods.Create(ctx, demoPod("web"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod.Generation != 1 || pod.Status.Phase != v1.PodPending || pod.Status.QOSClass != v1.PodQOSBestEffort {
		t.Errorf("a new pod: generation %d, phase %s, class %s", pod.Generation, pod.Status.Phase, pod.Status.QOSClass)
	}
	pod.Spec.Containers[0].Command = []string{"sh"}
	if _, err := pods.Update(ctx, pod, metav1.UpdateOptions{}); !errors.IsInvalid(err) || !strings.Contains(err.Error(), "pod updates may not change fields other than") {
		t.Errorf("changing a command: %v", err)
	}
	pod.Spec.Containers[0].Command = nil
	pod.Spec.Containers[0].Image = "hyperkube.local/demo:2"
	pod.Status.Phase = v1.PodRunning
	updated, err := pods.Update(ctx, pod, metav1.UpdateOptions{})
	if err != nil || updated.Generation != 2 || updated.Status.Phase != v1.PodPending {
		t.Fatalf("changing the image: %v, %v", updated, err)
	}
	updated.Status.Phase = v1.PodRunning
	updated.Spec.Containers[0].Image = "other"
	reported, err := pods.UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	if err != nil || reported.Status.Phase != v1.PodRunning || reported.Spec.Containers[0].Image != "hyperkube.local/demo:2" || reported.Generation != 2 {
		t.Fatalf("reporting the status: %v, %v", reported, err)
	}
	reported.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", Image: "hyperkube.local/demo"}, TargetContainerName: "web"}}
	debugged, err := pods.UpdateEphemeralContainers(ctx, "web", reported, metav1.UpdateOptions{})
	if err != nil || len(debugged.Spec.EphemeralContainers) != 1 {
		t.Fatalf("adding an ephemeral container: %v, %v", debugged, err)
	}
}

func TestEviction(t *testing.T) {
	client, ctx := start(t), context.Background()
	pods := client.CoreV1().Pods("default")
	if _, err := pods.Create(ctx, demoPod("web"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	if err := pods.EvictV1(ctx, eviction); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(ctx, "web", metav1.GetOptions{}); !errors.IsNotFound(err) {
		t.Errorf("the evicted pod: %v, want it gone", err)
	}
}

// A budget that allows nothing answers 429 with its reason; one that allows a pod pays for it.
func TestEvictionWithBudget(t *testing.T) {
	client, ctx := start(t), context.Background()
	pods, budgets := client.CoreV1().Pods("default"), client.PolicyV1().PodDisruptionBudgets("default")
	pod := demoPod("web")
	pod.Spec.NodeName = "node-1"
	pod, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = v1.PodRunning
	pod.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}
	if _, err := pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	one := intstr.FromInt32(1)
	budget, err := budgets.Create(ctx, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	// Not pods.EvictV1: client-go would wait, as the answer asks, and try again.
	once := client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("web").SubResource("eviction").Body(eviction).MaxRetries(0)
	if err := once.Do(ctx).Error(); !errors.IsTooManyRequests(err) || !errors.HasStatusCause(err, policyv1.DisruptionBudgetCause) {
		t.Errorf("before the budget's controller has looked: %v, want 429", err)
	}
	budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, CurrentHealthy: 1, DesiredHealthy: 1, ExpectedPods: 1}
	if budget, err = budgets.UpdateStatus(ctx, budget, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.EvictV1(ctx, eviction); !errors.IsTooManyRequests(err) {
		t.Errorf("the last healthy pod: %v, want 429", err)
	}
	budget.Status.DisruptionsAllowed = 1
	if _, err = budgets.UpdateStatus(ctx, budget, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.EvictV1(ctx, eviction); err != nil {
		t.Fatal(err)
	}
	if budget, err = budgets.Get(ctx, "b", metav1.GetOptions{}); err != nil || budget.Status.DisruptionsAllowed != 0 || len(budget.Status.DisruptedPods) != 1 {
		t.Errorf("the budget has %+v left, %v", budget.Status, err)
	}
	if pod, err = pods.Get(ctx, "web", metav1.GetOptions{}); err != nil || pod.DeletionTimestamp == nil || pod.Status.Conditions[1].Type != v1.DisruptionTarget {
		t.Errorf("the evicted pod: %+v, %v", pod.Status.Conditions, err)
	}
}

func service(name string, change func(*v1.ServiceSpec)) *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.ServiceSpec{
		Selector: map[string]string{"app": "web"}, Ports: []v1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	if change != nil {
		change(&s.Spec)
	}
	return s
}

func TestClusterIPs(t *testing.T) {
	client, ctx := start(t), context.Background()
	services := client.CoreV1().Services("default")
	web, err := services.Create(ctx, service("web", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := web.Spec
	if !strings.HasPrefix(spec.ClusterIP, "10.96.") || spec.ClusterIPs[0] != spec.ClusterIP || spec.IPFamilies[0] != v1.IPv4Protocol || *spec.IPFamilyPolicy != v1.IPFamilyPolicySingleStack {
		t.Errorf("the service got %+v", spec)
	}
	for name, test := range map[string]struct{ ip, want string }{
		"taken":        {spec.ClusterIP, "provided IP is already allocated"},
		"out of range": {"10.1.2.3", "the provided network does not match the current range"},
		"not an IP":    {"hello", "must be a valid IP address"},
	} {
		_, err := services.Create(ctx, service("other", func(s *v1.ServiceSpec) { s.ClusterIP = test.ip }), metav1.CreateOptions{})
		if !errors.IsInvalid(err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	headless, err := services.Create(ctx, service("headless", func(s *v1.ServiceSpec) { s.ClusterIP = v1.ClusterIPNone }), metav1.CreateOptions{})
	if err != nil || headless.Spec.ClusterIPs[0] != v1.ClusterIPNone {
		t.Errorf("headless: %v, %v", headless, err)
	}
	web.Spec.ClusterIP, web.Spec.ClusterIPs = "", nil
	if kept, err := services.Update(ctx, web, metav1.UpdateOptions{}); err != nil || kept.Spec.ClusterIP != spec.ClusterIP {
		t.Errorf("an update without the address: %v, %v", kept, err)
	}
	// A dry run holds nothing; a deletion gives back.
	fixed := service("fixed", func(s *v1.ServiceSpec) { s.ClusterIP = "10.96.7.7" })
	if _, err := services.Create(ctx, fixed, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("dry run: %v", err)
	}
	for range 2 {
		if _, err := services.Create(ctx, fixed, metav1.CreateOptions{}); err != nil {
			t.Errorf("after a dry run, or a deletion: %v", err)
		}
		if err := services.Delete(ctx, "fixed", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
	external := service("external", func(s *v1.ServiceSpec) {
		*s = v1.ServiceSpec{Type: v1.ServiceTypeExternalName, ExternalName: "example.com"}
	})
	if got, err := services.Create(ctx, external, metav1.CreateOptions{}); err != nil || got.Spec.ClusterIP != "" || got.Spec.IPFamilyPolicy != nil {
		t.Errorf("ExternalName: %v, %v", got, err)
	}
}

func TestNodePorts(t *testing.T) {
	client, ctx := start(t), context.Background()
	services := client.CoreV1().Services("default")
	nodePort := func(name string, port int32) *v1.Service {
		return service(name, func(s *v1.ServiceSpec) { s.Type, s.Ports[0].NodePort = v1.ServiceTypeNodePort, port })
	}
	web, err := services.Create(ctx, nodePort("web", 0), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	port := web.Spec.Ports[0].NodePort
	if port < 30000 || port > 32767 {
		t.Errorf("the node port is %d", port)
	}
	for name, test := range map[string]struct {
		port int32
		want string
	}{
		"taken":        {port, "provided port is already allocated"},
		"out of range": {6443, "The range of valid ports is 30000-32767"},
		"R56":          {reservedPort, "used by the control plane"},
	} {
		_, err := services.Create(ctx, nodePort("other", test.port), metav1.CreateOptions{})
		if !errors.IsInvalid(err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	// A change of type gives the port back.
	web.Spec.Type = v1.ServiceTypeClusterIP
	plain, err := services.Update(ctx, web, metav1.UpdateOptions{})
	if err != nil || plain.Spec.Ports[0].NodePort != 0 || plain.Spec.ExternalTrafficPolicy != "" {
		t.Fatalf("back to ClusterIP: %v, %v", plain, err)
	}
	if _, err := services.Create(ctx, nodePort("again", port), metav1.CreateOptions{}); err != nil {
		t.Errorf("the port given back: %v", err)
	}
	shared := service("dns", func(s *v1.ServiceSpec) {
		s.Type = v1.ServiceTypeNodePort
		s.Ports = []v1.ServicePort{{Name: "tcp", Port: 53, Protocol: v1.ProtocolTCP}, {Name: "udp", Port: 53, Protocol: v1.ProtocolUDP}}
	})
	if dns, err := services.Create(ctx, shared, metav1.CreateOptions{}); err != nil || dns.Spec.Ports[0].NodePort != dns.Spec.Ports[1].NodePort {
		t.Errorf("one number in two protocols: %v, %v", dns, err)
	}
}

// A namespace stays, Terminating, until its finalizer is gone.
func TestNamespaceDeletion(t *testing.T) {
	client, ctx := start(t), context.Background()
	namespaces := client.CoreV1().Namespaces()
	ns, err := namespaces.Create(ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-"}}, metav1.CreateOptions{})
	if err != nil || ns.Labels[v1.LabelMetadataName] != ns.Name || ns.Status.Phase != v1.NamespaceActive {
		t.Fatalf("the new namespace: %+v, %v", ns, err)
	}
	if err := namespaces.Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ns, err = namespaces.Get(ctx, ns.Name, metav1.GetOptions{})
	if err != nil || ns.Status.Phase != v1.NamespaceTerminating {
		t.Fatalf("the deleted namespace: %+v, %v", ns, err)
	}
	ns.Spec.Finalizers = nil
	if _, err := namespaces.Finalize(ctx, ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err = namespaces.Get(ctx, ns.Name, metav1.GetOptions{}); !errors.IsNotFound(err) {
		t.Errorf("the emptied namespace: %v, want it gone", err)
	}
}

func TestSecretStringData(t *testing.T) {
	client, ctx := start(t), context.Background()
	secret, err := client.CoreV1().Secrets("default").Create(ctx, &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"key": "value"}}, metav1.CreateOptions{})
	if err != nil || string(secret.Data["key"]) != "value" || secret.Type != v1.SecretTypeOpaque {
		t.Fatalf("%+v, %v", secret, err)
	}
}

// Many at once: no address and no port is given out twice.
func TestAllocationIsExclusive(t *testing.T) {
	client, ctx := start(t), context.Background()
	const many = 30
	results := make(chan *v1.Service, many)
	for range many {
		go func() {
			s := service("", func(s *v1.ServiceSpec) { s.Type = v1.ServiceTypeNodePort })
			s.GenerateName = "s-"
			created, err := client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{})
			if err != nil {
				t.Error(err)
			}
			results <- created
		}()
	}
	ips, ports := map[string]bool{}, map[int32]bool{}
	for range many {
		s := <-results
		ips[s.Spec.ClusterIP], ports[s.Spec.Ports[0].NodePort] = true, true
	}
	if len(ips) != many || len(ports) != many {
		t.Errorf("%d services have %d addresses and %d ports", many, len(ips), len(ports))
	}
}
