package kubelet

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The four DNS policies.
func TestPodDNS(t *testing.T) {
	node := resolver{servers: []string{"8.8.8.8"}, searches: []string{"corp"}, options: []string{"timeout:1"}}
	value := "2"
	cases := []struct {
		name              string
		spec              v1.PodSpec
		dns               []string
		servers, searches string
		options, warning  string
	}{
		{"ClusterFirst", v1.PodSpec{DNSPolicy: v1.DNSClusterFirst}, []string{"10.96.0.10"}, "10.96.0.10", "ns.svc.c.local svc.c.local c.local corp", "ndots:5", ""},
		{"ClusterFirst without cluster DNS", v1.PodSpec{DNSPolicy: v1.DNSClusterFirst}, nil, "8.8.8.8", "corp", "timeout:1", "MissingClusterDNS"},
		{"ClusterFirst in the node's network", v1.PodSpec{DNSPolicy: v1.DNSClusterFirst, HostNetwork: true}, []string{"10.96.0.10"}, "8.8.8.8", "corp", "timeout:1", ""},
		{"ClusterFirstWithHostNet", v1.PodSpec{DNSPolicy: v1.DNSClusterFirstWithHostNet, HostNetwork: true}, []string{"10.96.0.10"}, "10.96.0.10", "ns.svc.c.local svc.c.local c.local corp", "ndots:5", ""},
		{"Default", v1.PodSpec{DNSPolicy: v1.DNSDefault}, []string{"10.96.0.10"}, "8.8.8.8", "corp", "timeout:1", ""},
		{"None", v1.PodSpec{DNSPolicy: v1.DNSNone, DNSConfig: &v1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"s"}, Options: []v1.PodDNSConfigOption{{Name: "ndots", Value: &value}}}}, []string{"10.96.0.10"}, "1.1.1.1", "s", "ndots:2", ""},
		{"more than three servers", v1.PodSpec{DNSPolicy: v1.DNSDefault, DNSConfig: &v1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "1.1.1.2", "1.1.1.3"}}}, nil, "8.8.8.8 1.1.1.1 1.1.1.2", "corp", "timeout:1", "DNSConfigForming"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: c.spec}
			got, warnings := podDNS(pod, node, c.dns, "c.local")
			warning := ""
			if len(warnings) > 0 {
				warning = warnings[0].reason
			}
			have := []string{strings.Join(got.Servers, " "), strings.Join(got.Searches, " "), strings.Join(got.Options, " "), warning}
			if want := []string{c.servers, c.searches, c.options, c.warning}; !reflect.DeepEqual(have, want) {
				t.Errorf("got %q, want %q", have, want)
			}
		})
	}
}

// R57: a pod never gets a loopback nameserver.
func TestLoopbackNameserverIsLeftOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("# made by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 9.9.9.9\nsearch a. b\noptions edns0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, err := hostDNS(file)
	if err != nil || !reflect.DeepEqual(got, resolver{[]string{"9.9.9.9"}, []string{"a", "b"}, []string{"edns0"}}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestHostsFile(t *testing.T) {
	got := string(podHosts(hostsInput{hostname: "web", domain: "sub.ns.svc.c.local", podIPs: []string{"10.0.0.2"}}))
	if !strings.HasSuffix(got, "10.0.0.2\tweb.sub.ns.svc.c.local\tweb\n") || !strings.Contains(got, "127.0.0.1\tlocalhost\n") {
		t.Errorf("hosts file:\n%s", got)
	}
	aliases := string(hostAliases([]v1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b"}}}))
	if aliases != "\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n" {
		t.Errorf("aliases %q", aliases)
	}
}

// Upstream's table of who goes first when memory runs out.
func TestOOMScoreAdjust(t *testing.T) {
	const gib = 1 << 30
	cases := []struct {
		name    string
		request string
		limit   string
		want    int64
	}{{"best effort", "", "", 1000}, {"guaranteed", "1Gi", "1Gi", -997}, {"burstable, a quarter", "1Gi", "", 750}, {"burstable, next to nothing", "1Ki", "", 999}, {"burstable, all", "4Gi", "", 3}}
	for _, c := range cases {
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "m"}}}}
		resources := &pod.Spec.Containers[0].Resources
		resources.Requests, resources.Limits = list(c.request), list(c.limit)
		if got := oomScoreAdjust(pod, &pod.Spec.Containers[0], 4*gib); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func list(memory string) v1.ResourceList {
	if memory == "" {
		return nil
	}
	return v1.ResourceList{v1.ResourceMemory: resource.MustParse(memory), v1.ResourceCPU: resource.MustParse("1")}
}
