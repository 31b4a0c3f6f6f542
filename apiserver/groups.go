package apiserver

import (
	"context"
	"errors"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission"
	"hyperkube/apiserver/audit"
	"hyperkube/apiserver/authn"
	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/authz"
	"hyperkube/apiserver/authz/node"
	"hyperkube/apiserver/endpoints"
	"hyperkube/apiserver/flowcontrol"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/admissionregistration"
	"hyperkube/apiserver/registry/apps"
	"hyperkube/apiserver/registry/authentication"
	"hyperkube/apiserver/registry/authorization"
	"hyperkube/apiserver/registry/autoscaling"
	"hyperkube/apiserver/registry/batch"
	"hyperkube/apiserver/registry/certificates"
	"hyperkube/apiserver/registry/coordination"
	"hyperkube/apiserver/registry/core"
	"hyperkube/apiserver/registry/discovery"
	"hyperkube/apiserver/registry/events"
	registryflowcontrol "hyperkube/apiserver/registry/flowcontrol"
	"hyperkube/apiserver/registry/networking"
	registrynode "hyperkube/apiserver/registry/node"
	"hyperkube/apiserver/registry/policy"
	"hyperkube/apiserver/registry/rbac"
	"hyperkube/apiserver/registry/resource"
	"hyperkube/apiserver/registry/scheduling"
	registrystorage "hyperkube/apiserver/registry/storage"
	"hyperkube/apiserver/registry/storagemigration"
	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
)

// groups are the API groups in the order of discovery: kubectl takes the first that
// knows a short name. Each line is one group's table.
func groups(env *registry.Env) [][]registry.Resource {
	return [][]registry.Resource{
		core.Resources(env),
		apps.Resources(env),
		events.Resources(env),
		authentication.Resources(env),
		authorization.Resources(env),
		autoscaling.Resources(env),
		batch.Resources(env),
		certificates.Resources(env),
		networking.Resources(env),
		policy.Resources(env),
		rbac.Resources(env),
		registrystorage.Resources(env),
		admissionregistration.Resources(env),
		scheduling.Resources(env),
		coordination.Resources(env),
		registrynode.Resources(env),
		discovery.Resources(env),
		resource.Resources(env),
		registryflowcontrol.Resources(env),
		storagemigration.Resources(env),
	}
}

// installGroups makes the store of every resource, and the scope of every endpoint.
func (s *Server) installGroups() ([]*endpoints.APIGroupVersion, error) {
	var versions []*endpoints.APIGroupVersion
	byVersion := map[schema.GroupVersion]*endpoints.APIGroupVersion{}
	var views []*endpoints.Scope
	for _, group := range groups(s.env) {
		for i := range group {
			resource := &group[i]
			scope := &endpoints.Scope{Resource: resource, Gates: s.record.Gates(), Admission: func() request.Admission { return s.env.Admission }}
			gv := resource.Kind.GroupVersion()
			version := byVersion[gv]
			if version == nil {
				version = &endpoints.APIGroupVersion{GroupVersion: gv}
				byVersion[gv] = version
				versions = append(versions, version)
			}
			version.Scopes = append(version.Scopes, scope)
			switch {
			case resource.View != nil:
				views = append(views, scope)
			case resource.Answer == nil:
				store, err := s.newStore(resource)
				if err != nil {
					return nil, err
				}
				scope.Store = store
			}
		}
	}
	for _, scope := range views {
		if scope.Store = s.env.Store(scope.Resource.View.Of); scope.Store == nil {
			return nil, fmt.Errorf("apiserver: %s is a view of %s, which is not served", scope.Resource.Kind, scope.Resource.View.Of)
		}
		scope.Store.AddView(scope.Resource)
	}
	return versions, nil
}

// newStore makes the store of one resource over its part of etcd.
func (s *Server) newStore(resource *registry.Resource) (*registry.Store, error) {
	prefix := resource.StorageRoot
	if prefix == "" {
		prefix = resource.Name
	}
	if resource.Computed != nil {
		return registry.NewStore(s.env, resource, resource.Computed()), nil
	}
	backend, err := s.hub.Resource(storage.ResourceConfig{
		Prefix: prefix, Resource: resource.GroupResource(), Kind: resource.Kind, New: resource.New, MediaType: s.config.StorageMediaType,
		Default: resource.Default, Fields: resource.Fields, Index: resource.Index,
	})
	if err != nil {
		return nil, fmt.Errorf("apiserver: storing %s: %w", resource.GroupResource(), err)
	}
	return registry.NewStore(s.env, resource, backend), nil
}

