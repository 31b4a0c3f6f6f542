// Package serviceaccount signs and verifies service account tokens: JWTs (RFC 7519)
// bound to the objects they were made for, so that a token ends with its pod.
//
//	TokenRequest ──ClaimsFor.New──► Claims ──Issuer.Sign──► "eyJ…"
//	"eyJ…" ──Issuer.Verify──► Claims ──Validator.Validate──► User (system:serviceaccount:ns:name)
//
// Neither stores anything: the signature says who made a token, the bound objects
// say whether it still counts. Keys (pki/token) and discovery documents
// (openidmetadata.go) let others verify tokens without asking the apiserver.
//
// The older tokens of Secrets do not expire; they count while their Secret bears them (legacy.go).
//
// Read first: Issuer.Verify, Validator.Validate, Claims.
//
// In Kubernetes: pkg/serviceaccount (jwt.go, claims.go, legacy.go, openidmetadata.go). Left out is the external signer.
package serviceaccount

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"hyperkube/pki/token"
)

// Issuer is one issuer of tokens: its name, its keys, its default audiences. It is
// safe for concurrent use.
type Issuer struct {
	// Name is the "iss" of all tokens, by convention a URL.
	Name string
	// Keys verify; the first with a private half signs.
	Keys []token.Key
	// Audiences are the names of this apiserver in "aud": a token without any of them is for
	// someone else.
	Audiences []string
}

// ErrNotOurs says that a token was issued by someone else: not an error of its bearer
// until every authenticator has said so.
var ErrNotOurs = errors.New("token was not issued here")

// Sign makes a token of c.
func (i *Issuer) Sign(c *Claims) (string, error) {
	c.Issuer = i.Name
	return token.Sign(i.Keys, c)
}

// Verify checks form, issuer, signature and audience, in this order, and returns the
// claims and the audiences common to the token and to audiences (all that the token must be
// good for; nil: the issuer's own). Time and bound objects are the
// Validator's.
func (i *Issuer) Verify(data string, audiences []string) (*Claims, []string, error) {
	if issuerOf(data) != i.Name {
		return nil, nil, ErrNotOurs
	}
	claims := &Claims{}
	if err := verifySignature(i.Keys, data, claims); err != nil {
		return nil, nil, err
	}
	if len(audiences) == 0 {
		audiences = i.Audiences
	}
	// A token from before audiences existed is good for the apiserver alone.
	tokenAudiences := []string(claims.Audience)
	if len(tokenAudiences) == 0 {
		tokenAudiences = i.Audiences
	}
	var common []string
	for _, a := range audiences {
		if slices.Contains(tokenAudiences, a) {
			common = append(common, a)
		}
	}
	if len(common) == 0 {
		return nil, nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", tokenAudiences, audiences)
	}
	return claims, common, nil
}

// issuerOf reads the issuer before the signature is checked: it decides only whether we look at
// the token at all. It is "" for what is no token.
func issuerOf(data string) string {
	if strings.Count(data, ".") != 2 {
		return ""
	}
	var unverified jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(data, &unverified); err != nil {
		return ""
	}
	return unverified.Issuer
}

// verifySignature tries the key that the token names, or every key when none has that
// id, and fills claims. The algorithm is the key's, never the token's choice.
func verifySignature(keys []token.Key, data string, claims jwt.Claims) error {
	candidates := keys
	if unverified, _, err := jwt.NewParser().ParseUnverified(data, &jwt.RegisteredClaims{}); err == nil {
		for n, k := range keys {
			if k.ID == unverified.Header["kid"] {
				candidates = keys[n : n+1]
			}
		}
	}
	var last error
	for _, k := range candidates {
		parser := jwt.NewParser(jwt.WithValidMethods([]string{k.Algorithm}), jwt.WithoutClaimsValidation())
		if _, last = parser.ParseWithClaims(data, claims, func(*jwt.Token) (any, error) { return k.Public, nil }); last == nil {
			return nil
		}
	}
	return fmt.Errorf("service account token: %w", last)
}

// NewIssuer makes the issuer called name with the keys of keyFile. The apiserver's own audience is the
// issuer's name.
func NewIssuer(keyFile, name string) (*Issuer, error) {
	keys, err := token.LoadKeys(keyFile)
	if err != nil {
		return nil, err
	}
	return &Issuer{Name: name, Keys: keys, Audiences: []string{name}}, nil
}
