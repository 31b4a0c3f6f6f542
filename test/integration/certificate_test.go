package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/client/informers"
	"hyperkube/controllers/certificates"
	"hyperkube/kubelet/certificate"
	"hyperkube/reconcile"
)

// aging signs a pair with the cluster's CA of whose life 95 % are over: its time has come.
func (c *Cluster) aging(use x509.ExtKeyUsage, hosts ...string) (certPEM, keyPEM []byte) {
	c.t.Helper()
	authority, err := tls.LoadX509KeyPair(c.Dir.CAFile(), c.Dir.CAKeyFile())
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-19 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}, ExtKeyUsage: []x509.ExtKeyUsage{use}}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.Leaf, &key.PublicKey, authority.PrivateKey)
	if err != nil {
		c.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// A kubelet's certificates near their end are renewed by requests to the apiserver
// while it runs: the client's by itself, on new connections; the server's once a
// person has approved it, from the next handshake on (R106).
func TestKubeletCertificatesAreRenewed(t *testing.T) {
	c := Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	c.signRequests(ctx, &running)
	directory := t.TempDir()
	configure := func(hosts ...string) *certificate.Rotation {
		use := x509.ExtKeyUsageClientAuth
		if len(hosts) > 0 {
			use = x509.ExtKeyUsageServerAuth
		}
		cfg := certificate.Config{Directory: directory, NodeName: "n1", Hosts: hosts, CAFile: c.Dir.CAFile()}
		cfg.SeedCert, cfg.SeedKey = c.aging(use, hosts...)
		rotation, err := certificate.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return rotation
	}
	shown, served := configure(), configure("127.0.0.1", "n1")
	node := c.nodeClient(t, shown)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: served.GetCertificate, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.PeerCertificates[0].SerialNumber)
	})}
	running.Go(func() { server.Serve(listener) })
	defer server.Close()
	peer := c.peerOf("https://"+listener.Addr().String(), shown)
	seenBefore, servedBefore := peer(t)
	if seenBefore != current(t, shown).Leaf.SerialNumber.String() {
		t.Fatalf("the server saw the certificate %q", seenBefore)
	}
	running.Go(func() { shown.Run(ctx, node) })
	soon(t, "the client shows a new certificate on connections it had", func() error {
		if seen, _ := peer(t); seen == seenBefore {
			return fmt.Errorf("still %s", seen)
		}
		return nil
	})
	if who, err := node.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}); err != nil || who.Status.UserInfo.Username != "system:node:n1" {
		t.Errorf("with its new certificate the node is %+v, %v", who, err)
	}
	running.Go(func() { served.Run(ctx, node) })
	c.approveServing(t)
	soon(t, "the server serves with a new certificate", func() error {
		if _, now := peer(t); now == servedBefore {
			return fmt.Errorf("still %s", now)
		}
		return nil
	})
	// What was written is what the next life begins with.
	for _, name := range []string{"kubelet-client", "kubelet-server"} {
		pair, err := tls.LoadX509KeyPair(directory+"/"+name+"-current.pem", directory+"/"+name+"-current.pem")
		if err != nil || time.Until(pair.Leaf.NotAfter) < 300*24*time.Hour {
			t.Errorf("%s on disk: %v, until %v", name, err, pair.Leaf.NotAfter)
		}
	}
}

// signRequests runs the cluster's approver and signer.
func (c *Cluster) signRequests(ctx context.Context, running *sync.WaitGroup) {
	c.t.Helper()
	cert, certErr := os.ReadFile(c.Dir.CAFile())
	key, keyErr := os.ReadFile(c.Dir.CAKeyFile())
	if certErr != nil || keyErr != nil {
		c.t.Fatal(certErr, keyErr)
	}
	factory := informers.NewSharedInformerFactory(c.Client, 0)
	signer, err := certificates.NewSigner(c.Client, factory, certificates.SignerConfig{Cert: cert, Key: key}, reconcile.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	approver := certificates.NewApprover(c.Client, factory, reconcile.Options{})
	factory.Start(ctx.Done())
	running.Go(func() { signer.Run(ctx) })
	running.Go(func() { approver.Run(ctx) })
}

// nodeClient is a client of the apiserver by the rotation's certificate.
func (c *Cluster) nodeClient(t *testing.T, rotation *certificate.Rotation) kubernetes.Interface {
	t.Helper()
	config, err := rotation.Transport(&rest.Config{Host: c.Config.Host, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAFile: c.Dir.CAFile()}})
	if err != nil {
		t.Fatal(err)
	}
	return clientFor(t, config)
}

// peerOf asks a server over a connection that is kept: whose certificate it saw, and which one it showed.
func (c *Cluster) peerOf(url string, rotation *certificate.Rotation) func(*testing.T) (seen, shown string) {
	c.t.Helper()
	config, err := rotation.Transport(&rest.Config{Host: url, TLSClientConfig: rest.TLSClientConfig{CAFile: c.Dir.CAFile()}})
	if err != nil {
		c.t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		c.t.Fatal(err)
	}
	return func(t *testing.T) (string, string) {
		t.Helper()
		response, err := client.Get(url)
		if err != nil {
			return "", "" // the connection was closed under the request
		}
		defer response.Body.Close()
		var serial string
		fmt.Fscan(response.Body, &serial)
		// A handshake of its own: a connection that is kept shows the certificate it was opened with.
		conn, err := tls.Dial("tcp", response.Request.URL.Host, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{current(t, rotation)}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return serial, conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
}

func current(t *testing.T, rotation *certificate.Rotation) tls.Certificate {
	t.Helper()
	pair, err := rotation.Current()
	if err != nil {
		t.Fatal(err)
	}
	return *pair
}

// approveServing is a person who runs `kubectl certificate approve`.
func (c *Cluster) approveServing(t *testing.T) {
	t.Helper()
	soon(t, "a request for a serving certificate is there", func() error {
		list, err := c.Client.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, request := range list.Items {
			if request.Spec.SignerName != certificatesv1.KubeletServingSignerName {
				continue
			}
			if len(request.Status.Conditions) > 0 {
				t.Errorf("a serving certificate was approved by nobody: %+v", request.Status)
			}
			request.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test", Message: "yes"}}
			_, err := c.Client.CertificatesV1().CertificateSigningRequests().UpdateApproval(t.Context(), request.Name, &request, metav1.UpdateOptions{})
			return err
		}
		return fmt.Errorf("%d requests", len(list.Items))
	})
}
