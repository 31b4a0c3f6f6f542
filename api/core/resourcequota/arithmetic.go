package resourcequota

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ResourceNames are the names in a list, sorted.
func ResourceNames(list v1.ResourceList) []v1.ResourceName { return slices.Sorted(maps.Keys(list)) }

// Mask keeps of list what is named.
func Mask(list v1.ResourceList, names []v1.ResourceName) v1.ResourceList {
	masked := v1.ResourceList{}
	for _, name := range names {
		if quantity, ok := list[name]; ok {
			masked[name] = quantity.DeepCopy()
		}
	}
	return masked
}

// Add sums two lists.
func Add(a, b v1.ResourceList) v1.ResourceList {
	sum := a.DeepCopy()
	if sum == nil {
		sum = v1.ResourceList{}
	}
	for name, quantity := range b {
		total, ok := sum[name]
		if !ok {
			sum[name] = quantity.DeepCopy()
			continue
		}
		total.Add(quantity)
		sum[name] = total
	}
	return sum
}

// Increase is by how much a is above b, for each name where it is: what shrinks gives nothing back here.
func Increase(a, b v1.ResourceList) v1.ResourceList {
	increase := v1.ResourceList{}
	for name, quantity := range a {
		difference := quantity.DeepCopy()
		if before, ok := b[name]; ok {
			difference.Sub(before)
		}
		if difference.Sign() > 0 {
			increase[name] = difference
		}
	}
	return increase
}

// Exceeded names what of wanted is above limits; a name without a limit never is.
func Exceeded(wanted, limits v1.ResourceList) []v1.ResourceName {
	var exceeded []v1.ResourceName
	for _, name := range ResourceNames(wanted) {
		quantity := wanted[name]
		if limit, ok := limits[name]; ok && quantity.Cmp(limit) > 0 {
			exceeded = append(exceeded, name)
		}
	}
	return exceeded
}

// Equal compares amounts, not their spelling.
func Equal(a, b v1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}

// Negative names what is below zero.
func Negative(list v1.ResourceList) []v1.ResourceName {
	var negative []v1.ResourceName
	for _, name := range ResourceNames(list) {
		if quantity := list[name]; quantity.Sign() < 0 {
			negative = append(negative, name)
		}
	}
	return negative
}
