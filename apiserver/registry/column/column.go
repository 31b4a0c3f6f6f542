// Package column has what the kubectl columns of all resources share: column
// definitions, and the cells that several kinds print alike (age, container
// names, selectors). Each resource's own columns are in its table.go.
//
// In Kubernetes: pkg/printers/internalversion/printers.go, one file for all kinds.
package column

import (
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Name is the first column of nearly every table.
func Name() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}
}

// Age is the time since the object was created.
func Age() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: "Age", Type: "string", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]}
}

// Text is a column of strings.
func Text(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Description: description}
}

// Number is a column of integers.
func Number(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}
}

// Wide turns a column into one that only -o wide shows.
func Wide(c metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	c.Priority = 1
	return c
}

// ContainersAndImages are the wide columns of the workloads.
func ContainersAndImages() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		Wide(Text("Containers", "Names of each container in the template.")),
		Wide(Text("Images", "Images referenced by each container in the template.")),
	}
}

// Since is the age of a point in time: "5m", "3d4h"; "<unknown>" for the zero time.
func Since(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// SinceMicro is Since for the finer timestamps of events and leases.
func SinceMicro(t metav1.MicroTime) string { return Since(metav1.Time{Time: t.Time}) }

// ContainerCells are the names and the images of a template's containers.
func ContainerCells(containers []v1.Container) (names, images string) {
	n, im := make([]string, len(containers)), make([]string, len(containers))
	for i, c := range containers {
		n[i], im[i] = c.Name, c.Image
	}
	return strings.Join(n, ","), strings.Join(im, ",")
}

// Or is s, or what to print when it is empty.
func Or(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

// Deref prints what a pointer points to, or none.
func Deref[T any](p *T, none string) string {
	if p == nil {
		return none
	}
	return fmt.Sprint(*p)
}

// Bool is a column of true and false.
func Bool(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "boolean", Description: description}
}
