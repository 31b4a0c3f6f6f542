package admission

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/admission/certificates"
	"hyperkube/apiserver/admission/defaultingressclass"
	"hyperkube/apiserver/admission/defaultstorageclass"
	"hyperkube/apiserver/admission/defaulttolerationseconds"
	"hyperkube/apiserver/admission/limitranger"
	"hyperkube/apiserver/admission/namespacelifecycle"
	"hyperkube/apiserver/admission/noderestriction"
	"hyperkube/apiserver/admission/nodetaint"
	"hyperkube/apiserver/admission/persistentvolumeclaimresize"
	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/admission/podsecurity"
	"hyperkube/apiserver/admission/podtopologylabels"
	"hyperkube/apiserver/admission/priority"
	"hyperkube/apiserver/admission/resourcequota"
	"hyperkube/apiserver/admission/runtimeclass"
	"hyperkube/apiserver/admission/serviceaccount"
	"hyperkube/apiserver/admission/storageobjectinuseprotection"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// Config is what the plugins read. Use ConfigFor for the real one.
type Config struct {
	// Namespaces is a confirmed lister, LiveNamespaces a live one.
	Namespaces, LiveNamespaces lister.Lister[*corev1.Namespace]
	ServiceAccounts            lister.Lister[*corev1.ServiceAccount]
	Pods                       lister.Lister[*corev1.Pod]
	Nodes                      lister.Lister[*corev1.Node]
	PriorityClasses            lister.Lister[*schedulingv1.PriorityClass]
	LimitRanges                lister.Lister[*corev1.LimitRange]
	StorageClasses             lister.Lister[*storagev1.StorageClass]
	RuntimeClasses             lister.Lister[*nodev1.RuntimeClass]
	IngressClasses             lister.Lister[*networkingv1.IngressClass]
	ResourceQuotas             lister.Lister[*corev1.ResourceQuota]
	Claims                     lister.Lister[*corev1.PersistentVolumeClaim]
	Volumes                    lister.Lister[*corev1.PersistentVolume]
	CSIDrivers                 lister.Lister[*storagev1.CSIDriver]
	// UpdateQuotaStatus charges a quota.
	UpdateQuotaStatus resourcequota.UpdateStatus
	// Authorizer returns who is asked for rights that only the object shows; it is there when a request is.
	Authorizer func() request.Authorizer
	Clock      clock.Clock
}

// ConfigFor reads everything from the apiserver's own stores.
func ConfigFor(env *registry.Env) Config {
	namespaces := schema.GroupResource{Resource: "namespaces"}
	return Config{
		Namespaces:      lister.Confirmed[*corev1.Namespace](env, namespaces),
		LiveNamespaces:  lister.Live[*corev1.Namespace](env, namespaces),
		ServiceAccounts: lister.Confirmed[*corev1.ServiceAccount](env, schema.GroupResource{Resource: "serviceaccounts"}),
		Pods:            lister.Confirmed[*corev1.Pod](env, schema.GroupResource{Resource: "pods"}),
		Nodes:           lister.Confirmed[*corev1.Node](env, schema.GroupResource{Resource: "nodes"}),
		PriorityClasses: lister.Confirmed[*schedulingv1.PriorityClass](env, schema.GroupResource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}),
		LimitRanges:     lister.Confirmed[*corev1.LimitRange](env, schema.GroupResource{Resource: "limitranges"}),
		StorageClasses:  lister.Confirmed[*storagev1.StorageClass](env, schema.GroupResource{Group: storagev1.GroupName, Resource: "storageclasses"}),
		RuntimeClasses:  lister.Confirmed[*nodev1.RuntimeClass](env, schema.GroupResource{Group: nodev1.GroupName, Resource: "runtimeclasses"}),
		IngressClasses:  lister.Confirmed[*networkingv1.IngressClass](env, schema.GroupResource{Group: networkingv1.GroupName, Resource: "ingressclasses"}),
		ResourceQuotas:  lister.Confirmed[*corev1.ResourceQuota](env, quotas),
		Claims:          lister.Confirmed[*corev1.PersistentVolumeClaim](env, schema.GroupResource{Resource: "persistentvolumeclaims"}),
		Volumes:         lister.Confirmed[*corev1.PersistentVolume](env, schema.GroupResource{Resource: "persistentvolumes"}),
		CSIDrivers:      lister.Confirmed[*storagev1.CSIDriver](env, schema.GroupResource{Group: storagev1.GroupName, Resource: "csidrivers"}),
		UpdateQuotaStatus: func(ctx context.Context, namespace, name string, change func(*corev1.ResourceQuota) error) error {
			_, _, err := env.Store(quotas).Update(ctx, namespace, name, func(current runtime.Object) (runtime.Object, error) {
				return current, change(current.(*corev1.ResourceQuota))
			}, env.Store(quotas).OwnStatus())
			return err
		},
		Authorizer: func() request.Authorizer { return env.Authorizer },
		Clock:      env.Clock,
	}
}

