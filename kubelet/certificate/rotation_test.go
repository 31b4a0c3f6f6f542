package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// ca signs pairs for tests.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newCA(t *testing.T) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &ca{cert, key, file}
}

// pair signs template, good from an hour ago for life, or as template says.
func (c *ca) pair(t *testing.T, template x509.Certificate) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(99*time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, c.cert, &key.PublicKey, c.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func client(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: []string{organization}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func serving(hosts ...string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: "kubelet"}, DNSNames: hosts, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// TestThePairOnDisk: what an earlier life has left is used while it is good; what has
// run out, is of another cluster, node or address gives way to the seed. Otherwise a
// node that slept through its certificate's end, or has moved, could not come back (R106).
func TestThePairOnDisk(t *testing.T) {
	here, elsewhere := newCA(t), newCA(t)
	out := client("system:node:n1")
	out.NotBefore, out.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	for name, test := range map[string]struct {
		signer *ca
		left   x509.Certificate
		hosts  []string
		kept   bool
	}{
		"good":             {here, client("system:node:n1"), nil, true},
		"run out":          {here, out, nil, false},
		"another cluster":  {elsewhere, client("system:node:n1"), nil, false},
		"another node":     {here, client("system:node:n2"), nil, false},
		"good server":      {here, serving("n1"), []string{"n1"}, true},
		"another address":  {here, serving("n1"), []string{"n1", "n1.example"}, false},
		"a client's to be": {here, client("system:node:n1"), []string{"n1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			leave := Config{Directory: directory, NodeName: "n1", Hosts: test.hosts}
			leave.SeedCert, leave.SeedKey = test.signer.pair(t, test.left)
			left, err := New(leave)
			if err != nil {
				t.Fatal(err)
			}
			seed := client("system:node:n1")
			if test.hosts != nil {
				seed = serving(test.hosts...)
			}
			find := Config{Directory: directory, NodeName: "n1", Hosts: test.hosts, CAFile: here.file}
			find.SeedCert, find.SeedKey = here.pair(t, seed)
			found, err := New(find)
			if err != nil {
				t.Fatal(err)
			}
			if kept := found.current.Leaf.SerialNumber.Cmp(left.current.Leaf.SerialNumber) == 0; kept != test.kept {
				t.Errorf("the pair on disk was kept: %v", kept)
			}
			if _, err := found.Current(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDue: a pair is renewed between 70 and 90 % of its life, and at once when that
// is past; what has run out is not handed out.
func TestDue(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	cfg := Config{Directory: t.TempDir(), NodeName: "n1", Clock: clock}
	cfg.SeedCert, cfg.SeedKey = newCA(t).pair(t, client("system:node:n1")) // an hour of a hundred is over
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[time.Duration]bool{}
	for range 100 {
		wait := r.untilDue()
		if wait < 68*time.Hour || wait > 90*time.Hour {
			t.Fatalf("due in %v", wait)
		}
		seen[wait] = true
	}
	if len(seen) < 50 {
		t.Error("nodes made together would ask together")
	}
	clock.Step(95 * time.Hour)
	if wait := r.untilDue(); wait != 0 {
		t.Errorf("due in %v", wait)
	}
	clock.Step(5 * time.Hour)
	if _, err := r.Current(); err == nil {
		t.Error("a certificate that has run out is handed out")
	}
}
