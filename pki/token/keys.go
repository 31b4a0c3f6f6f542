// Package token signs the tokens of service accounts with the key of the data directory: JWTs (RFC 7519). It is
// on the ground floor because two components sign: the apiserver, who asks for a token (TokenRequest), and the
// controller manager, for Secrets of type kubernetes.io/service-account-token. Only the apiserver verifies.
//
//	sa.key ──LoadKeys──► Keys ──Sign(claims)──► "eyJ…"
//
// In Kubernetes: pkg/serviceaccount (jwt.go, legacy.go), k8s.io/client-go/util/keyutil.
package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/golang-jwt/jwt/v5"
)

// Sign makes a token of claims, with the first of keys that can.
func Sign(keys []Key, claims jwt.Claims) (string, error) {
	for _, k := range keys {
		if k.Private == nil {
			continue
		}
		token := jwt.NewWithClaims(jwt.GetSigningMethod(k.Algorithm), claims)
		delete(token.Header, "typ")
		token.Header["kid"] = k.ID
		return token.SignedString(k.Private)
	}
	return "", errors.New("no private key to sign service account tokens with")
}

// Key is one key of the issuer. ID is the "kid" of its tokens: the hash of the
// public key, so that it need not be configured anywhere.
type Key struct {
	ID        string
	Algorithm string // RS256, ES256, ES384 or ES512
	Public    crypto.PublicKey
	Private   crypto.Signer // nil when the key only verifies
}

// LoadKeys reads all keys of a PEM file. The first private one signs; every one verifies,
// so that a file with an old public key behind the new private one rotates without
// ending the tokens in use.
func LoadKeys(file string) ([]Key, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("service account key: %w", err)
	}
	keys, err := ParseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("service account key file %s: %w", file, err)
	}
	return keys, nil
}

// ParseKeys reads all keys of PEM data.
func ParseKeys(data []byte) ([]Key, error) {
	var keys []Key
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type == "EC PARAMETERS" {
			continue
		}
		parsed, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		key, err := newKey(parsed)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("holds no PEM encoded RSA or ECDSA key")
	}
	return keys, nil
}

func parseBlock(block *pem.Block) (any, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, fmt.Errorf("unknown PEM block %q", block.Type)
}

func newKey(parsed any) (Key, error) {
	var k Key
	switch p := parsed.(type) {
	case *rsa.PrivateKey:
		k.Private, k.Public = p, &p.PublicKey
	case *ecdsa.PrivateKey:
		k.Private, k.Public = p, &p.PublicKey
	case *rsa.PublicKey, *ecdsa.PublicKey:
		k.Public = p
	case ed25519.PrivateKey, ed25519.PublicKey:
		return k, fmt.Errorf("Ed25519 keys can't sign service account tokens: use RSA or ECDSA")
	default:
		return k, fmt.Errorf("unsupported key %T", parsed)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return k, err
	}
	sum := sha256.Sum256(der)
	k.ID = base64.RawURLEncoding.EncodeToString(sum[:])
	k.Algorithm = jwt.SigningMethodRS256.Alg()
	if ec, ok := k.Public.(*ecdsa.PublicKey); ok {
		switch ec.Curve {
		case elliptic.P256():
			k.Algorithm = jwt.SigningMethodES256.Alg()
		case elliptic.P384():
			k.Algorithm = jwt.SigningMethodES384.Alg()
		case elliptic.P521():
			k.Algorithm = jwt.SigningMethodES512.Alg()
		default:
			return k, fmt.Errorf("unsupported curve %s", ec.Curve.Params().Name)
		}
	}
	return k, nil
}
