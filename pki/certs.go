package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"time"

	"hyperkube/component/durable"
)

const (
	caLife    = 10 * 365 * 24 * time.Hour
	leafLife  = 2 * 365 * 24 * time.Hour
	renewal   = 90 * 24 * time.Hour // a leaf that ends sooner is made anew
	backdated = 24 * time.Hour      // clocks differ
)

// Pair names a certificate and its key on disk.
type Pair struct{ CertFile, KeyFile string }

// CAFile is the certificate that signs all others.
func (d *Dir) CAFile() string { return d.file("pki", "ca.crt") }

// CAKeyFile is the CA's key; the controller manager signs CSRs with it.
func (d *Dir) CAKeyFile() string { return d.file("pki", "ca.key") }

// ServiceAccountKeyFile is the private key that signs service account tokens.
func (d *Dir) ServiceAccountKeyFile() string { return d.file("pki", "sa.key") }

// ServingCert returns a serving certificate for hosts (names or addresses).
func (d *Dir) ServingCert(name string, hosts ...string) (Pair, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return d.leaf(name, template)
}

// ClientCert returns a client certificate for a user and its groups.
func (d *Dir) ClientCert(name, user string, groups ...string) (Pair, error) {
	return d.leaf(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// leaf returns the pair called name: the one on disk while it is good for
// template, else a new one.
func (d *Dir) leaf(name string, template *x509.Certificate) (Pair, error) {
	pair := Pair{CertFile: d.file("pki", name+".crt"), KeyFile: d.file("pki", name+".key")}
	unlock, err := d.lock()
	if err != nil {
		return Pair{}, err
	}
	defer unlock()
	if d.isGood(pair, template) {
		return pair, nil
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.NotBefore = d.now().Add(-backdated)
	template.NotAfter = d.now().Add(leafLife)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	cert, err := sign(template, d.ca, &key.PublicKey, d.caKey)
	if err != nil {
		return Pair{}, fmt.Errorf("signing certificate %s: %w", name, err)
	}
	return pair, errors.Join(writeKey(pair.KeyFile, key), writeCert(pair.CertFile, cert))
}

// isGood reports whether the pair on disk can go on serving: signed by our CA, for
// the same subject, names and use, with a matching key and time left.
func (d *Dir) isGood(pair Pair, want *x509.Certificate) bool {
	cert, err := readCert(pair.CertFile)
	if err != nil {
		return false
	}
	key, err := readKey(pair.KeyFile)
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		return false
	}
	return cert.CheckSignatureFrom(d.ca) == nil &&
		cert.Subject.CommonName == want.Subject.CommonName &&
		slices.Equal(cert.Subject.Organization, want.Subject.Organization) &&
		slices.Equal(cert.ExtKeyUsage, want.ExtKeyUsage) &&
		slices.Equal(cert.DNSNames, want.DNSNames) &&
		slices.EqualFunc(cert.IPAddresses, want.IPAddresses, net.IP.Equal) &&
		!cert.NotBefore.After(d.now()) && cert.NotAfter.After(d.now().Add(renewal))
}

func (d *Dir) ensureCA() error {
	cert, err := readCert(d.CAFile())
	if err == nil {
		if now := d.now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return fmt.Errorf("%s is valid from %s to %s, and this machine's clock says %s: set the clock, or remove the data directory",
				d.CAFile(), cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339), now.Format(time.RFC3339))
		}
		d.ca = cert
		d.caKey, err = readKey(d.CAKeyFile())
		return err
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		// A name of its own for each CA, so that a client which trusts two clusters can tell them apart.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s-ca@%d", d.Cluster.Name, d.now().Unix())},
		NotBefore:             d.now().Add(-backdated),
		NotAfter:              d.now().Add(caLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("signing the CA: %w", err)
	}
	// The key first: a certificate without its key would be taken for a finished CA.
	if err := errors.Join(writeKey(d.CAKeyFile(), key), writeCert(d.CAFile(), der)); err != nil {
		return err
	}
	d.caKey = key
	d.ca, err = x509.ParseCertificate(der)
	return err
}

func (d *Dir) ensureServiceAccountKey() error {
	_, err := readKey(d.ServiceAccountKeyFile())
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return errors.Join(durable.WriteFile(d.file("pki", "sa.pub"), block, 0o644), writeKey(d.ServiceAccountKeyFile(), key))
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, parentKey *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, template, parent, public, parentKey)
}

func writeCert(file string, der []byte) error {
	return durable.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return durable.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

func readCert(file string) (*x509.Certificate, error) {
	der, err := readPEM(file, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(file, "EC PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	return x509.ParseECPrivateKey(der)
}

func readPEM(file, kind string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(bytes.TrimSpace(data))
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: not a PEM file with a %s; remove it to have it made anew", file, kind)
	}
	return block.Bytes, nil
}
