package token

import (
	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
)

// LegacyIssuer is the "iss" of the tokens of Secrets.
const LegacyIssuer = "kubernetes/serviceaccount"

// LegacyClaims is the body of the token of a Secret: it names no audience and never expires, and is good as long as the Secret
// bears it.
type LegacyClaims struct {
	jwt.RegisteredClaims
	Namespace          string `json:"kubernetes.io/serviceaccount/namespace"`
	SecretName         string `json:"kubernetes.io/serviceaccount/secret.name"`
	ServiceAccountName string `json:"kubernetes.io/serviceaccount/service-account.name"`
	ServiceAccountUID  string `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// NewLegacyClaims are the claims for a Secret of account.
func NewLegacyClaims(account *corev1.ServiceAccount, secret *corev1.Secret) *LegacyClaims {
	return &LegacyClaims{
		RegisteredClaims: jwt.RegisteredClaims{Issuer: LegacyIssuer, Subject: "system:serviceaccount:" + account.Namespace + ":" + account.Name},
		Namespace:        account.Namespace, SecretName: secret.Name, ServiceAccountName: account.Name, ServiceAccountUID: string(account.UID),
	}
}
