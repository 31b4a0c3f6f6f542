package apiserver

import (
	"bytes"
	"os"
	"testing"
	"time"

	"hyperkube/pki"
)

// A renewed certificate is served without a restart; a broken file changes nothing.
func TestServingCertIsReadAgain(t *testing.T) {
	dir, err := pki.Open(t.TempDir(), pki.DefaultCluster())
	if err != nil {
		t.Fatal(err)
	}
	first, err := dir.ServingCert("first", "a.example")
	if err != nil {
		t.Fatal(err)
	}
	second, err := dir.ServingCert("second", "b.example")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newServingCert(first.CertFile, first.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	served := func() []byte {
		t.Helper()
		c.checked = time.Time{} // the interval is over
		certificate, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return certificate.Certificate[0]
	}
	before := served()
	replace := func(to string, data []byte, at time.Time) {
		t.Helper()
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(to, at, at); err != nil {
			t.Fatal(err)
		}
	}
	replace(first.CertFile, []byte("half"), time.Unix(1e9, 0))
	if !bytes.Equal(served(), before) {
		t.Error("a broken file changed what is served")
	}
	key, err := os.ReadFile(second.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := os.ReadFile(second.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	replace(first.KeyFile, key, time.Unix(1e9, 0))
	replace(first.CertFile, certificate, time.Unix(1e9+1, 0))
	if bytes.Equal(served(), before) {
		t.Error("the old certificate is served still")
	}
}
