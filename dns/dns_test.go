package dns

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"hyperkube/component"
)

func service(name, clusterIP string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.ClusterIP, s.Spec.ClusterIPs = clusterIP, []string{clusterIP}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}
	for _, c := range change {
		c(s)
	}
	return s
}

func testObjects() []runtime.Object {
	return []runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		service("web", "10.96.0.20"),
		service("headless", corev1.ClusterIPNone),
		service("empty", corev1.ClusterIPNone),
		service("outside", "", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, "web.default.svc.cluster.local", nil
		}),
		&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "headless-1", Labels: map[string]string{discoveryv1.LabelServiceName: "headless"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.244.0.5"}, Hostname: ptr.To("db-0"), Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}},
				{Addresses: []string{"10.244.0.6"}},
				{Addresses: []string{"10.244.0.7"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)}},
			},
			Ports: []discoveryv1.EndpointPort{{Name: ptr.To("sql"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To[int32](5432)}},
		},
	}
}

// start runs a server on loopback and returns a function that asks it.
func start(t *testing.T, resolvConf string) func(name string, qtype uint16) *dns.Msg {
	t.Helper()
	health, target := &component.Health{}, freePort(t)
	server, err := New(Config{Client: fake.NewClientset(testObjects()...), ListenAddresses: []string{target}, ResolvConf: resolvConf, Health: health})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if err := component.Wait(t.Context(), func(error) {}, health.Err); err != nil {
		t.Fatal(err)
	}
	return func(name string, qtype uint16) *dns.Msg {
		t.Helper()
		client := &dns.Client{Timeout: 5 * time.Second}
		var reply *dns.Msg
		err := component.Wait(t.Context(), func(error) {}, func(context.Context) (err error) {
			reply, _, err = client.Exchange(new(dns.Msg).SetQuestion(name, qtype), target)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// texts are the answers without name and ttl, sorted.
func texts(records []dns.RR) string {
	var all []string
	for _, r := range records {
		all = append(all, strings.Join(strings.Fields(r.String())[3:], " "))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// The names of the DNS specification for Kubernetes, asked over the wire (S0-14).
func TestNamesOfTheCluster(t *testing.T) {
	ask := start(t, "/dev/null")
	for _, test := range []struct {
		what, name string
		qtype      uint16
		rcode      int
		want       string
	}{
		{"ClusterIP", "web.default.svc.cluster.local.", dns.TypeA, 0, "A 10.96.0.20"},
		{"case does not matter", "WEB.default.svc.Cluster.local.", dns.TypeA, 0, "A 10.96.0.20"},
		{"no IPv6 address is no error", "web.default.svc.cluster.local.", dns.TypeAAAA, 0, ""},
		{"unknown service", "nope.default.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"headless: the ready ones", "headless.default.svc.cluster.local.", dns.TypeA, 0, "A 10.244.0.5; A 10.244.0.6"},
		{"headless without endpoints", "empty.default.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"headless by hostname", "db-0.headless.default.svc.cluster.local.", dns.TypeA, 0, "A 10.244.0.5"},
		{"headless by address", "10-244-0-6.headless.default.svc.cluster.local.", dns.TypeA, 0, "A 10.244.0.6"},
		{"SRV of a ClusterIP", "_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, 0, "SRV 0 100 80 web.default.svc.cluster.local."},
		{"SRV of a headless one", "_sql._tcp.headless.default.svc.cluster.local.", dns.TypeSRV, 0,
			"SRV 0 100 5432 10-244-0-6.headless.default.svc.cluster.local.; SRV 0 100 5432 db-0.headless.default.svc.cluster.local."},
		{"SRV with another protocol", "_http._udp.web.default.svc.cluster.local.", dns.TypeSRV, dns.RcodeNameError, ""},
		{"ExternalName", "outside.default.svc.cluster.local.", dns.TypeA, 0, "A 10.96.0.20; CNAME web.default.svc.cluster.local."},
		{"pod", "10-244-0-9.default.pod.cluster.local.", dns.TypeA, 0, "A 10.244.0.9"},
		{"pod in no namespace", "10-244-0-9.nope.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"PTR of a ClusterIP", "20.0.96.10.in-addr.arpa.", dns.TypePTR, 0, "PTR web.default.svc.cluster.local."},
		{"PTR of an endpoint", "5.0.244.10.in-addr.arpa.", dns.TypePTR, 0, "PTR db-0.headless.default.svc.cluster.local."},
		{"version", "dns-version.cluster.local.", dns.TypeTXT, 0, `TXT "1.1.0"`},
		{"namespace", "default.svc.cluster.local.", dns.TypeA, 0, ""},
		{"outside, without resolvers", "example.com.", dns.TypeA, dns.RcodeServerFailure, ""},
	} {
		t.Run(test.what, func(t *testing.T) {
			reply := ask(test.name, test.qtype)
			if reply.Rcode != test.rcode || texts(reply.Answer) != test.want {
				t.Errorf("%s: %s %q; want %s %q", test.name, dns.RcodeToString[reply.Rcode], texts(reply.Answer), dns.RcodeToString[test.rcode], test.want)
			}
			if strings.HasSuffix(test.name, "cluster.local.") && len(reply.Answer) == 0 && texts(reply.Ns) == "" {
				t.Error("an empty answer bears no SOA: clients could not remember it")
			}
		})
	}
}

// Names outside the cluster are asked of the host's resolvers; those of the cluster never are.
func TestForwarding(t *testing.T) {
	asked := make(chan string, 100)
	upstream, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: upstream, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked <- q.Question[0].Name
		reply := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 192.0.2.7")
		reply.Answer = []dns.RR{rr}
		w.WriteMsg(reply)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })

	f := &forwarder{resolvers: []string{upstream.LocalAddr().String()}}
	reply := f.forward(new(dns.Msg).SetQuestion("example.com.", dns.TypeA), "udp")
	if texts(reply.Answer) != "A 192.0.2.7" {
		t.Errorf("forwarded answer: %q", texts(reply.Answer))
	}
	if name := <-asked; name != "example.com." {
		t.Errorf("the resolver was asked for %q", name)
	}
}

// A resolver that leads back here is noticed, and nothing is forwarded any more (R57).
func TestLoopIsNoticed(t *testing.T) {
	f, err := newForwarder("/dev/null", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{forwarder: f, zone: emptyZone(t)}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.resolvers = []string{conn.LocalAddr().String()} // the resolver is ourselves
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply, _ := s.answer(q, "udp")
		w.WriteMsg(reply)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	f.probeLoop(t.Context())
	if !f.looping.Load() {
		t.Fatal("the loop was not noticed")
	}
	if reply := f.forward(new(dns.Msg).SetQuestion("example.com.", dns.TypeA), "udp"); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("still forwarding: %s", dns.RcodeToString[reply.Rcode])
	}
}

func emptyZone(t *testing.T) *zone {
	t.Helper()
	z, err := newZone(fake.NewClientset(), "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// Our own addresses are no resolvers of ours.
func TestOwnAddressesAreLeftOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 10.96.0.10\nnameserver 192.0.2.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := newForwarder(file, []string{"10.96.0.10"})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.servers(); !slices.Equal(got, []string{"192.0.2.53:53"}) {
		t.Errorf("resolvers: %v", got)
	}
}

// The Service of cluster DNS is made once and its slice follows the address we have.
func TestKeepsItsService(t *testing.T) {
	client := fake.NewClientset()
	config := Config{Client: client, AdvertiseAddress: "192.0.2.1", ServiceAddress: "10.96.0.10"}
	for _, port := range []int32{1053, 2053} {
		if err := applyService(t.Context(), config, port); err != nil {
			t.Fatal(err)
		}
		slice, err := client.DiscoveryV1().EndpointSlices("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if *slice.Ports[0].Port != port || slice.Endpoints[0].Addresses[0] != "192.0.2.1" {
			t.Errorf("slice: %+v", slice)
		}
	}
	service, err := client.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
	if err != nil || service.Spec.ClusterIP != "10.96.0.10" {
		t.Errorf("service: %+v, %v", service, err)
	}
}

// What the record of the cluster says of a Service's names is what an answer would say, in each family.
func TestReportedRecords(t *testing.T) {
	z := emptyZone(t)
	both := service("web", "10.96.0.20", func(s *corev1.Service) { s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00:10:96::14") })
	got := z.serviceRecords(both)
	if want := []string{"web.default.svc.cluster.local A 10.96.0.20", "web.default.svc.cluster.local AAAA fd00:10:96::14"}; !slices.Equal(got, want) {
		t.Errorf("of a Service: %q", got)
	}
	if err := z.services.Add(service("headless", corev1.ClusterIPNone)); err != nil {
		t.Fatal(err)
	}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "headless"}},
		AddressType: discoveryv1.AddressTypeIPv6, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"fd00:10:244::5"}, Hostname: ptr.To("db-0")}}}
	if got := z.sliceRecords(slice); !slices.Equal(got, []string{"db-0.headless.default.svc.cluster.local AAAA fd00:10:244::5"}) {
		t.Errorf("of a headless Service's slice: %q", got)
	}
}
