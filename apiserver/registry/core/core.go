// Package core is the table of the core group ("v1"): one line a resource. What
// has rules of its own has a room below (pod, service, …); the others are here whole.
//
// In Kubernetes: pkg/registry/core/rest/storage_core.go.
package core

import (
	"crypto/tls"
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/core/configmap"
	"hyperkube/api/core/endpoints"
	"hyperkube/api/core/secret"
	"hyperkube/api/core/serviceaccount"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/core/connect"
	"hyperkube/apiserver/registry/core/event"
	"hyperkube/apiserver/registry/core/namespace"
	"hyperkube/apiserver/registry/core/node"
	"hyperkube/apiserver/registry/core/pod"
	"hyperkube/apiserver/registry/core/service"
	"hyperkube/apiserver/registry/core/token"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of the core group.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{
		namespace.Resource(env),
		with(node.Resource(env), connect.Node(env)),
		with(pod.Resource(env), connect.Pod(env)),
		pod.BindingResource(env),
		with(service.Resource(env), connect.Service(env)),
		event.Resource(env),
		endpointsResource(),
		configMaps(),
		secrets(),
		serviceAccounts(env),
		replicationControllers(env),
		podTemplates(),
		limitRanges(),
		resourceQuotas(),
		persistentVolumes(),
		persistentVolumeClaims(),
		componentStatuses(env),
	}
}

// with adds the subresources that open a connection to a kubelet or a pod.
func with(resource registry.Resource, connectors map[string]registry.Subresource) registry.Resource {
	subresources := maps.Clone(resource.Subresources)
	if subresources == nil {
		subresources = map[string]registry.Subresource{}
	}
	maps.Copy(subresources, connectors)
	resource.Subresources = subresources
	return resource
}

func endpointsResource() registry.Resource {
	return registry.Resource{
		Name: "endpoints", Singular: "endpoints", Kind: v1.SchemeGroupVersion.WithKind("Endpoints"),
		ShortNames: []string{"ep"},
		New:        func() runtime.Object { return &v1.Endpoints{} },
		NewList:    func() runtime.Object { return &v1.EndpointsList{} },
		Default:    typed.Default(endpoints.SetDefaults),
		Strategy: typed.Strategy[*v1.Endpoints]{
			Meta:           registry.MetaRules{NameAgain: true},
			CreateOnUpdate: true,
			Check:          endpoints.Validate,
			CheckUpdate:    endpoints.ValidateUpdate,
			Warn:           endpoints.Warnings,
		},
		Table:       endpointsTable,
		StorageRoot: "services/endpoints",
	}
}

func configMaps() registry.Resource {
	return registry.Resource{
		Name: "configmaps", Singular: "configmap", Kind: v1.SchemeGroupVersion.WithKind("ConfigMap"),
		ShortNames: []string{"cm"},
		New:        func() runtime.Object { return &v1.ConfigMap{} },
		NewList:    func() runtime.Object { return &v1.ConfigMapList{} },
		Strategy: typed.Strategy[*v1.ConfigMap]{
			Meta:        registry.MetaRules{NameAgain: true},
			Check:       configmap.Validate,
			CheckUpdate: configmap.ValidateUpdate,
		},
		Table: configMapTable,
	}
}

func secrets() registry.Resource {
	return registry.Resource{
		Name: "secrets", Singular: "secret", Kind: v1.SchemeGroupVersion.WithKind("Secret"),
		New:     func() runtime.Object { return &v1.Secret{} },
		NewList: func() runtime.Object { return &v1.SecretList{} },
		Default: typed.Default(secret.SetDefaults),
		Strategy: typed.Strategy[*v1.Secret]{
			Meta: registry.MetaRules{NameAgain: true},
			OnUpdate: func(s, old *v1.Secret) {
				if s.Type == "" {
					s.Type = old.Type
				}
			},
			Check:       secret.Validate,
			CheckUpdate: secret.ValidateUpdate,
			Warn:        secretWarnings,
		},
		Fields: typed.Fields(func(s *v1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} }),
		Table:  secretTable,
	}
}

// secretWarnings tells of a key that is not the certificate's.
func secretWarnings(s *v1.Secret) []string {
	if s.Type != v1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[v1.TLSCertKey], s.Data[v1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}

func serviceAccounts(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "serviceaccounts", Singular: "serviceaccount", Kind: v1.SchemeGroupVersion.WithKind("ServiceAccount"),
		ShortNames: []string{"sa"},
		New:        func() runtime.Object { return &v1.ServiceAccount{} },
		NewList:    func() runtime.Object { return &v1.ServiceAccountList{} },
		Strategy: typed.Strategy[*v1.ServiceAccount]{
			Meta:       registry.MetaRules{NameAgain: true},
			Name:       validation.ValidateServiceAccountName,
			OnCreate:   serviceaccount.KeepSecretNames,
			OnUpdate:   func(sa, old *v1.ServiceAccount) { serviceaccount.KeepSecretNames(sa) },
			Warn:       func(sa *v1.ServiceAccount) []string { return serviceaccount.Warnings(sa, nil) },
			WarnUpdate: serviceaccount.Warnings,
		},
		Table:               serviceAccountTable,
		ReturnDeletedObject: true,
		Subresources:        map[string]registry.Subresource{"token": token.Subresource(env)},
	}
}
