package envvars

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "1", "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	for input, want := range map[string]string{
		"$(A)": "1", "x$(A)y$(A)": "x1y1", "$$(A)": "$(A)", "$(B)": "$(B)", "$A": "$A", "$(EMPTY)": "",
		"$": "$", "$$": "$", "$(A": "$(A", "$$$(A)": "$1", "a$": "a$", "$$$$(A)": "$$(A)", "$($(A))": "$($(A))",
	} {
		if got := Expand(input, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", input, got, want)
		}
	}
}

func TestFromServices(t *testing.T) {
	services := []*v1.Service{
		{ObjectMeta: metav1.ObjectMeta{Name: "my-db"}, Spec: v1.ServiceSpec{ClusterIP: "10.96.0.5", Ports: []v1.ServicePort{{Name: "sql", Port: 5432, Protocol: v1.ProtocolTCP}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "headless"}, Spec: v1.ServiceSpec{ClusterIP: "None", Ports: []v1.ServicePort{{Port: 1}}}},
	}
	var got []string
	for _, env := range FromServices(services) {
		got = append(got, env.Name+"="+env.Value)
	}
	want := "MY_DB_SERVICE_HOST=10.96.0.5 MY_DB_SERVICE_PORT=5432 MY_DB_SERVICE_PORT_SQL=5432 MY_DB_PORT=tcp://10.96.0.5:5432 " +
		"MY_DB_PORT_5432_TCP=tcp://10.96.0.5:5432 MY_DB_PORT_5432_TCP_PROTO=tcp MY_DB_PORT_5432_TCP_PORT=5432 MY_DB_PORT_5432_TCP_ADDR=10.96.0.5"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

func TestFieldValue(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u", Labels: map[string]string{"b": "2", "a": "1"}, Annotations: map[string]string{"x/y": "z"}}, Spec: v1.PodSpec{NodeName: "n", ServiceAccountName: "sa"}}
	node := Node{HostIPs: []string{"10.0.0.1", "fd00::1"}}
	for path, want := range map[string]string{
		"metadata.name": "p", "metadata.namespace": "ns", "metadata.uid": "u", "metadata.labels": "a=\"1\"\nb=\"2\"", "metadata.labels['b']": "2",
		"metadata.annotations['x/y']": "z", "spec.nodeName": "n", "spec.serviceAccountName": "sa", "status.hostIP": "10.0.0.1", "status.hostIPs": "10.0.0.1,fd00::1", "status.podIP": "10.244.0.2",
	} {
		if got, err := FieldValue(pod, path, node, []string{"10.244.0.2"}); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := FieldValue(pod, "spec.containers", node, nil); err == nil {
		t.Error("an unknown path has a value")
	}
}

// A limit that is not set is what the node has; divisors round up.
func TestResourceValue(t *testing.T) {
	container := &v1.Container{Resources: v1.ResourceRequirements{
		Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("250m")},
		Limits:   v1.ResourceList{v1.ResourceMemory: resource.MustParse("100Mi")},
	}}
	node := Node{Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("4")}}
	for _, c := range []struct{ name, divisor, want string }{
		{"requests.cpu", "1m", "250"}, {"requests.cpu", "1", "1"}, {"limits.cpu", "1", "4"}, {"limits.memory", "1Mi", "100"}, {"limits.memory", "1Gi", "1"}, {"requests.memory", "1", "0"},
	} {
		got, err := ResourceValue(&v1.ResourceFieldSelector{Resource: c.name, Divisor: resource.MustParse(c.divisor)}, container, node)
		if err != nil || got != c.want {
			t.Errorf("%s / %s = %s, %v; want %s", c.name, c.divisor, got, err, c.want)
		}
	}
	if got := fmt.Sprint(divide(v1.ResourceMemory, resource.MustParse("5"), resource.Quantity{})); got != "5" {
		t.Errorf("without a divisor: %s", got)
	}
}