// installJudges makes who decides about requests: authentication, authorization, admission. They read
// through the stores that installGroups made.
func (s *Server) installJudges() error {
	env := s.env
	pods := lister.Confirmed[*corev1.Pod](env, schema.GroupResource{Resource: "pods"})
	authenticator, err := authn.New(authn.Config{
		ClientCAFile: s.config.ClientCAFile, Issuer: s.issuer, Clock: env.Clock,
		TokenFile: s.config.TokenAuthFile, BootstrapTokens: s.config.EnableBootstrapTokenAuth,
		LegacyTokenUsed: s.legacyTokenUsed,
		ServiceAccounts: lister.Confirmed[*corev1.ServiceAccount](env, schema.GroupResource{Resource: "serviceaccounts"}),
		Pods:            pods,
		Secrets:         lister.Confirmed[*corev1.Secret](env, schema.GroupResource{Resource: "secrets"}),
		Nodes:           lister.Confirmed[*corev1.Node](env, schema.GroupResource{Resource: "nodes"}),
	})
	if err != nil {
		return err
	}
	authorizer, err := authz.New(authz.Config{
		RBAC: rbac.ListersOf(env),
		Node: node.Listers{
			Pods:                   lister.Cached[*corev1.Pod](env, schema.GroupResource{Resource: "pods"}),
			PersistentVolumeClaims: lister.Cached[*corev1.PersistentVolumeClaim](env, schema.GroupResource{Resource: "persistentvolumeclaims"}),
			PersistentVolumes:      lister.Cached[*corev1.PersistentVolume](env, schema.GroupResource{Resource: "persistentvolumes"}),
			VolumeAttachments:      lister.Cached[*storagev1.VolumeAttachment](env, schema.GroupResource{Group: "storage.k8s.io", Resource: "volumeattachments"}),
			ResourceSlices:         lister.Cached[*resourcev1.ResourceSlice](env, schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}),
			PodCertificateRequests: lister.Cached[*certificatesv1.PodCertificateRequest](env, schema.GroupResource{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}),
		},
	})
	if err != nil {
		return err
	}
	chain, err := admission.New(admission.ConfigFor(env))
	if err != nil {
		return err
	}
	env.Authenticator, env.Authorizer, env.Admission = authenticator, authorizer, s.metrics.judges.watchAdmission(chain)
	return nil
}

// legacyTokenUsed writes on a Secret the day on which its token was last used.
func (s *Server) legacyTokenUsed(ctx context.Context, secret *corev1.Secret, day string) error {
	store := s.env.Store(schema.GroupResource{Resource: "secrets"})
	// Of the request whose token it is, only that it may be given up is this write's own.
	_, err := store.UpdateObject(request.WithUser(request.WithInfo(ctx, nil), request.APIServer()), secret.Namespace, secret.Name, func(current runtime.Object) (runtime.Object, error) {
		found := current.(*corev1.Secret)
		if found.UID != secret.UID {
			return nil, errors.New("it is another Secret by now")
		}
		metav1.SetMetaDataLabel(&found.ObjectMeta, serviceaccount.LastUsedLabelKey, day)
		return found, nil
	}, &metav1.UpdateOptions{})
	return err
}

// installFlowcontrol makes what stands between authentication and authorization: the audit log, and priority and fairness.
func (s *Server) installFlowcontrol() (err error) {
	if s.config.AuditPolicyFile != "" {
		if s.auditor, err = audit.New(s.config.AuditPolicyFile, s.config.AuditLogPath, isLongRunning); err != nil {
			return fmt.Errorf("apiserver: %w", err)
		}
		s.metrics.judges.watchAudit(s.auditor)
	}
	s.flowcontrol = flowcontrol.New(flowcontrol.Config{
		FlowSchemas:      lister.Cached[*flowcontrolv1.FlowSchema](s.env, schema.GroupResource{Group: flowcontrolv1.GroupName, Resource: "flowschemas"}),
		PriorityLevels:   lister.Cached[*flowcontrolv1.PriorityLevelConfiguration](s.env, schema.GroupResource{Group: flowcontrolv1.GroupName, Resource: "prioritylevelconfigurations"}),
		TotalConcurrency: s.config.MaxRequestsInflight, MaxWait: s.config.RequestTimeout / 4, Exempt: isLongRunning, WriteError: endpoints.WriteError,
		Load:  s.loadOf,
		Clock: s.config.Clock, Metrics: s.config.Metrics,
		Ready: func() bool {
			select {
			case <-s.ready:
				return true
			default:
				return false
			}
		},
	})
	return nil
}

// loadOf is how many objects there are of what a request is for, and how many watchers would see it change.
func (s *Server) loadOf(info *request.Info) (objects, watchers int) {
	store := s.env.Store(schema.GroupResource{Group: info.APIGroup, Resource: info.Resource})
	if store == nil {
		return 0, 0
	}
	kept, ok := store.Storage.(interface {
		Load(name string) (objects, watchers int)
	})
	if !ok {
		return 0, 0 // made up for each request
	}
	return kept.Load(info.Name)
}
