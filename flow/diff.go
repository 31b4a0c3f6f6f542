package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes/scheme"
)

// maxDiffLines and maxDiffValue keep a diff short: it is there to recognise a change,
// `kubectl get -o yaml` shows the whole.
const (
	maxDiffLines = 12
	maxDiffValue = 100
)

// ignored changes with every write and says nothing.
var ignored = map[string]bool{"metadata.managedFields": true, "metadata.resourceVersion": true}

// diff says what a write changed, a line a field: `spec.replicas: 3 → 5`. Of a
// creation or a deletion it says nothing: all is new, or gone.
func (w *Write) diff() []string {
	if w.Old == nil || w.New == nil || w.Deleted {
		return nil
	}
	before, errBefore := decodeValue(w.Old)
	after, errAfter := decodeValue(w.New)
	if errBefore != nil || errAfter != nil {
		return []string{"(not readable)"}
	}
	d := differ{secret: isConfidential(w.Kind.Kind)}
	d.compare("", before, after)
	return d.short()
}

// short are the first lines, and how many more there are.
func (d *differ) short() []string {
	if more := len(d.lines) - maxDiffLines; more > 0 {
		d.lines = append(d.lines[:maxDiffLines], fmt.Sprintf("and %d more", more))
	}
	return d.lines
}

// decodeValue reads a stored value, JSON or protobuf, as JSON's types.
func decodeValue(data []byte) (value any, err error) {
	if bytes.HasPrefix(data, []byte("k8s\x00")) {
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
		if err != nil {
			return nil, err
		}
		if data, err = json.Marshal(object); err != nil {
			return nil, err
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	return value, err
}

type differ struct {
	secret bool
	only   []string // the fields that count; nil: all
	lines  []string
}

// add notes that what is at path has become something else.
func (d *differ) add(path, was, is string) {
	if d.only == nil || within(path, d.only) {
		d.lines = append(d.lines, path+": "+was+" → "+is)
	}
}

func (d *differ) compare(path string, before, after any) {
	if ignored[path] || containerField.MatchString(path) || strings.HasSuffix(path, ".lastTransitionTime") || reflect.DeepEqual(before, after) {
		return
	}
	if isContainerState(path) {
		if was, is := containerState(before), containerState(after); was != is {
			d.add(path, was, is)
		}
		return
	}
	oldMap, oldIsMap := before.(map[string]any)
	newMap, newIsMap := after.(map[string]any)
	if oldIsMap && newIsMap || (oldIsMap && after == nil || newIsMap && before == nil) && path == "" {
		d.compareMaps(path, oldMap, newMap)
		return
	}
	oldList, oldIsList := before.([]any)
	newList, newIsList := after.([]any)
	// A list that appears is compared with an empty one where that says more: conditions, containers.
	if (path == "status.conditions" || strings.HasSuffix(path, "ontainerStatuses")) && (before == nil && newIsList || after == nil && oldIsList) {
		oldIsList, newIsList = true, true
	}
	if oldIsList && newIsList {
		d.compareLists(path, oldList, newList)
		return
	}
	d.add(path, d.show(path, before), d.show(path, after))
}

// containerField is a field of a container's status that says nothing which the record does
// not say elsewhere.
var containerField = regexp.MustCompile(`^status\.\w*[cC]ontainerStatuses\[[^\]]*\]\.(containerID|imageID|image|user|resources|allocatedResources|volumeMounts)\b`)

// isContainerState: the state of a container reads better in a word than field by field.
func isContainerState(path string) bool {
	return strings.Contains(path, "ontainerStatuses[") && (strings.HasSuffix(path, "].state") || strings.HasSuffix(path, "].lastState"))
}

// containerState is a container's state in a word: running, waiting: CrashLoopBackOff,
// terminated: Error (exit code 3).
func containerState(value any) string {
	states, _ := value.(map[string]any)
	for _, name := range []string{"running", "waiting", "terminated"} {
		state, ok := states[name].(map[string]any)
		if !ok {
			continue
		}
		if reason, _ := state["reason"].(string); reason != "" {
			name += ": " + reason
		}
		if code, ok := state["exitCode"]; ok {
			name += fmt.Sprintf(" (exit code %v)", code)
		}
		return name
	}
	return "none"
}

func (d *differ) compareMaps(path string, before, after map[string]any) {
	keys := map[string]bool{}
	for k := range before {
		keys[k] = true
	}
	for k := range after {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		sub := k
		if strings.ContainsAny(k, "./") {
			sub = "[" + k + "]"
		}
		if path != "" {
			sub = path + "." + sub
		}
		d.compare(sub, before[k], after[k])
	}
}

// compareLists pairs items by what names them (conditions by type, containers by
// name), others by their place.
func (d *differ) compareLists(path string, before, after []any) {
	for _, key := range []string{"type", "name", "uid", "ip"} {
		oldItems, ok1 := byKey(before, key)
		newItems, ok2 := byKey(after, key)
		if ok1 && ok2 {
			for _, k := range slices.Sorted(maps.Keys(union(oldItems, newItems))) {
				d.compare(path+"["+k+"]", oldItems[k], newItems[k])
			}
			return
		}
	}
	for i := range max(len(before), len(after)) {
		var x, y any
		if i < len(before) {
			x = before[i]
		}
		if i < len(after) {
			y = after[i]
		}
		d.compare(path+"["+strconv.Itoa(i)+"]", x, y)
	}
}

// byKey indexes the items of a list, when each is an object with another string
// under key.
func byKey(list []any, key string) (map[string]any, bool) {
	items := make(map[string]any, len(list))
	for _, item := range list {
		object, _ := item.(map[string]any)
		name, ok := object[key].(string)
		if _, twice := items[name]; !ok || twice {
			return nil, false
		}
		items[name] = item
	}
	return items, true
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

const lastApplied = "metadata.annotations.[kubectl.kubernetes.io/last-applied-configuration]"

// show prints a value, short. Of a Secret only metadata and type are shown, and of
// those not the annotation in which kubectl apply keeps the rest.
func (d *differ) show(path string, value any) string {
	if value == nil {
		return "none"
	}
	if d.secret && path != "type" && path != "immutable" && (!strings.HasPrefix(path, "metadata.") || path == "metadata.annotations" || path == lastApplied) {
		return "(redacted)"
	}
	if path == lastApplied {
		return "(the manifest)"
	}
	if condition, ok := value.(map[string]any); ok && condition["status"] != nil && strings.HasPrefix(path, "status.conditions[") {
		value = condition["status"] // the rest of a new condition explains, at length
	}
	if status, ok := value.(map[string]any); ok && strings.Contains(path, "ontainerStatuses[") && status["state"] != nil {
		return containerState(status["state"])
	}
	data, err := json.Marshal(value)
	if err != nil {
		return "(not readable)"
	}
	if len(data) > maxDiffValue {
		cut := maxDiffValue
		for cut > 0 && data[cut]&0xC0 == 0x80 { // not within a letter
			cut--
		}
		return string(data[:cut]) + "…"
	}
	return string(data)
}
