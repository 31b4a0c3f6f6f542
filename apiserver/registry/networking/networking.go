// Package networking is the table of networking.k8s.io/v1.
//
// In Kubernetes: pkg/registry/networking.
package networking

import (
	"reflect"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"

	"hyperkube/api/networking/ingress"
	"hyperkube/api/networking/networkpolicy"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of networking.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{ingresses(), ingressClasses(), networkPolicies(), ipAddresses(), serviceCIDRs(env)}
}

func kind(name string) schema.GroupVersionKind { return networkingv1.SchemeGroupVersion.WithKind(name) }

func ingresses() registry.Resource {
	return registry.Resource{
		Name: "ingresses", Singular: "ingress", Kind: kind("Ingress"), ShortNames: []string{"ing"},
		New:     func() runtime.Object { return &networkingv1.Ingress{} },
		NewList: func() runtime.Object { return &networkingv1.IngressList{} },
		Strategy: typed.Strategy[*networkingv1.Ingress]{
			Meta: registry.MetaRules{NameAgain: true},
			OnCreate: func(i *networkingv1.Ingress) {
				i.Status, i.Generation = networkingv1.IngressStatus{}, 1
			},
			OnUpdate: func(i, old *networkingv1.Ingress) {
				i.Status = old.Status
				typed.Bump(i, i.Spec, old.Spec)
			},
			Check:       ingress.Validate,
			CheckUpdate: ingress.ValidateUpdate,
			Warn:        ingress.Warnings,
			WarnUpdate:  func(i, old *networkingv1.Ingress) []string { return nil },
		},
		StatusStrategy: typed.Strategy[*networkingv1.Ingress]{
			OnUpdate:    func(i, old *networkingv1.Ingress) { i.Spec = old.Spec },
			CheckUpdate: ingress.ValidateStatusUpdate,
			WarnUpdate:  ingress.WarningsOnStatusUpdate,
		},
		StorageRoot: "ingress",
		Table: typed.Table(func(i *networkingv1.Ingress) []any {
			ports := "80"
			if len(i.Spec.TLS) > 0 {
				ports = "80, 443"
			}
			return []any{i.Name, column.Deref(i.Spec.IngressClassName, "<none>"), hosts(i.Spec.Rules), addresses(&i.Status), ports, column.Since(i.CreationTimestamp)}
		},
			column.Name(),
			column.Text("Class", "The name of the IngressClass resource that should be used for additional configuration"),
			column.Text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
			column.Text("Address", "Address is a list containing ingress points for the load-balancer"),
			column.Text("Ports", "Ports of TLS configurations that open"),
			column.Age(),
		),
	}
}

func hosts(rules []networkingv1.IngressRule) string {
	const most = 3
	var list []string
	for _, r := range rules {
		if r.Host != "" {
			list = append(list, r.Host)
		}
	}
	switch {
	case len(list) == 0:
		return "*"
	case len(list) > most:
		return strings.Join(list[:most], ",") + " + more..."
	}
	return strings.Join(list, ",")
}

func addresses(s *networkingv1.IngressStatus) string {
	found := sets.New[string]()
	for _, point := range s.LoadBalancer.Ingress {
		found.Insert(column.Or(point.IP, point.Hostname))
	}
	return strings.Join(sets.List(found), ",")
}

func ingressClasses() registry.Resource {
	return registry.Resource{
		Name: "ingressclasses", Singular: "ingressclass", Kind: kind("IngressClass"), ClusterScoped: true,
		New:     func() runtime.Object { return &networkingv1.IngressClass{} },
		NewList: func() runtime.Object { return &networkingv1.IngressClassList{} },
		Default: typed.Default(ingress.SetDefaultsClass),
		Strategy: typed.Strategy[*networkingv1.IngressClass]{
			Meta:        registry.MetaRules{NameAgain: true},
			OnCreate:    func(c *networkingv1.IngressClass) { c.Generation = 1 },
			OnUpdate:    func(c, old *networkingv1.IngressClass) { typed.Bump(c, c.Spec, old.Spec) },
			Check:       ingress.ValidateClass,
			CheckUpdate: ingress.ValidateClassUpdate,
		},
		Table: typed.Table(func(c *networkingv1.IngressClass) []any {
			parameters := "<none>"
			if p := c.Spec.Parameters; p != nil {
				parameters = p.Kind
				if p.APIGroup != nil {
					parameters += "." + *p.APIGroup
				}
				parameters += "/" + p.Name
			}
			return []any{c.Name, c.Spec.Controller, parameters, column.Since(c.CreationTimestamp)}
		},
			column.Name(),
			column.Text("Controller", "Controller that is responsible for handling this class"),
			column.Text("Parameters", "A reference to a resource with additional parameters"),
			column.Age(),
		),
	}
}

// bumpPolicy is typed.Bump for a kind where even an empty map in place of none is a change.
func bumpPolicy(p, old *networkingv1.NetworkPolicy) {
	if !reflect.DeepEqual(p.Spec, old.Spec) {
		p.Generation++
	}
}

func networkPolicies() registry.Resource {
	return registry.Resource{
		Name: "networkpolicies", Singular: "networkpolicy", Kind: kind("NetworkPolicy"), ShortNames: []string{"netpol"},
		New:     func() runtime.Object { return &networkingv1.NetworkPolicy{} },
		NewList: func() runtime.Object { return &networkingv1.NetworkPolicyList{} },
		Default: typed.Default(networkpolicy.SetDefaults),
		Strategy: typed.Strategy[*networkingv1.NetworkPolicy]{
			OnCreate:    func(p *networkingv1.NetworkPolicy) { p.Generation = 1 },
			OnUpdate:    bumpPolicy,
			Check:       networkpolicy.Validate,
			CheckUpdate: networkpolicy.ValidateUpdate,
			Warn:        networkpolicy.Warnings,
			WarnUpdate:  func(p, old *networkingv1.NetworkPolicy) []string { return networkpolicy.Warnings(p) },
		},
		Table: typed.Table(func(p *networkingv1.NetworkPolicy) []any {
			return []any{p.Name, metav1.FormatLabelSelector(&p.Spec.PodSelector), column.Since(p.CreationTimestamp)}
		}, column.Name(), column.Text("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]), column.Age()),
	}
}
