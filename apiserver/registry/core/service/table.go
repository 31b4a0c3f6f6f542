package service

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

var table = typed.Table(func(s *v1.Service) []any {
	ip := "<none>"
	if len(s.Spec.ClusterIPs) > 0 {
		ip = s.Spec.ClusterIPs[0]
	}
	return []any{s.Name, string(s.Spec.Type), ip, externalIP(s), ports(s.Spec.Ports),
		column.Since(s.CreationTimestamp), metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: s.Spec.Selector})}
},
	column.Name(),
	column.Text("Type", v1.ServiceSpec{}.SwaggerDoc()["type"]),
	column.Text("Cluster-IP", v1.ServiceSpec{}.SwaggerDoc()["clusterIP"]),
	column.Text("External-IP", v1.ServiceSpec{}.SwaggerDoc()["externalIPs"]),
	column.Text("Port(s)", v1.ServiceSpec{}.SwaggerDoc()["ports"]),
	column.Age(),
	column.Wide(column.Text("Selector", v1.ServiceSpec{}.SwaggerDoc()["selector"])),
)

func externalIP(s *v1.Service) string {
	ips := append([]string(nil), s.Spec.ExternalIPs...)
	switch s.Spec.Type {
	case v1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case v1.ServiceTypeLoadBalancer:
		var given []string
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			given = append(given, column.Or(ingress.IP, ingress.Hostname))
		}
		slices.Sort(given)
		ips = append(slices.Compact(given), ips...)
		return column.Or(strings.Join(ips, ","), "<pending>")
	}
	return column.Or(strings.Join(ips, ","), "<none>")
}

func ports(ports []v1.ServicePort) string {
	pieces := make([]string, len(ports))
	for i, port := range ports {
		pieces[i] = fmt.Sprintf("%d/%s", port.Port, port.Protocol)
		if port.NodePort > 0 {
			pieces[i] = fmt.Sprintf("%d:%d/%s", port.Port, port.NodePort, port.Protocol)
		}
	}
	return column.Or(strings.Join(pieces, ","), "<none>")
}
