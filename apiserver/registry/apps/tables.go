package apps

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// wide are the cells that the workloads end with.
func wide(template *v1.PodTemplateSpec, selector *metav1.LabelSelector) []any {
	names, images := column.ContainerCells(template.Spec.Containers)
	return []any{names, images, metav1.FormatLabelSelector(selector)}
}

func workloadColumns(selector string, first ...metav1.TableColumnDefinition) []metav1.TableColumnDefinition {
	columns := append([]metav1.TableColumnDefinition{column.Name()}, first...)
	columns = append(append(columns, column.Age()), column.ContainersAndImages()...)
	return append(columns, column.Wide(column.Text("Selector", selector)))
}

var deploymentTable = typed.Table(func(d *appsv1.Deployment) []any {
	return append([]any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 0)),
		int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas), column.Since(d.CreationTimestamp)},
		wide(&d.Spec.Template, d.Spec.Selector)...)
}, workloadColumns(appsv1.DeploymentSpec{}.SwaggerDoc()["selector"],
	column.Text("Ready", "Number of the pod with ready state"),
	column.Text("Up-to-date", appsv1.DeploymentStatus{}.SwaggerDoc()["updatedReplicas"]),
	column.Text("Available", appsv1.DeploymentStatus{}.SwaggerDoc()["availableReplicas"]),
)...)

var replicaSetTable = typed.Table(func(rs *appsv1.ReplicaSet) []any {
	return append([]any{rs.Name, int64(ptr.Deref(rs.Spec.Replicas, 0)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas),
		column.Since(rs.CreationTimestamp)}, wide(&rs.Spec.Template, rs.Spec.Selector)...)
}, workloadColumns(appsv1.ReplicaSetSpec{}.SwaggerDoc()["selector"],
	column.Number("Desired", appsv1.ReplicaSetSpec{}.SwaggerDoc()["replicas"]),
	column.Number("Current", appsv1.ReplicaSetStatus{}.SwaggerDoc()["replicas"]),
	column.Number("Ready", appsv1.ReplicaSetStatus{}.SwaggerDoc()["readyReplicas"]),
)...)

var daemonSetTable = typed.Table(func(ds *appsv1.DaemonSet) []any {
	s := ds.Status
	return append([]any{ds.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady),
		int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable), labels.FormatLabels(ds.Spec.Template.Spec.NodeSelector),
		column.Since(ds.CreationTimestamp)}, wide(&ds.Spec.Template, ds.Spec.Selector)...)
}, workloadColumns(appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"],
	column.Number("Desired", appsv1.DaemonSetStatus{}.SwaggerDoc()["desiredNumberScheduled"]),
	column.Number("Current", appsv1.DaemonSetStatus{}.SwaggerDoc()["currentNumberScheduled"]),
	column.Number("Ready", appsv1.DaemonSetStatus{}.SwaggerDoc()["numberReady"]),
	column.Number("Up-to-date", appsv1.DaemonSetStatus{}.SwaggerDoc()["updatedNumberScheduled"]),
	column.Number("Available", appsv1.DaemonSetStatus{}.SwaggerDoc()["numberAvailable"]),
	column.Text("Node Selector", v1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
)...)

var statefulSetTable = typed.Table(func(set *appsv1.StatefulSet) []any {
	names, images := column.ContainerCells(set.Spec.Template.Spec.Containers)
	return []any{set.Name, fmt.Sprintf("%d/%d", set.Status.ReadyReplicas, ptr.Deref(set.Spec.Replicas, 0)),
		column.Since(set.CreationTimestamp), names, images}
}, append([]metav1.TableColumnDefinition{
	column.Name(), column.Text("Ready", "Number of the pod with ready state"), column.Age(),
}, column.ContainersAndImages()...)...)

var controllerRevisionTable = typed.Table(func(r *appsv1.ControllerRevision) []any {
	controller := "<none>"
	if ref := metav1.GetControllerOf(r); ref != nil {
		controller = ownerText(ref)
	}
	return []any{r.Name, controller, r.Revision, column.Since(r.CreationTimestamp)}
},
	column.Name(),
	column.Text("Controller", "Controller of the object"),
	column.Text("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
	column.Age(),
)

// ownerText is "statefulset.apps/web".
func ownerText(ref *metav1.OwnerReference) string {
	text := strings.ToLower(ref.Kind)
	if gv, err := schema.ParseGroupVersion(ref.APIVersion); err == nil && gv.Group != "" {
		text += "." + gv.Group
	}
	return text + "/" + ref.Name
}
