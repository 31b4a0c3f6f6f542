// Package serviceaccount is what is true of a ServiceAccount.
//
// In Kubernetes: pkg/registry/core/serviceaccount/strategy.go.
package serviceaccount

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
)

// enforceMountableSecrets was to keep pods to the secrets that their account lists.
const enforceMountableSecrets = "kubernetes.io/enforce-mountable-secrets"

// KeepSecretNames leaves of the references to secrets the names: they are in the account's namespace anyway.
func KeepSecretNames(sa *v1.ServiceAccount) {
	for i, secret := range sa.Secrets {
		sa.Secrets[i] = v1.ObjectReference{Name: secret.Name}
	}
}

// Warnings tell who asks for it anew of an annotation that is on its way out; old is nil at a create.
func Warnings(sa, old *v1.ServiceAccount) []string {
	if old != nil {
		if _, had := old.Annotations[enforceMountableSecrets]; had {
			return nil
		}
	}
	if _, has := sa.Annotations[enforceMountableSecrets]; !has {
		return nil
	}
	return []string{fmt.Sprintf("metadata.annotations[%s]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets", enforceMountableSecrets)}
}
