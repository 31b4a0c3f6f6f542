package service_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver"
	"hyperkube/test/integration"
)

func web(name string, change func(s *v1.ServiceSpec)) *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: v1.ServiceSpec{
		Type: v1.ServiceTypeNodePort, Selector: map[string]string{"app": "web"}, Ports: []v1.ServicePort{{Name: "http", Port: 80}},
	}}
	if change != nil {
		change(&s.Spec)
	}
	return s
}

// eventually asks until done; the repair runs beside the test.
func eventually(t *testing.T, what string, done func(ctx context.Context) bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) { return done(ctx), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// What a kill between two writes, or an old copy of etcd, leaves behind is put right, and told in upstream's events.
func TestRepair(t *testing.T) {
	clock := testclock.NewFakeClock(time.Now())
	cluster := integration.Start(t, func(c *apiserver.Config) { c.Clock = clock })
	ctx, client := t.Context(), cluster.Client
	services, ips := client.CoreV1().Services("default"), client.NetworkingV1().IPAddresses()
	create := func(s *v1.Service) *v1.Service {
		created, err := services.Create(ctx, s, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return created
	}
	lost, kept, stolen := create(web("lost", nil)), create(web("kept", nil)), create(web("stolen", nil))
	store := cluster.Server.Env().Store(schema.GroupResource{Resource: "services"})
	write := func(s *v1.Service) { // past the allocation, as an etcd from a backup would have it
		s.ResourceVersion, s.UID = "", types.UID("uid-of-"+s.Name)
		if _, err := store.Storage.Create(ctx, "default/"+s.Name, s, 0); err != nil {
			t.Fatal(err)
		}
	}
	twin := kept.DeepCopy()
	twin.Name = "twin"
	write(twin)
	stray := web("stray", func(s *v1.ServiceSpec) {
		s.ClusterIP, s.ClusterIPs, s.IPFamilies = "192.168.7.7", []string{"192.168.7.7"}, []v1.IPFamily{v1.IPv4Protocol}
		s.Ports[0].NodePort, s.Ports[0].Protocol = 99, v1.ProtocolTCP
	})
	write(stray)
	unknown := web("unknown", func(s *v1.ServiceSpec) {
		s.ClusterIP, s.ClusterIPs, s.IPFamilies = "10.96.77.77", []string{"10.96.77.77"}, []v1.IPFamily{v1.IPv4Protocol}
		s.Ports[0].NodePort, s.Ports[0].Protocol = 31777, v1.ProtocolTCP
	})
	write(unknown)
	remove := func(name string) {
		if err := ips.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	address := func(name string, ref networkingv1.ParentReference) {
		_, err := ips.Create(ctx, &networkingv1.IPAddress{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{networkingv1.LabelManagedBy: "ipallocator.k8s.io", networkingv1.LabelIPAddressFamily: "IPv4"}},
			Spec:       networkingv1.IPAddressSpec{ParentRef: &ref},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	remove(lost.Spec.ClusterIP)
	remove(stolen.Spec.ClusterIP)
	address(stolen.Spec.ClusterIP, networkingv1.ParentReference{Group: "gateway.networking.k8s.io", Resource: "gateways", Namespace: "default", Name: "g"})
	address("10.96.99.1", networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "gone"})
	address("10.96.99.2", networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "kept"})

	clock.Step(3*time.Minute + time.Second)
	want := []string{
		"lost ClusterIPNotAllocated Cluster IP [IPv4]: " + lost.Spec.ClusterIP + " is not allocated; repairing",
		"stolen ClusterIPNotAllocated the ClusterIP [IPv4]: " + stolen.Spec.ClusterIP + " for Service default/stolen has a wrong reference; repairing",
		"twin ClusterIPAlreadyAllocated Cluster IP [IPv4]:" + kept.Spec.ClusterIP + " was assigned to multiple services; please recreate service",
		"stray ClusterIPOutOfRange Cluster IP [IPv4]: 192.168.7.7 is not within any configured Service CIDR; please recreate service",
		"unknown ClusterIPNotAllocated Cluster IP [IPv4]: 10.96.77.77 is not allocated; repairing",
		"10.96.99.1 IPAddressNotAllocated IPAddress: 10.96.99.1 for Service default/gone appears to have leaked: cleaning up",
		"10.96.99.2 IPAddressWrongReference IPAddress: 10.96.99.2 for Service default/kept has a wrong reference; cleaning up",
		"stray PortOutOfRange Port 99 is not within the port range 30000-32767; please recreate service",
		fmt.Sprintf("twin PortAlreadyAllocated Port %d", kept.Spec.Ports[0].NodePort) + " was assigned to multiple services; please recreate service",
		"unknown PortNotAllocated Port 31777 is not allocated; repairing",
	}
	slices.Sort(want)
	var got []string
	eventually(t, "events", func(ctx context.Context) bool {
		list, err := client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
		if err != nil {
			return false
		}
		got = nil
		for _, e := range list.Items {
			got = append(got, e.InvolvedObject.Name+" "+e.Reason+" "+e.Message)
		}
		slices.Sort(got)
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range []*v1.Service{lost, stolen, unknown} {
		object, err := ips.Get(ctx, s.Spec.ClusterIP, metav1.GetOptions{})
		if err != nil || object.Spec.ParentRef.Name != s.Name {
			t.Errorf("the address of %s: %+v, %v", s.Name, object, err)
		}
	}
	for _, name := range []string{"10.96.99.1", "10.96.99.2"} {
		if _, err := ips.Get(ctx, name, metav1.GetOptions{}); !errors.IsNotFound(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	// What was found is taken now: nobody else gets it.
	_, err := services.Create(ctx, web("second", func(s *v1.ServiceSpec) { s.Ports[0].NodePort = 31777 }), metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "provided port is already allocated") {
		t.Errorf("a port that the repair found: %v", err)
	}
	// A port whose service went behind our back is free again, but only when it was found so three times.
	if _, err := store.Storage.Delete(ctx, "default/unknown", nil, nil); err != nil {
		t.Fatal(err)
	}
	taken := func(ctx context.Context) bool {
		_, err := services.Create(ctx, web("third", func(s *v1.ServiceSpec) { s.Ports[0].NodePort = 31777 }), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil
	}
	if !taken(ctx) {
		t.Error("a port was given out at once")
	}
	eventually(t, "the leaked port is free", func(ctx context.Context) bool {
		clock.Step(3*time.Minute + time.Second)
		return !taken(ctx)
	})
}

// A cluster of two families: a service gets an address of each, grows, shrinks, and gives all back (KEP-563).
func TestDualStack(t *testing.T) {
	cluster := integration.Start(t, func(c *apiserver.Config) { c.ServiceCIDR = "10.96.0.0/16,fd00:10:96::/112" })
	ctx, client := t.Context(), cluster.Client
	services := client.CoreV1().Services("default")
	cidr, err := client.NetworkingV1().ServiceCIDRs().Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || !slices.Equal(cidr.Spec.CIDRs, []string{"10.96.0.0/16", "fd00:10:96::/112"}) {
		t.Fatalf("the default range: %v, %v", cidr.Spec.CIDRs, err)
	}
	addresses := func() int {
		list, err := client.NetworkingV1().IPAddresses().List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	before := addresses()
	s, err := services.Create(ctx, web("web", func(s *v1.ServiceSpec) { s.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicyRequireDualStack) }), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := s.Spec.ClusterIP
	if len(s.Spec.ClusterIPs) != 2 || s.Spec.ClusterIPs[0] != first || !strings.HasPrefix(s.Spec.ClusterIPs[1], "fd00:10:96::") || addresses() != before+2 {
		t.Errorf("created: %+v, %d addresses", s.Spec, addresses())
	}
	patch := func(body string) (*v1.Service, error) {
		return services.Patch(ctx, "web", types.MergePatchType, []byte(body), metav1.PatchOptions{})
	}
	if s, err = patch(`{"spec": {"ipFamilyPolicy": "SingleStack"}}`); err != nil || !slices.Equal(s.Spec.ClusterIPs, []string{first}) || len(s.Spec.IPFamilies) != 1 || addresses() != before+1 {
		t.Errorf("downgraded: %+v, %v, %d addresses", s.Spec, err, addresses())
	}
	if s, err = patch(`{"spec": {"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["` + first + `", "fd00:10:96::42"]}}`); err != nil || !slices.Equal(s.Spec.ClusterIPs, []string{first, "fd00:10:96::42"}) || addresses() != before+2 {
		t.Errorf("upgraded: %+v, %v, %d addresses", s.Spec, err, addresses())
	}
	if s, err = patch(`{"spec": {"type": "ExternalName", "externalName": "example.com"}}`); err != nil || s.Spec.ClusterIPs != nil || s.Spec.IPFamilies != nil || addresses() != before {
		t.Errorf("to a name: %+v, %v, %d addresses", s.Spec, err, addresses())
	}
	if s, err = patch(`{"spec": {"type": "ClusterIP", "externalName": null, "ipFamilies": ["IPv6"]}}`); err != nil || len(s.Spec.ClusterIPs) != 1 || !strings.HasPrefix(s.Spec.ClusterIP, "fd00:10:96::") || addresses() != before+1 {
		t.Errorf("from a name: %+v, %v, %d addresses", s.Spec, err, addresses())
	}
	// A write that fails halfway gives back what it had taken of the first family.
	_, err = services.Create(ctx, web("other", func(o *v1.ServiceSpec) {
		o.ClusterIP, o.ClusterIPs = "10.96.0.99", []string{"10.96.0.99", s.Spec.ClusterIP}
		o.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicyPreferDualStack)
	}), metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "failed to allocate IP "+s.Spec.ClusterIP+": provided IP is already allocated") || addresses() != before+1 {
		t.Errorf("a taken address: %v, %d addresses", err, addresses())
	}
	if err := services.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil || addresses() != before {
		t.Errorf("deleted: %v, %d addresses", err, addresses())
	}
	// A digit may come first in a name (KEP-5311).
	if _, err := services.Create(ctx, web("1st", nil), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}
