// Package admissionregistration is the table of admissionregistration.k8s.io/v1: webhooks and policies are kept here; nobody
// calls them yet.
//
// In Kubernetes: pkg/registry/admissionregistration.
package admissionregistration

import (
	"context"
	"reflect"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/admissionregistration/policy"
	"hyperkube/api/admissionregistration/webhook"
	"hyperkube/apiserver/cel"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of admissionregistration.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{
		validatingWebhooks(), mutatingWebhooks(), validatingPolicies(env), validatingBindings(env), mutatingPolicies(env), mutatingBindings(env),
	}
}

// line is what the six kinds have in common.
func line(plural, singular, kind string) registry.Resource {
	return registry.Resource{
		Name: plural, Singular: singular, Kind: schema.GroupVersionKind{Group: admissionregistrationv1.GroupName, Version: "v1", Kind: kind},
		Categories: []string{"api-extensions"}, ClusterScoped: true,
	}
}

func validatingWebhooks() registry.Resource {
	type object = admissionregistrationv1.ValidatingWebhookConfiguration
	r := line("validatingwebhookconfigurations", "validatingwebhookconfiguration", "ValidatingWebhookConfiguration")
	r.New = func() runtime.Object { return &object{} }
	r.NewList = func() runtime.Object { return &admissionregistrationv1.ValidatingWebhookConfigurationList{} }
	r.Default = typed.Default(webhook.SetDefaultsValidating)
	r.Strategy = typed.Strategy[*object]{
		Conditional: true,
		Meta:        registry.MetaRules{AnyFinalizer: true, NameAgain: true},
		OnCreate:    func(c *object) { c.Generation = 1 },
		OnUpdate:    func(c, old *object) { bumpWebhooks(c, c.Webhooks, old.Webhooks) },
		Check: func(c *object) field.ErrorList {
			return append(webhook.ValidateValidating(c, cel.Admission(false)), reserved(c.Name)...)
		},
		CheckUpdate: func(c, old *object) field.ErrorList {
			return webhook.ValidateValidatingUpdate(c, old, cel.Admission(false))
		},
	}
	r.Table = typed.Table(func(c *object) []any { return []any{c.Name, int64(len(c.Webhooks)), column.Since(c.CreationTimestamp)} }, webhookColumns...)
	return r
}

func mutatingWebhooks() registry.Resource {
	type object = admissionregistrationv1.MutatingWebhookConfiguration
	r := line("mutatingwebhookconfigurations", "mutatingwebhookconfiguration", "MutatingWebhookConfiguration")
	r.New = func() runtime.Object { return &object{} }
	r.NewList = func() runtime.Object { return &admissionregistrationv1.MutatingWebhookConfigurationList{} }
	r.Default = typed.Default(webhook.SetDefaultsMutating)
	r.Strategy = typed.Strategy[*object]{
		Conditional: true,
		Meta:        registry.MetaRules{AnyFinalizer: true, NameAgain: true},
		OnCreate:    func(c *object) { c.Generation = 1 },
		OnUpdate:    func(c, old *object) { bumpWebhooks(c, c.Webhooks, old.Webhooks) },
		Check: func(c *object) field.ErrorList {
			return append(webhook.ValidateMutating(c, cel.Admission(false)), reserved(c.Name)...)
		},
		CheckUpdate: func(c, old *object) field.ErrorList {
			return webhook.ValidateMutatingUpdate(c, old, cel.Admission(false))
		},
	}
	r.Table = typed.Table(func(c *object) []any { return []any{c.Name, int64(len(c.Webhooks)), column.Since(c.CreationTimestamp)} }, webhookColumns...)
	return r
}

