package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/request"
)

// caCheckInterval is how often a request looks whether the CA file has changed.
const caCheckInterval = 10 * time.Second

// uidOID is the attribute of a certificate's subject that bears the user's uid.
var uidOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}

// x509Authenticator knows users by their client certificates. It looks at the CA file
// on use rather than by a watcher: it has no goroutine to stop, and a CA changes about
// once a year.
type x509Authenticator struct {
	file  string
	clock clock.PassiveClock

	mu       sync.Mutex
	roots    *x509.CertPool
	modified time.Time
	checked  time.Time
	// verified are the chains that roots have verified; emptied with each change of roots.
	verified map[[sha256.Size]byte]verifiedChain
}

// verifiedChain is who a chain of certificates proves to be, and until when.
type verifiedChain struct {
	user  request.User
	until time.Time
}

// maxVerified bounds the chains remembered: beyond it all are forgotten.
const maxVerified = 1000

func newX509(file string, c clock.PassiveClock) (*x509Authenticator, error) {
	a := &x509Authenticator{file: file, clock: c}
	if err := a.reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// authenticate returns the user of chain[0], if a CA of ours signed it for client use.
// A connection brings the same chain with every request, and to verify its signature
// costs as much as to read an object: what was verified once is remembered.
func (a *x509Authenticator) authenticate(chain []*x509.Certificate) (*request.User, error) {
	hash := sha256.New()
	for _, c := range chain {
		hash.Write(c.Raw)
	}
	key := [sha256.Size]byte(hash.Sum(nil))
	roots, known, found := a.lookUp(key)
	if !found {
		var err error
		if known, err = a.verify(chain, roots); err != nil {
			return nil, err
		}
		a.remember(key, roots, known)
	}
	user := known.user
	user.Groups = slices.Clone(user.Groups)
	user.Extra = maps.Clone(user.Extra)
	return &user, nil
}

func (a *x509Authenticator) verify(chain []*x509.Certificate, roots *x509.CertPool) (verifiedChain, error) {
	leaf := chain[0]
	opts := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CurrentTime:   a.clock.Now(),
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	paths, err := leaf.Verify(opts)
	if err != nil {
		return verifiedChain{}, fmt.Errorf("verifying certificate SN=%s, CN=%q failed: %w", leaf.SerialNumber, leaf.Subject.CommonName, err)
	}
	if leaf.Subject.CommonName == "" {
		return verifiedChain{}, fmt.Errorf("certificate SN=%s has no common name: it names no user", leaf.SerialNumber)
	}
	uid, err := uidOf(leaf)
	if err != nil {
		return verifiedChain{}, err
	}
	until := leaf.NotAfter
	for _, c := range paths[0] {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	sum := sha256.Sum256(leaf.Raw)
	return verifiedChain{until: until, user: request.User{
		Name:   leaf.Subject.CommonName,
		UID:    uid,
		Groups: leaf.Subject.Organization,
		Extra:  map[string][]string{serviceaccount.CredentialIDKey: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
		Authn:  "client certificate " + leaf.Subject.String() + " of " + leaf.Issuer.String(),
	}}, nil
}

func uidOf(leaf *x509.Certificate) (string, error) {
	uid := ""
	for _, name := range leaf.Subject.Names {
		if !name.Type.Equal(uidOID) {
			continue
		}
		value, ok := name.Value.(string)
		if !ok || value == "" || uid != "" {
			return "", fmt.Errorf("certificate SN=%s: the uid attribute must be one string that is not empty", leaf.SerialNumber)
		}
		uid = value
	}
	return uid, nil
}

// lookUp returns the CAs, and what they have verified before. It reads the file again if
// that has changed. A file that is gone or half written leaves the CAs as they were: the
// next look will find it whole.
func (a *x509Authenticator) lookUp(key [sha256.Size]byte) (*x509.CertPool, verifiedChain, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	if now.Sub(a.checked) >= caCheckInterval {
		a.checked = now
		if info, err := os.Stat(a.file); err == nil && !info.ModTime().Equal(a.modified) {
			_ = a.reload()
		}
	}
	known, found := a.verified[key]
	return a.roots, known, found && !now.After(known.until)
}

// remember keeps what roots have verified, unless they were replaced meanwhile.
func (a *x509Authenticator) remember(key [sha256.Size]byte, roots *x509.CertPool, known verifiedChain) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.roots != roots {
		return
	}
	if len(a.verified) >= maxVerified {
		clear(a.verified)
	}
	a.verified[key] = known
}

func (a *x509Authenticator) reload() error {
	info, err := os.Stat(a.file)
	if err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	data, err := os.ReadFile(a.file)
	if err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return fmt.Errorf("client CA: %s holds no certificate", a.file)
	}
	a.roots, a.modified, a.checked = roots, info.ModTime(), a.clock.Now()
	a.verified = map[[sha256.Size]byte]verifiedChain{}
	return nil
}
