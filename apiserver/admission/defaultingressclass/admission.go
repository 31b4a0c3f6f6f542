// Package defaultingressclass gives each Ingress that names no class the default one, if there is one.
//
// In Kubernetes: plugin/pkg/admission/network/defaultingressclass.
package defaultingressclass

import (
	"context"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// annotationIngressClass named the class before there was a field for it.
const annotationIngressClass = "kubernetes.io/ingress.class"

type classDefaulter struct {
	classes lister.Lister[*networkingv1.IngressClass]
}

// New makes the plugin.
func New(classes lister.Lister[*networkingv1.IngressClass]) plugin.Plugin {
	d := &classDefaulter{classes}
	return plugin.Plugin{
		Name:       "DefaultIngressClass",
		Operations: []request.Operation{request.Create},
		Admit:      d.admit,
		Sets:       map[schema.GroupResource][]string{{Group: networkingv1.GroupName, Resource: "ingresses"}: {"spec.ingressClassName"}},
	}
}

func (d *classDefaulter) admit(_ context.Context, a *request.AdmissionAttributes) error {
	ingress, ok := a.Object.(*networkingv1.Ingress)
	if !ok || !plugin.Is(a, networkingv1.GroupName, "ingresses") || ingress.Spec.IngressClassName != nil {
		return nil
	}
	if _, annotated := ingress.Annotations[annotationIngressClass]; annotated {
		return nil
	}
	classes, err := d.classes.List("")
	if err != nil {
		return plugin.Forbidden(a, err)
	}
	if class := getDefaultClass(classes); class != nil {
		ingress.Spec.IngressClassName = &class.Name
	}
	return nil
}

// getDefaultClass returns the newest of the classes marked so; of two equally old ones the first by name.
func getDefaultClass(classes []*networkingv1.IngressClass) *networkingv1.IngressClass {
	var best *networkingv1.IngressClass
	for _, c := range classes {
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] != "true" {
			continue
		}
		if best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp) ||
			best.CreationTimestamp.Equal(&c.CreationTimestamp) && strings.Compare(c.Name, best.Name) < 0 {
			best = c
		}
	}
	return best
}
