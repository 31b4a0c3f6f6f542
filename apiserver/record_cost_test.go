package apiserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/apiserver/flowapi"
	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
	"hyperkube/etcd"
	"hyperkube/etcd/etcdtest"
	"hyperkube/flow"
	"hyperkube/pki"
)

// direct is an apiserver whose handler is called as net/http would, but without a network.
type direct struct {
	testing.TB
	server *Server
	tls    tls.ConnectionState
}

// startDirect runs an apiserver on an etcd of its own; buffer is its FlowBuffer.
func startDirect(t testing.TB, buffer int) *direct {
	t.Helper()
	dir, err := pki.Open(t.TempDir(), pki.DefaultCluster())
	if err != nil {
		t.Fatal(err)
	}
	serving, err := dir.ServingCert("apiserver", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := dir.ClientCert("admin", "kubernetes-admin", "system:masters")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(admin.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	d := &direct{TB: t, tls: tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}}
	d.server, err = New(Config{BindAddress: "127.0.0.1:0", AdvertiseAddress: "192.0.2.1", CertFile: serving.CertFile, KeyFile: serving.KeyFile, ClientCAFile: dir.CAFile(),
		ServiceAccountKeyFile: dir.ServiceAccountKeyFile(), EtcdServers: []string{etcdtest.Start(t).Endpoint}, LocalEtcd: etcd.Local, FlowBuffer: buffer})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := d.server.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.post("serviceaccounts", &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	return d
}

// post creates an object of a resource.
func (d *direct) post(resource string, object metav1.Object) {
	d.Helper()
	body, err := json.Marshal(object)
	if err != nil {
		d.Fatal(err)
	}
	d.do(http.MethodPost, resource, body)
}

// do asks for a path in the default namespace, and returns the answer.
func (d *direct) do(method, path string, body []byte) []byte {
	r := httptest.NewRequest(method, "/api/v1/namespaces/default/"+path, bytes.NewReader(body))
	r.TLS = &d.tls
	r.Header.Set("User-Agent", "kubectl/v1.37")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	w := httptest.NewRecorder()
	if d.server.handler.ServeHTTP(w, r); w.Code >= http.StatusBadRequest {
		d.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// writes are creates as kubectl's, of an object that admission changes and of one that it does not.
var writes = []struct {
	resource string
	object   func(name string) metav1.Object
}{
	{"configmaps", func(name string) metav1.Object {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"key": "value"}}
	}},
	{"pods", func(name string) metav1.Object {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "demo", Image: "hyperkube.local/demo",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}}}}}
	}},
}

// Issue 3: with the record on, a write costs at most two allocations more, whatever admission does with it. What etcd and
// the watch cache allocate meanwhile would blur that, so the request goes the whole way but for etcd (a dry run), and the
// record of the write is counted apart.
func TestRecordAllocatesLittle(t *testing.T) {
	off, on := startDirect(t, -1), startDirect(t, 0)
	tell, written := flowapi.OnWrite(on.server.record), storage.Written{Key: "default/a", Revision: 1, New: make([]byte, 1000)}
	info := &request.Info{}
	ctx := request.WithInfo(t.Context(), info)
	wrote := testing.AllocsPerRun(500, func() {
		info.Flow = &flow.Request{}
		tell(ctx, written)
	}) - 1 // the Request, which the handler has too
	if len(info.Flow.Writes()) != 1 {
		t.Fatal("the write is not recorded")
	}
	for _, w := range writes {
		// What the servers do beside it (their leases, their flow schemas) counts too, in some of the rounds: the least is the request's own.
		allocations := func(d *direct) float64 {
			least := math.Inf(1)
			for range 5 {
				least = min(least, testing.AllocsPerRun(200, func() { d.post(w.resource+"?dryRun=All", w.object("object")) }))
			}
			return least
		}
		without, with := allocations(off), allocations(on)
		t.Logf("%s: %.0f allocations with the record and %.0f of its write, %.0f without it", w.resource, with, wrote, without)
		if with+wrote > without+2 {
			t.Error("want 2 more at most")
		}
	}
}

// BenchmarkCreate is one client's creates through the whole handler, with the record off and on.
func BenchmarkCreate(b *testing.B) {
	for _, w := range writes {
		for _, record := range []struct {
			name   string
			buffer int
		}{{"off", -1}, {"on", 0}} {
			b.Run(w.resource+"/"+record.name, func(b *testing.B) {
				d := startDirect(b, record.buffer)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					d.post(w.resource, w.object(fmt.Sprint("object-", i)))
				}
			})
		}
	}
}
