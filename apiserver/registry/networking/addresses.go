package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/networking/ipaddress"
	"hyperkube/api/networking/servicecidr"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// The addresses of Services: the ranges they come from, and one object each that is taken (registry/core/service).

func ipAddresses() registry.Resource {
	return registry.Resource{
		Name: "ipaddresses", Singular: "ipaddress", Kind: kind("IPAddress"), ShortNames: []string{"ip"}, ClusterScoped: true,
		New:     func() runtime.Object { return &networkingv1.IPAddress{} },
		NewList: func() runtime.Object { return &networkingv1.IPAddressList{} },
		Strategy: typed.Strategy[*networkingv1.IPAddress]{
			Name: ipaddress.ValidateName, Meta: registry.MetaRules{NameAgain: true}, Check: ipaddress.Validate, CheckUpdate: ipaddress.ValidateUpdate,
		},
		Table: typed.Table(func(a *networkingv1.IPAddress) []any {
			return []any{a.Name, parentRef(a.Spec.ParentRef)}
		}, column.Name(), column.Text("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"])),
	}
}

func parentRef(ref *networkingv1.ParentReference) string {
	if ref == nil {
		return "<none>"
	}
	text := strings.ToLower(schema.GroupResource{Group: ref.Group, Resource: ref.Resource}.String())
	if ref.Namespace != "" {
		text += "/" + ref.Namespace
	}
	return text + "/" + ref.Name
}

func serviceCIDRs(env *registry.Env) registry.Resource {
	type object = networkingv1.ServiceCIDR
	return registry.Resource{
		Name: "servicecidrs", Singular: "servicecidr", Kind: kind("ServiceCIDR"), ClusterScoped: true,
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		Strategy: typed.Strategy[*object]{
			OnCreate:    func(c *object) { c.Status = networkingv1.ServiceCIDRStatus{} },
			OnUpdate:    func(c, old *object) { c.Status = old.Status },
			Check:       servicecidr.Validate,
			CheckUpdate: servicecidr.ValidateUpdate,
		},
		Resets: map[string][]string{"status": {"metadata"}},
		StatusStrategy: typed.Strategy[*object]{
			OnUpdate: func(c, old *object) {
				c.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(c, old)
			},
			// Conditions need no reason here: Ready is true for none.
			CheckUpdate: func(c, old *object) field.ErrorList { return nil },
		},
		Table: typed.Table(func(c *object) []any {
			return []any{c.Name, column.Or(strings.Join(c.Spec.CIDRs, ","), "<none>"), column.Since(c.CreationTimestamp)}
		}, column.Name(), column.Text("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]), column.Age()),
		Hooks: registry.Hooks{MarkDeleted: func(obj runtime.Object) {
			c := obj.(*object)
			meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{
				Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionFalse, Reason: networkingv1.ServiceCIDRReasonTerminating,
				Message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR", LastTransitionTime: metav1.NewTime(env.Clock.Now()),
			})
		}},
	}
}