var quotas = schema.GroupResource{Resource: "resourcequotas"}

// Chain is the plugins in their order; 64 at most.
type Chain struct {
	Plugins []plugin.Plugin

	once      sync.Once
	described described // by once
}

var _ request.Admission = &Chain{}

// New makes the chain of the plugins that are on.
func New(cfg Config) (*Chain, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	podSecurity, err := podsecurity.New(cfg.Namespaces, cfg.Pods)
	if err != nil {
		return nil, err
	}
	return &Chain{Plugins: []plugin.Plugin{
		namespacelifecycle.New(cfg.Namespaces, cfg.LiveNamespaces, cfg.Clock),
		limitranger.New(cfg.LimitRanges),
		serviceaccount.New(cfg.ServiceAccounts, cfg.Clock),
		noderestriction.New(noderestriction.Config{
			Pods: cfg.Pods, Nodes: cfg.Nodes, ServiceAccounts: cfg.ServiceAccounts,
			Claims: cfg.Claims, Volumes: cfg.Volumes, Drivers: cfg.CSIDrivers, Authorizer: cfg.Authorizer,
		}),
		nodetaint.New(),
		podSecurity,
		priority.New(cfg.PriorityClasses),
		defaulttolerationseconds.New(),
		defaultstorageclass.New(cfg.StorageClasses),
		storageobjectinuseprotection.New(),
		persistentvolumeclaimresize.New(cfg.StorageClasses),
		runtimeclass.New(cfg.RuntimeClasses),
		certificates.NewApproval(cfg.Authorizer),
		certificates.NewSigning(cfg.Authorizer),
		certificates.NewAttest(cfg.Authorizer),
		certificates.NewSubjectRestriction(),
		defaultingressclass.New(cfg.IngressClasses),
		podtopologylabels.New(cfg.Nodes),
		// Webhooks and policies will stand here. The quota is last: it must see what is going to be stored.
		resourcequota.New(cfg.ResourceQuotas, cfg.UpdateQuotaStatus, cfg.Clock),
	}}, nil
}

// Admit implements request.Admission: the first refusal ends it.
func (c *Chain) Admit(ctx context.Context, a *request.AdmissionAttributes) error {
	noted := c.record(request.FlowFrom(ctx), a)
	defer noted.admitted()
	for i := range c.Plugins {
		if p := &c.Plugins[i]; p.Admit != nil && p.Handles(a) {
			err := p.Admit(ctx, a)
			noted.asked(i, err)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Validate implements request.Admission.
func (c *Chain) Validate(ctx context.Context, a *request.AdmissionAttributes) error {
	noted := c.record(request.FlowFrom(ctx), a)
	defer noted.judged()
	for i := range c.Plugins {
		if p := &c.Plugins[i]; p.Validate != nil && p.Handles(a) {
			err := p.Validate(ctx, a)
			noted.asked(i, err)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
