package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func openAt(t *testing.T, path string, now time.Time) *Dir {
	t.Helper()
	d, err := open(path, DefaultCluster(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Components that start at once agree on one CA, whoever comes first (R12, R17).
func TestOpenAtOnceAgrees(t *testing.T) {
	path := t.TempDir()
	var all sync.WaitGroup
	cas := make([]string, 8)
	for i := range cas {
		all.Go(func() {
			d, err := Open(path, DefaultCluster())
			if err != nil {
				t.Error(err)
				return
			}
			cas[i] = string(d.ca.Raw)
		})
	}
	all.Wait()
	for _, ca := range cas {
		if ca != cas[0] {
			t.Fatal("two components made two CAs")
		}
	}
}

// What stands in cluster.yaml counts, not the defaults of a later start.
func TestClusterStands(t *testing.T) {
	path := t.TempDir()
	first := DefaultCluster()
	first.Name, first.ServiceCIDR = "other", "10.50.0.0/16"
	if _, err := Open(path, first); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path, DefaultCluster())
	if err != nil {
		t.Fatal(err)
	}
	if d.Cluster.Name != "other" || d.Cluster.DNSAddress != "10.50.0.10" {
		t.Errorf("cluster: %+v", d.Cluster)
	}
	if err := d.Update(func(c *Cluster) { c.APIServerPort = 12345 }); err != nil {
		t.Fatal(err)
	}
	if c, err := ReadCluster(path); err != nil || c.APIServerURL() != "https://127.0.0.1:12345" {
		t.Errorf("recorded port: %+v, %v", c, err)
	}
}

// A cluster of two families: flags have both ranges, and the apiserver's certificate is for the first address of each.
func TestTwoFamilies(t *testing.T) {
	c := DefaultCluster()
	if got, err := c.KubernetesServiceAddresses(); err != nil || strings.Join(got, " ") != "10.96.0.1" || c.DualStack() || c.PodCIDRs() != "10.244.0.0/16" {
		t.Errorf("one family: %v %v %s", got, err, c.PodCIDRs())
	}
	c.SecondaryPodCIDR, c.SecondaryServiceCIDR = "fd00:1::/56", "fd00:2::/112"
	d, err := Open(t.TempDir(), c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Cluster.KubernetesServiceAddresses()
	if err != nil || strings.Join(got, " ") != "10.96.0.1 fd00:2::1" || !d.Cluster.DualStack() {
		t.Errorf("two families: %v %v", got, err)
	}
	if ranges := d.Cluster.PodCIDRs() + " " + d.Cluster.ServiceCIDRs(); ranges != "10.244.0.0/16,fd00:1::/56 10.96.0.0/16,fd00:2::/112" {
		t.Errorf("ranges %s", ranges)
	}
}

func TestBadClusterIsRefused(t *testing.T) {
	for want, change := range map[string]func(*Cluster){
		"overlap":                   func(c *Cluster) { c.PodCIDR = "10.96.0.0/12" },
		"must be an address within": func(c *Cluster) { c.DNSAddress = "192.0.2.1" },
		"version 2":                 func(c *Cluster) { c.Version = 2 },
		"name":                      func(c *Cluster) { c.Name = "Foo_Bar" },
		"too small":                 func(c *Cluster) { c.ServiceCIDR = "10.96.0.0/30" },
		"needs both":                func(c *Cluster) { c.SecondaryPodCIDR = "fd00:1::/56" },
		"must be an IPv6 range":     func(c *Cluster) { c.SecondaryPodCIDR, c.SecondaryServiceCIDR = "10.0.0.0/16", "fd00:2::/112" },
		"secondaryServiceCIDR fd00:1::/112 overlap": func(c *Cluster) { c.SecondaryPodCIDR, c.SecondaryServiceCIDR = "fd00:1::/56", "fd00:1::/112" },
	} {
		c := DefaultCluster()
		change(&c)
		if _, err := Open(t.TempDir(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

// A leaf lives two years, is valid from the day before, and is kept until 90
// days before its end (R76).
func TestLeafLife(t *testing.T) {
	path, now := t.TempDir(), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	serial := func(at time.Time, hosts ...string) string {
		t.Helper()
		pair, err := openAt(t, path, at).ServingCert("apiserver", hosts...)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := readCert(pair.CertFile)
		if err != nil {
			t.Fatal(err)
		}
		if cert.NotBefore.After(at.Add(-23*time.Hour)) || cert.NotAfter.Before(at.Add(renewal)) {
			t.Errorf("at %s: valid from %s to %s", at, cert.NotBefore, cert.NotAfter)
		}
		if _, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile); err != nil {
			t.Error(err)
		}
		return cert.SerialNumber.String()
	}
	first := serial(now, "localhost", "127.0.0.1")
	if serial(now.Add(time.Hour), "localhost", "127.0.0.1") != first {
		t.Error("a good certificate was replaced")
	}
	if serial(now.Add(leafLife-renewal+time.Hour), "localhost", "127.0.0.1") == first {
		t.Error("a certificate with less than 90 days left was kept")
	}
	again := serial(now, "localhost", "127.0.0.1")
	if serial(now, "localhost", "192.0.2.1") == again {
		t.Error("a certificate for other names was kept")
	}
}

// A clock outside the CA's life is named, with what to do (R76).
func TestWrongClockIsNamed(t *testing.T) {
	path, now := t.TempDir(), time.Now()
	openAt(t, path, now)
	_, err := open(path, DefaultCluster(), func() time.Time { return now.Add(-48 * time.Hour) })
	if err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("got %v", err)
	}
}

// A kubeconfig works as it is: it verifies the server and names its user.
func TestKubeconfig(t *testing.T) {
	d := openAt(t, t.TempDir(), time.Now())
	file, err := d.WriteAdminKubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || leaf.Subject.CommonName != "kubernetes-admin" || leaf.Subject.Organization[0] != "system:masters" {
		t.Errorf("subject: %v, %v", leaf.Subject, err)
	}
	if config.Host != "https://127.0.0.1:6443" {
		t.Errorf("server: %s", config.Host)
	}
}

// A second instance on the same directory is told who holds it.
func TestClaim(t *testing.T) {
	d := openAt(t, t.TempDir(), time.Now())
	release, err := d.Claim("all")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Claim("all"); err == nil || !strings.Contains(err.Error(), "in use by another") {
		t.Errorf("second claim: %v", err)
	}
	release()
	again, err := d.Claim("all")
	if err != nil {
		t.Fatalf("claim after release: %v", err)
	}
	again()
}

// A broken key is named, never silently replaced.
func TestBrokenKeyIsNamed(t *testing.T) {
	path := t.TempDir()
	openAt(t, path, time.Now())
	if err := os.WriteFile(filepath.Join(path, "pki", "ca.key"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, DefaultCluster()); err == nil || !strings.Contains(err.Error(), "ca.key") {
		t.Errorf("got %v", err)
	}
}
