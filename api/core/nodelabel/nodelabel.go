// Package nodelabel knows the labels of nodes that had other names once. Nodes carry both, so that old selectors go on to work;
// who writes an old one today is told of the new one. It imports no other kind: pods, volumes and classes all select nodes.
//
// In Kubernetes: pkg/api/node/util.go.
package nodelabel

import (
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var deprecated = map[string]string{
	"beta.kubernetes.io/arch":                  `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                    `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region": `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":   `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":         `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
}

// Deprecated says what to use instead of a label of nodes; "" where nothing is wrong with it.
func Deprecated(key string) string { return deprecated[key] }

// WarnKey tells of one deprecated key, in words that name it.
func WarnKey(key string, path *field.Path) []string {
	if text := deprecated[key]; text != "" {
		return []string{fmt.Sprintf("%s: %s is %s", path, key, text)}
	}
	return nil
}

// WarnMap tells of the deprecated keys of a node selector that is a plain map.
func WarnMap(selector map[string]string, pathOf func(key string) *field.Path) []string {
	var warnings []string
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if text := deprecated[key]; text != "" {
			warnings = append(warnings, fmt.Sprintf("%s: %s", pathOf(key), text))
		}
	}
	return warnings
}

// WarnTerm tells of the deprecated keys in a term of node affinity; and, if values says so, of values that no label can have: a
// required term with such is refused, a preferred one only finds nothing.
func WarnTerm(term *v1.NodeSelectorTerm, values bool, path *field.Path) []string {
	var warnings []string
	for i, expression := range term.MatchExpressions {
		at := path.Child("matchExpressions").Index(i)
		warnings = append(warnings, WarnKey(expression.Key, at.Child("key"))...)
		for j, value := range expression.Values {
			if !values {
				break
			}
			for _, message := range validation.IsValidLabelValue(value) {
				warnings = append(warnings, fmt.Sprintf("%s: %s is invalid, %s", at.Child("values").Index(j), value, message))
			}
		}
	}
	return warnings
}

// WarnSelector tells of the deprecated keys in a label selector of nodes.
func WarnSelector(selector *metav1.LabelSelector, path *field.Path) []string {
	if selector == nil {
		return nil
	}
	var warnings []string
	for i, expression := range selector.MatchExpressions {
		warnings = append(warnings, WarnKey(expression.Key, path.Child("matchExpressions").Index(i).Child("key"))...)
	}
	return append(warnings, WarnMap(selector.MatchLabels, func(key string) *field.Path { return path.Child("matchLabels").Child(key) })...)
}
