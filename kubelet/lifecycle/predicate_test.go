package lifecycle

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
)

func pod(change func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
	if change != nil {
		change(p)
	}
	return p
}

func asking(name v1.ResourceName, amount string) *v1.Pod {
	return pod(func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{name: resource.MustParse(amount)}
	})
}

func onPort(ip string, port int32) *v1.Pod {
	return pod(func(p *v1.Pod) {
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{HostPort: port, HostIP: ip, Protocol: v1.ProtocolTCP}}
	})
}

func withSysctl(name string, hostNetwork bool) *v1.Pod {
	return pod(func(p *v1.Pod) {
		p.Spec.HostNetwork = hostNetwork
		p.Spec.SecurityContext = &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: name, Value: "1"}}}
	})
}

// The reasons and messages are upstream's: people and programs search for them.
func TestAdmit(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	strict := v1.SupplementalGroupsPolicyStrict
	cases := []struct {
		name            string
		pod             *v1.Pod
		others          []*v1.Pod
		reason, message string
	}{
		{"nothing special", pod(nil), nil, "", ""},
		{"another system", pod(func(p *v1.Pod) { p.Spec.OS = &v1.PodOS{Name: v1.Windows} }), nil, "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"},
		{"another system by label", pod(func(p *v1.Pod) { p.Labels = map[string]string{"kubernetes.io/os": "plan9"} }), nil, "PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"},
		{"another node's label", pod(func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "slow"} }), nil, "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		{"too much CPU", asking(v1.ResourceCPU, "1500m"), []*v1.Pod{asking(v1.ResourceCPU, "1")}, "OutOfcpu", "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"},
		{"too much memory", asking(v1.ResourceMemory, "2Gi"), nil, "OutOfmemory", "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"},
		{"too many pods", pod(nil), []*v1.Pod{pod(nil), pod(nil), pod(nil)}, "OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"},
		{"a resource that the node does not know", asking("example.com/gpu", "1"), nil, "", ""},
		{"the same port", onPort("", 80), []*v1.Pod{onPort("", 80)}, "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{"a port on one address, taken on all", onPort("127.0.0.1", 80), []*v1.Pod{onPort("0.0.0.0", 80)}, "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{"a port on two addresses", onPort("127.0.0.1", 80), []*v1.Pod{onPort("127.0.0.2", 80)}, "", ""},
		{"a sidecar's port", pod(func(p *v1.Pod) {
			p.Spec.InitContainers = []v1.Container{{RestartPolicy: &always, Ports: []v1.ContainerPort{{HostPort: 80, Protocol: v1.ProtocolTCP}}}}
		}), []*v1.Pod{onPort("", 80)}, "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{"an untolerated taint", pod(func(p *v1.Pod) { p.Spec.Tolerations = nil; p.Name = "tainted" }), nil, "TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"},
		{"strict groups", pod(func(p *v1.Pod) { p.Spec.SecurityContext = &v1.PodSecurityContext{SupplementalGroupsPolicy: &strict} }), nil, "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"},
		{"a safe sysctl", withSysctl("net/ipv4/tcp_syncookies", false), nil, "", ""},
		{"an unsafe sysctl", withSysctl("kernel.msgmax", false), nil, "SysctlForbidden", `forbidden sysctl: "kernel.msgmax" not allowlisted`},
		{"a sysctl of the node's network", withSysctl("net.ipv4.tcp_syncookies", true), nil, "SysctlForbidden", `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled`},
	}
	for _, c := range cases {
		node := &v1.Node{Status: v1.NodeStatus{Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2"), v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourcePods: resource.MustParse("3")}}}
		node.Labels = map[string]string{"disk": "fast"}
		if c.pod.Name == "tainted" {
			node.Spec.Taints = []v1.Taint{{Key: "out", Effect: v1.TaintEffectNoExecute}}
		}
		got := Admit(klog.Background(), c.pod, node, c.others, nil)
		if got == nil {
			got = &Rejection{}
		}
		if got.Reason != c.reason || got.Message != c.message {
			t.Errorf("%s: %q, %q; want %q, %q", c.name, got.Reason, got.Message, c.reason, c.message)
		}
	}
}

// What the node's owner allows is allowed, by name or beginning; but nothing that would reach through to the node.
func TestAllowedUnsafeSysctls(t *testing.T) {
	allowed := []string{"kernel.msg*", "net.core.somaxconn"}
	pod := func(host bool, name string) *v1.Pod {
		return &v1.Pod{Spec: v1.PodSpec{HostNetwork: host, HostIPC: host, SecurityContext: &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: name, Value: "1"}}}}}
	}
	for _, c := range []struct {
		pod  *v1.Pod
		want string
	}{
		{pod(false, "kernel.msgmax"), ""},
		{pod(false, "net/core/somaxconn"), ""},
		{pod(false, "net.core.somaxconn2"), `forbidden sysctl: "net.core.somaxconn2" not allowlisted`},
		{pod(true, "net.core.somaxconn"), `forbidden sysctl: "net.core.somaxconn" not allowed with host net enabled`},
		{pod(true, "kernel.msgmax"), `forbidden sysctl: "kernel.msgmax" not allowed with host ipc enabled`},
	} {
		if got := forbiddenSysctl(c.pod, allowed); got != c.want {
			t.Errorf("%v: %q, want %q", c.pod.Spec.SecurityContext.Sysctls, got, c.want)
		}
	}
	if err := ValidateUnsafeSysctls(allowed); err != nil {
		t.Error(err)
	}
	if err := ValidateUnsafeSysctls([]string{"vm.swappiness"}); err == nil || !strings.Contains(err.Error(), `"vm.swappiness" are not known to be namespaced`) {
		t.Errorf("the node's own: %v", err)
	}
}
