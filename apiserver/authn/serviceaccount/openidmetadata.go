package serviceaccount

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"slices"

	"hyperkube/pki/token"
)

// Paths of the discovery documents (OpenID Connect Discovery 1.0, section 4).
const (
	OpenIDConfigPath = "/.well-known/openid-configuration"
	JWKSPath         = "/openid/v1/jwks"
)

// openIDConfig is the part of the discovery document that verifiers of tokens need.
type openIDConfig struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
}

// jsonWebKey is a public key in the form of RFC 7517.
type jsonWebKey struct {
	Use       string `json:"use"`
	KeyType   string `json:"kty"`
	KeyID     string `json:"kid"`
	Curve     string `json:"crv,omitempty"`
	Algorithm string `json:"alg"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
}

// DiscoveryHandlers are the two documents, ready made: they change only with the keys.
// jwksBase is where others reach this apiserver ("https://host:port").
func (i *Issuer) DiscoveryHandlers(jwksBase string) map[string]http.Handler {
	config := openIDConfig{
		Issuer: i.Name, JWKSURI: jwksBase + JWKSPath,
		ResponseTypes: []string{"id_token"}, SubjectTypes: []string{"public"},
	}
	set := struct {
		Keys []jsonWebKey `json:"keys"`
	}{}
	for _, k := range i.Keys {
		if !slices.Contains(config.SigningAlgs, k.Algorithm) {
			config.SigningAlgs = append(config.SigningAlgs, k.Algorithm)
		}
		set.Keys = append(set.Keys, webKey(k))
	}
	return map[string]http.Handler{
		OpenIDConfigPath: document("application/json", config),
		JWKSPath:         document("application/jwk-set+json", set),
	}
}

func webKey(k token.Key) jsonWebKey {
	w := jsonWebKey{Use: "sig", KeyID: k.ID, Algorithm: k.Algorithm}
	switch p := k.Public.(type) {
	case *rsa.PublicKey:
		w.KeyType = "RSA"
		w.N = b64(p.N.Bytes())
		w.E = b64(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		w.KeyType, w.Curve = "EC", p.Curve.Params().Name
		// Uncompressed point: 0x04, X, Y, both padded to the curve's size.
		if point, err := p.Bytes(); err == nil {
			half := (len(point) - 1) / 2
			w.X, w.Y = b64(point[1:1+half]), b64(point[1+half:])
		}
	}
	return w
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func document(contentType string, v any) http.Handler {
	body, err := json.Marshal(v)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(body)
	})
}