// bumpWebhooks is typed.Bump of lists of webhooks, among which an empty list is not the same as none.
func bumpWebhooks(obj metav1.Object, hooks, old any) {
	if !reflect.DeepEqual(hooks, old) {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
}

var webhookColumns = []metav1.TableColumnDefinition{
	column.Name(), column.Number("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"), column.Age(),
}

func validatingPolicies(env *registry.Env) registry.Resource {
	type object = admissionregistrationv1.ValidatingAdmissionPolicy
	r := line("validatingadmissionpolicies", "validatingadmissionpolicy", "ValidatingAdmissionPolicy")
	r.New = func() runtime.Object { return &object{} }
	r.NewList = func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyList{} }
	r.Default = typed.Default(policy.SetDefaultsValidating)
	ask := params{env}
	r.Strategy = paramStrategy[*object]{path: field.NewPath("spec", "paramKind"), authorize: func(ctx context.Context, p, old *object) error {
		if old == nil {
			old = &object{}
		}
		return ask.authorizeKind(ctx, p.Spec.ParamKind, old.Spec.ParamKind)
	}, Strategy: typed.Strategy[*object]{
		Conditional: true,
		Meta:        registry.MetaRules{AnyFinalizer: true, NameAgain: true},
		OnCreate:    func(p *object) { p.Status, p.Generation = admissionregistrationv1.ValidatingAdmissionPolicyStatus{}, 1 },
		OnUpdate: func(p, old *object) {
			p.Status = old.Status
			typed.Bump(p, p.Spec, old.Spec)
		},
		Check: func(p *object) field.ErrorList {
			return append(policy.ValidateValidating(p, cel.Admission(len(p.Spec.Variables) > 0)), reserved(p.Name)...)
		},
		CheckUpdate: func(p, old *object) field.ErrorList {
			return policy.ValidateValidatingUpdate(p, old, cel.Admission(len(p.Spec.Variables) > 0))
		},
	}}
	r.Resets = map[string][]string{"status": {"metadata"}}
	r.StatusStrategy = typed.Strategy[*object]{
		Meta: registry.MetaRules{AnyFinalizer: true},
		OnUpdate: func(p, old *object) {
			p.Spec = old.Spec
			metav1.ResetObjectMetaForStatus(p, old)
		},
		CheckUpdate: func(p, old *object) field.ErrorList { return policy.ValidateStatus(p) },
	}
	r.Table = typed.Table(func(p *object) []any {
		return []any{p.Name, int64(len(p.Spec.Validations)), paramKind(p.Spec.ParamKind), column.Since(p.CreationTimestamp)}
	},
		column.Name(),
		column.Number("Validations", "Validations indicates the number of validation rules defined in this configuration"),
		column.Text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"),
		column.Age(),
	)
	return r
}

func mutatingPolicies(env *registry.Env) registry.Resource {
	type object = admissionregistrationv1.MutatingAdmissionPolicy
	r := line("mutatingadmissionpolicies", "mutatingadmissionpolicy", "MutatingAdmissionPolicy")
	r.New = func() runtime.Object { return &object{} }
	r.NewList = func() runtime.Object { return &admissionregistrationv1.MutatingAdmissionPolicyList{} }
	r.Default = typed.Default(policy.SetDefaultsMutating)
	ask := params{env}
	r.Strategy = paramStrategy[*object]{path: field.NewPath("spec", "paramKind"), authorize: func(ctx context.Context, p, old *object) error {
		if old == nil {
			old = &object{}
		}
		return ask.authorizeKind(ctx, p.Spec.ParamKind, old.Spec.ParamKind)
	}, Strategy: typed.Strategy[*object]{
		Conditional: true,
		Meta:        registry.MetaRules{AnyFinalizer: true, NameAgain: true},
		OnCreate:    func(p *object) { p.Generation = 1 },
		OnUpdate:    func(p, old *object) { typed.Bump(p, p.Spec, old.Spec) },
		Check: func(p *object) field.ErrorList {
			return append(policy.ValidateMutating(p, cel.Admission(true)), reserved(p.Name)...)
		},
		CheckUpdate: func(p, old *object) field.ErrorList {
			return policy.ValidateMutatingUpdate(p, old, cel.Admission(true))
		},
	}}
	r.Table = typed.Table(func(p *object) []any {
		return []any{p.Name, int64(len(p.Spec.Mutations)), paramKind(p.Spec.ParamKind), column.Since(p.CreationTimestamp)}
	},
		column.Name(),
		column.Number("Mutations", "Mutation indicates the number of mutations rules defined in this configuration"),
		column.Text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"),
		column.Age(),
	)
	return r
}

