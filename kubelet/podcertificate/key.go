package podcertificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
)

// newKey makes a key of the given type: the key as PEM, and a certificate request (DER) that says nothing but that its
// sender holds the key.
func newKey(random io.Reader, keyType string) (key, stub []byte, err error) {
	private, err := generate(random, keyType)
	if err != nil {
		return nil, nil, err
	}
	stub, err = x509.CreateCertificateRequest(random, &x509.CertificateRequest{}, private)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), stub, nil
}

func generate(random io.Reader, keyType string) (crypto.Signer, error) {
	switch keyType {
	case "ED25519":
		_, private, err := ed25519.GenerateKey(random)
		return private, err
	case "ECDSAP256":
		return ecdsa.GenerateKey(elliptic.P256(), random)
	case "ECDSAP384":
		return ecdsa.GenerateKey(elliptic.P384(), random)
	case "ECDSAP521":
		return ecdsa.GenerateKey(elliptic.P521(), random)
	case "RSA3072":
		return rsa.GenerateKey(random, 3072)
	case "RSA4096":
		return rsa.GenerateKey(random, 4096)
	}
	return nil, fmt.Errorf("unknown key type %q", keyType)
}
