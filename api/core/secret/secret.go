// Package secret is what is true of a Secret: its type and the keys that type
// must have, its size, its immutability.
//
// In Kubernetes: SetDefaults_Secret, ValidateSecret and ValidateSecretUpdate; the
// fold of stringData into data is pkg/apis/core/v1/conversion.go.
package secret

import (
	"encoding/json"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// SetDefaults makes a secret Opaque and folds stringData, which is write-only,
// into data.
func SetDefaults(s *v1.Secret) {
	if s.Type == "" {
		s.Type = v1.SecretTypeOpaque
	}
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

// Validate checks keys, size, and what the type asks for.
func Validate(s *v1.Secret) field.ErrorList {
	var errs field.ErrorList
	data := field.NewPath("data")
	size := 0
	for key, value := range s.Data {
		errs = append(errs, rule.All(validation.IsConfigMapKey(key), data.Key(key), key)...)
		size += len(value)
	}
	if size > v1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "", v1.MaxSecretSize))
	}
	return append(errs, validateType(s, data)...)
}

func validateType(s *v1.Secret, data *field.Path) field.ErrorList {
	require := func(keys ...string) (errs field.ErrorList) {
		for _, key := range keys {
			if _, ok := s.Data[key]; !ok {
				errs = append(errs, field.Required(data.Key(key), ""))
			}
		}
		return errs
	}
	switch s.Type {
	case v1.SecretTypeServiceAccountToken:
		if s.Annotations[v1.ServiceAccountNameKey] == "" {
			return field.ErrorList{field.Required(field.NewPath("metadata", "annotations").Key(v1.ServiceAccountNameKey), "")}
		}
	case v1.SecretTypeDockercfg:
		return validateJSON(s, v1.DockerConfigKey, data)
	case v1.SecretTypeDockerConfigJson:
		return validateJSON(s, v1.DockerConfigJsonKey, data)
	case v1.SecretTypeBasicAuth:
		_, user := s.Data[v1.BasicAuthUsernameKey]
		_, password := s.Data[v1.BasicAuthPasswordKey]
		if !user && !password {
			return require(v1.BasicAuthUsernameKey, v1.BasicAuthPasswordKey)
		}
	case v1.SecretTypeSSHAuth:
		if len(s.Data[v1.SSHAuthPrivateKey]) == 0 {
			return field.ErrorList{field.Required(data.Key(v1.SSHAuthPrivateKey), "")}
		}
	case v1.SecretTypeTLS:
		return require(v1.TLSCertKey, v1.TLSPrivateKeyKey)
	}
	return nil
}

func validateJSON(s *v1.Secret, key string, data *field.Path) field.ErrorList {
	value, ok := s.Data[key]
	if !ok {
		return field.ErrorList{field.Required(data.Key(key), "")}
	}
	if err := json.Unmarshal(value, &map[string]any{}); err != nil {
		return field.ErrorList{field.Invalid(data.Key(key), "<secret contents redacted>", err.Error())}
	}
	return nil
}

// ValidateUpdate: the type never changes; an immutable secret nothing but its metadata.
func ValidateUpdate(s, old *v1.Secret) field.ErrorList {
	errs := rule.Immutable(s.Type, old.Type, field.NewPath("type"))
	if ptr.Deref(old.Immutable, false) {
		const message = "field is immutable when `immutable` is set"
		if !ptr.Deref(s.Immutable, false) {
			errs = append(errs, field.Forbidden(field.NewPath("immutable"), message))
		}
		if !equality.Semantic.DeepEqual(s.Data, old.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), message))
		}
	}
	return append(errs, Validate(s)...)
}
