package flow

import (
	"fmt"
	"strings"
)

// waits says what an object that is being deleted still waits for, as its newest version
// tells it; nothing for an object that lives, or is gone.
func (b *builder) waits(t Target) []string {
	var newest *Write
	for _, s := range b.byObject[t.Kind.Kind+" "+t.key()] {
		if s.write.Kind.Group == t.Kind.Group {
			newest = s.write
		}
	}
	if newest == nil || newest.Deleted || newest.New == nil {
		return nil
	}
	object := metadataOf(newest)
	metadata, _ := object["metadata"].(map[string]any)
	since, deleting := metadata["deletionTimestamp"].(string)
	if !deleting {
		return nil
	}
	var waits []string
	for _, finalizer := range texts(metadata["finalizers"]) {
		waits = append(waits, fmt.Sprintf("the finalizer %s, to be removed by who put it there", finalizer))
	}
	spec, _ := object["spec"].(map[string]any)
	for _, finalizer := range texts(spec["finalizers"]) {
		waits = append(waits, fmt.Sprintf("the finalizer %s, which the namespace controller removes once the namespace is empty", finalizer))
	}
	status, _ := object["status"].(map[string]any)
	conditions, _ := status["conditions"].([]any)
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		kind, _ := condition["type"].(string)
		if message, _ := condition["message"].(string); t.Kind.Kind == "Namespace" && condition["status"] == "True" && strings.HasPrefix(kind, "Namespace") {
			waits = append(waits, kind+": "+message)
		}
	}
	if len(waits) == 0 && t.Kind.Kind == "Pod" {
		waits = append(waits, "its kubelet, to say that nothing of it runs any more (at most until "+since+", if the kubelet lives)")
	}
	return waits
}

func texts(list any) []string {
	items, _ := list.([]any)
	var all []string
	for _, item := range items {
		if text, ok := item.(string); ok {
			all = append(all, text)
		}
	}
	return all
}
