// Package discovery is the table of discovery.k8s.io/v1.
//
// In Kubernetes: pkg/registry/discovery.
package discovery

import (
	"fmt"
	"strconv"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/discovery/endpointslice"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of discovery.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{{
		Name: "endpointslices", Singular: "endpointslice", Kind: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		New:     func() runtime.Object { return &discoveryv1.EndpointSlice{} },
		NewList: func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		Default: typed.Default(endpointslice.SetDefaults),
		Strategy: typed.Strategy[*discoveryv1.EndpointSlice]{
			Meta: registry.MetaRules{NameAgain: true},
			OnCreate: func(s *discoveryv1.EndpointSlice) {
				s.Generation = 1
				endpointslice.KeepNodeName(s, nil)
			},
			OnUpdate: func(s, old *discoveryv1.EndpointSlice) {
				typed.Bump(s, content(s), content(old))
				endpointslice.KeepNodeName(s, old)
			},
			Check:       endpointslice.Validate,
			CheckUpdate: endpointslice.ValidateUpdate,
			Warn:        endpointslice.Warnings,
			WarnUpdate:  endpointslice.WarningsOnUpdate,
		},
		Table: table,
	}}
}

// content is what the generation counts: all but the metadata, and of it the labels, which name the service.
func content(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Labels: s.Labels}, AddressType: s.AddressType, Endpoints: s.Endpoints, Ports: s.Ports}
}

var table = typed.Table(func(s *discoveryv1.EndpointSlice) []any {
	return []any{s.Name, string(s.AddressType), ports(s.Ports), addresses(s.Endpoints), column.Since(s.CreationTimestamp)}
},
	column.Name(),
	column.Text("AddressType", discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"]),
	column.Text("Ports", discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"]),
	column.Text("Endpoints", discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"]),
	column.Age(),
)

func ports(ports []discoveryv1.EndpointPort) string {
	var list []string
	for _, port := range ports {
		if port.Port == nil {
			list = append(list, column.Or(column.Deref(port.Name, ""), "*"))
			continue
		}
		list = append(list, strconv.Itoa(int(*port.Port)))
	}
	return shorten(list)
}

func addresses(endpoints []discoveryv1.Endpoint) string {
	var list []string
	for _, endpoint := range endpoints {
		list = append(list, endpoint.Addresses...)
	}
	return shorten(list)
}

// shorten shows the first three.
func shorten(list []string) string {
	const most = 3
	switch {
	case len(list) == 0:
		return "<unset>"
	case len(list) > most:
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:most], ","), len(list)-most)
	}
	return strings.Join(list, ",")
}