func paramKind(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

func validatingBindings(env *registry.Env) registry.Resource {
	type object = admissionregistrationv1.ValidatingAdmissionPolicyBinding
	r := line("validatingadmissionpolicybindings", "validatingadmissionpolicybinding", "ValidatingAdmissionPolicyBinding")
	r.New = func() runtime.Object { return &object{} }
	r.NewList = func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{} }
	r.Default = typed.Default(func(b *object) { policy.SetDefaultsMatch(b.Spec.MatchResources) })
	kind := func(ctx context.Context, name string) (*admissionregistrationv1.ParamKind, error) {
		p, err := env.Store(admissionregistrationv1.Resource("validatingadmissionpolicies")).GetObject(ctx, "", name)
		if err != nil {
			return nil, err
		}
		return p.(*admissionregistrationv1.ValidatingAdmissionPolicy).Spec.ParamKind, nil
	}
	ask := params{env}
	r.Strategy = paramStrategy[*object]{path: field.NewPath("spec", "paramRef"), authorize: func(ctx context.Context, b, _ *object) error {
		return ask.authorizeRef(ctx, binding{policy: b.Spec.PolicyName, ref: b.Spec.ParamRef, kind: kind})
	}, Strategy: typed.Strategy[*object]{
		Conditional: true,
		Meta:        registry.MetaRules{AnyFinalizer: true, NameAgain: true},
		OnCreate:    func(b *object) { b.Generation = 1 },
		OnUpdate:    func(b, old *object) { typed.Bump(b, b.Spec, old.Spec) },
		Check: func(b *object) field.ErrorList {
			return append(policy.ValidateValidatingBinding(b), reserved(b.Name)...)
		},
		CheckUpdate: func(b, old *object) field.ErrorList { return policy.ValidateValidatingBinding(b) },
	}}
	r.Table = typed.Table(func(b *object) []any {
		return []any{b.Name, b.Spec.PolicyName, paramRef(b.Spec.ParamRef), column.Since(b.CreationTimestamp)}
	}, bindingColumns...)
	return r
}

func mutatingBindings(env *registry.Env) registry.Resource {
	type object = admissionregistrationv1.MutatingAdmissionPolicyBinding
	r := line("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding", "MutatingAdmissionPolicyBinding")
	r.New = func() runtime.Object { return &object{} }
	r.NewList = func() runtime.Object { return &admissionregistrationv1.MutatingAdmissionPolicyBindingList{} }
	r.Default = typed.Default(func(b *object) { policy.SetDefaultsMatch(b.Spec.MatchResources) })
	kind := func(ctx context.Context, name string) (*admissionregistrationv1.ParamKind, error) {
		p, err := env.Store(admissionregistrationv1.Resource("mutatingadmissionpolicies")).GetObject(ctx, "", name)
		if err != nil {
			return nil, err
		}
		return p.(*admissionregistrationv1.MutatingAdmissionPolicy).Spec.ParamKind, nil
	}
	ask := params{env}
	r.Strategy = paramStrategy[*object]{path: field.NewPath("spec", "paramRef"), authorize: func(ctx context.Context, b, _ *object) error {
		return ask.authorizeRef(ctx, binding{policy: b.Spec.PolicyName, ref: b.Spec.ParamRef, kind: kind})
	}, Strategy: typed.Strategy[*object]{
		Conditional: true,
		Meta:        registry.MetaRules{AnyFinalizer: true, NameAgain: true},
		OnCreate:    func(b *object) { b.Generation = 1 },
		OnUpdate:    func(b, old *object) { typed.Bump(b, b.Spec, old.Spec) },
		Check: func(b *object) field.ErrorList {
			return append(policy.ValidateMutatingBinding(b), reserved(b.Name)...)
		},
		CheckUpdate: func(b, old *object) field.ErrorList { return policy.ValidateMutatingBinding(b) },
	}}
	r.Table = typed.Table(func(b *object) []any {
		return []any{b.Name, b.Spec.PolicyName, paramRef(b.Spec.ParamRef), column.Since(b.CreationTimestamp)}
	}, bindingColumns...)
	return r
}

var bindingColumns = []metav1.TableColumnDefinition{
	column.Name(),
	column.Text("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
	column.Text("ParamRef", "ParamRef indicates the param resource which sets the configuration param"),
	column.Age(),
}

func paramRef(r *admissionregistrationv1.ParamRef) string {
	switch {
	case r == nil:
		return "<unset>"
	case r.Namespace != "":
		return r.Namespace + "/" + r.Name
	case r.Name == "" && r.Selector != nil:
		return r.Selector.String()
	}
	return r.Name
}
