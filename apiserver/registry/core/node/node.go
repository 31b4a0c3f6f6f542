// Package node is the apiserver's room of Nodes.
//
// In Kubernetes: pkg/registry/core/node.
package node

import (
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/core/node"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resource is the line of nodes in the table of the core group.
func Resource(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "nodes", Singular: "node", Kind: v1.SchemeGroupVersion.WithKind("Node"),
		ShortNames: []string{"no"}, ClusterScoped: true,
		New:     func() runtime.Object { return &v1.Node{} },
		NewList: func() runtime.Object { return &v1.NodeList{} },
		Default: typed.Default(node.SetDefaults),
		Strategy: typed.Strategy[*v1.Node]{
			Meta:     registry.MetaRules{NameAgain: true},
			OnCreate: func(n *v1.Node) { node.DropRemoved(n, nil) },
			OnUpdate: func(n, old *v1.Node) {
				n.Status = old.Status
				node.DropRemoved(n, old)
			},
			Check:       node.Validate,
			CheckUpdate: node.ValidateUpdate,
			Warn:        node.Warnings,
		},
		StatusStrategy: typed.Strategy[*v1.Node]{
			OnUpdate: func(n, old *v1.Node) {
				n.Spec = old.Spec
				node.DropRemovedStatus(n, old)
			},
			CheckUpdate: node.ValidateStatusUpdate,
		},
		Fields: typed.Fields(func(n *v1.Node) fields.Set {
			return fields.Set{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
		}),
		Table: table,
		// The name nodes had before there were pods.
		StorageRoot: "minions",
	}
}

var table = typed.Table(func(n *v1.Node) []any {
	info := n.Status.NodeInfo
	kernel := column.Or(info.KernelVersion, "<unknown>")
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	return []any{n.Name, status(n), roles(n), column.Since(n.CreationTimestamp), info.KubeletVersion,
		address(n, v1.NodeInternalIP), address(n, v1.NodeExternalIP),
		column.Or(info.OSImage, "<unknown>"), kernel, column.Or(info.ContainerRuntimeVersion, "<unknown>")}
},
	column.Name(),
	column.Text("Status", "The status of the node"),
	column.Text("Roles", "The roles of the node"),
	column.Age(),
	column.Text("Version", v1.NodeSystemInfo{}.SwaggerDoc()["kubeletVersion"]),
	column.Wide(column.Text("Internal-IP", v1.NodeStatus{}.SwaggerDoc()["addresses"])),
	column.Wide(column.Text("External-IP", v1.NodeStatus{}.SwaggerDoc()["addresses"])),
	column.Wide(column.Text("OS-Image", v1.NodeSystemInfo{}.SwaggerDoc()["osImage"])),
	column.Wide(column.Text("Kernel-Version", v1.NodeSystemInfo{}.SwaggerDoc()["kernelVersion"])),
	column.Wide(column.Text("Container-Runtime", v1.NodeSystemInfo{}.SwaggerDoc()["containerRuntimeVersion"])),
)

func status(n *v1.Node) string {
	s := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != v1.NodeReady {
			continue
		}
		s = "NotReady"
		if c.Status == v1.ConditionTrue {
			s = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		s += ",SchedulingDisabled"
	}
	return s
}

// roles are in the labels node-role.kubernetes.io/<role> and kubernetes.io/role=<role>.
func roles(n *v1.Node) string {
	var found []string
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/"); ok && role != "" {
			found = append(found, role)
		} else if key == "kubernetes.io/role" && value != "" {
			found = append(found, value)
		}
	}
	slices.Sort(found)
	return column.Or(strings.Join(slices.Compact(found), ","), "<none>")
}

func address(n *v1.Node, kind v1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return "<none>"
}
