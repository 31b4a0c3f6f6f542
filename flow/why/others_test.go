package why

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func someFacts(kind string, object metav1.Object) *facts {
	return &facts{now: now, kind: kind, namespace: object.GetNamespace(), name: object.GetName(), object: object, holders: alive()}
}

// What is the matter with a node, a Deployment, a claim, a namespace and a Service is said first,
// with the names and numbers that matter (issue 3).
func TestExplainOthers(t *testing.T) {
	silent := aNode("n1", "2")
	silent.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", LastTransitionTime: before(time.Minute)}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	refused := func(message string) *workload {
		return &workload{facts: someFacts("Deployment", deployment), desired: 3, seen: true, makerEvents: []corev1.Event{event("FailedCreate", message, 1, time.Second, time.Second)}}
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "default"}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("fast")}}
	leaving := claim.DeepCopy()
	leaving.DeletionTimestamp, leaving.Finalizers = ptr.To(before(time.Minute)), []string{"kubernetes.io/pvc-protection"}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", DeletionTimestamp: ptr.To(before(time.Minute))}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}},
		Status: corev1.NamespaceStatus{Conditions: []corev1.NamespaceCondition{{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue, Message: "pods. has 1 resource instances"}}}}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"},
		Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}}}
	named := aPod(func(f *podFacts) {
		f.pod.Labels = map[string]string{"app": "web"}
		f.pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}
	}).pod
	for name, test := range map[string]struct {
		got   *Explanation
		worst string
		want  []string
	}{
		"a silent node": {explainNode(&nodeFacts{facts: someFacts("Node", silent), node: silent, lease: holder{renewed: now.Add(-2 * time.Minute), duration: 40 * time.Second}}),
			"Not Ready since 60s: its kubelet is silent", []string{"renewed its Lease 2m ago (it holds for 40s)"}},
		"quota": {explainDeployment(refused(`pods "web-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2`), deployment, nil),
			"3 pods refused: quota small is used up", []string{"one more pod asks for pods=1; used are pods=2 of pods=2", "kubectl edit quota small"}},
		"pod security": {explainDeployment(refused(`pods "web-1" is forbidden: violates PodSecurity "restricted:latest"`), deployment, nil),
			`3 pods refused: pods "web-1" is forbidden: violates PodSecurity`, []string{"pod-security.kubernetes.io/enforce"}},
		"no such class": {explainClaim(&claimFacts{facts: someFacts("PersistentVolumeClaim", claim), claim: claim, classes: []string{"slow"}}),
			"Not bound: there is no StorageClass fast, and no volume fits", []string{"classes: slow", "volumes that are free: none"}},
		"a claim in use": {explainClaim(&claimFacts{facts: someFacts("PersistentVolumeClaim", leaving), claim: leaving, users: []string{"db-0"}}),
			"Terminating: finalizer kubernetes.io/pvc-protection holds it", []string{"it is used by 1 pod: db-0", "delete these pods"}},
		"a namespace that is not empty": {explainNamespace(&namespaceFacts{facts: someFacts("Namespace", namespace), object: namespace}),
			"Terminating: finalizer kubernetes holds it", []string{"namespace-controller in kube-controller-manager removes it, when the namespace is empty", "pods. has 1 resource instances"}},
		"a port of another name": {explainService(&serviceFacts{facts: someFacts("Service", service), service: service, pods: []corev1.Pod{*named}}),
			"No endpoints: 1 pod match the selector, and none gets traffic", []string{"web: has no port named http, the targetPort of 80; its ports: web=8080"}},
	} {
		screen := strings.Join(strings.Fields(printed(test.got)), " ")
		if worst := test.got.worst(); worst == nil || !strings.HasPrefix(worst.Title, test.worst) {
			t.Errorf("%s: worst is %+v, want %q", name, worst, test.worst)
		}
		for _, want := range test.want {
			if !strings.Contains(screen, want) {
				t.Errorf("%s: no %q in\n%s", name, want, printed(test.got))
			}
		}
	}
}

// Both families have a chain of the same name for a Service: each way is told to its own end.
func TestWaysOfTwoFamilies(t *testing.T) {
	way := func(six bool, to, endpoint string) Step {
		return Step{IPv6: six, Chain: "KUBE-SERVICES", Rule: "-A KUBE-SERVICES -d " + to + " -p tcp -m tcp --dport 80 -j KUBE-SVC-X", Target: "KUBE-SVC-X", Probability: 1,
			Next: []Step{{Chain: "KUBE-SVC-X", Target: "KUBE-SEP-Y", Probability: 1, Next: []Step{{Chain: "KUBE-SEP-Y", Target: "DNAT", Share: 1, Destination: endpoint}}}}}
	}
	node := way(true, "", "[fd00::5]:8080")
	node.Rule = "-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-SVC-X"
	f := &serviceFacts{service: &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9", "fd00:10:96::9"}}},
		rulesRead: true, ways: []Step{way(false, "10.96.0.9/32", "10.244.0.5:8080"), way(true, "fd00:10:96::9/128", "[fd00::5]:8080"), node}}
	screen := strings.Join(f.rulesOf()[0].Evidence, "\n")
	for _, want := range []string{"tcp to 10.96.0.9 port 80 → KUBE-SVC-X\n", "tcp to fd00:10:96::9 port 80 → KUBE-SVC-X\n", "DNAT to 10.244.0.5:8080", "DNAT to [fd00::5]:8080",
		"tcp to this node by IPv6 port 30080 → KUBE-SVC-X, as above"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in\n%s", want, screen)
		}
	}
	if ways := f.waysIn()[0].Evidence[0]; !strings.HasSuffix(ways, "→ 10.96.0.9 and fd00:10:96::9") {
		t.Errorf("names: %s", ways)
	}
}
