package answers

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// long is a string that no field of bounded length takes.
var long = strings.Repeat("a", 300)

// step leads from a value into it: to a field, or to an item of a list.
type step struct {
	field string
	item  int
}

// mutant is an object in which one value is another, or gone.
type mutant struct {
	path  []step
	gone  bool
	value any
}

func (m mutant) String() string {
	var b strings.Builder
	for _, s := range m.path {
		if s.field != "" {
			b.WriteString("." + s.field)
		} else {
			fmt.Fprintf(&b, "[%d]", s.item)
		}
	}
	if m.gone {
		return b.String() + " gone"
	}
	value, err := json.Marshal(m.value)
	if err != nil {
		panic(err) // variants makes only what JSON has
	}
	return b.String() + " = " + masked(string(value))
}

// of makes the mutant of base; what leads to its value is made, too.
func (m mutant) of(base object) object {
	var root any = map[string]any(base.clone())
	at := root
	for i, s := range m.path {
		last := i == len(m.path)-1
		switch in := at.(type) {
		case map[string]any:
			if last && m.gone {
				delete(in, s.field)
			} else if last {
				in[s.field] = m.value
			} else if in[s.field] == nil {
				in[s.field] = map[string]any{}
			}
			at = in[s.field]
		case []any:
			if last {
				in[s.item] = m.value
			}
			at = in[s.item]
		}
	}
	return root.(map[string]any)
}

// distinct leaves out the mutants that are base itself, or one another.
func distinct(all []mutant, base object) []mutant {
	text := func(o object) string {
		data, err := json.Marshal(o)
		if err != nil {
			panic(err)
		}
		return string(data)
	}
	seen := map[string]bool{text(base): true}
	names := map[string]bool{}
	return slices.DeleteFunc(all, func(m mutant) bool {
		data, name := text(m.of(base)), m.String()
		spare := seen[data] || names[name]
		seen[data], names[name] = true, true
		return spare
	})
}

// schemas are the definitions of an OpenAPI v3 document, by name.
type schemas map[string]property

// property is a schema, as its JSON has it.
type property map[string]any

func loadSchemas(t *testing.T, s server) schemas {
	t.Helper()
	all := schemas{}
	root, _ := s.send(http.MethodGet, "/openapi/v3", nil).body.(map[string]any)
	documents, _ := root["paths"].(map[string]any)
	for _, d := range documents {
		url := d.(map[string]any)["serverRelativeURL"].(string)
		document, _ := s.send(http.MethodGet, url, nil).body.(map[string]any)
		components, _ := document["components"].(map[string]any)
		definitions, _ := components["schemas"].(map[string]any)
		for name, definition := range definitions {
			all[name] = definition.(map[string]any)
		}
	}
	if len(all) == 0 {
		t.Fatal("the server publishes no schemas")
	}
	return all
}

// of returns the schema of o's kind.
func (all schemas) of(o object) property {
	kind := o.kind()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		kinds, _ := all[name]["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			k := object(k.(map[string]any))
			if len(kinds) == 1 && k.text("group") == kind.Group && k.text("version") == kind.Version && k.text("kind") == kind.Kind {
				return all[name]
			}
		}
	}
	panic("no schema of " + kind.String())
}

// resolved follows p's reference; what p itself says of the field, its description and its default, comes first.
func (all schemas) resolved(p property) property {
	reference := object(p).text("$ref")
	if parts, ok := p["allOf"].([]any); ok {
		reference = object(parts[0].(map[string]any)).text("$ref")
	}
	if reference == "" {
		return p
	}
	name := reference[strings.LastIndex(reference, "/")+1:]
	out := property{"name": name}
	maps.Copy(out, all.resolved(all[name]))
	if d, ok := p["description"]; ok {
		out["description"] = d
	}
	return out
}

// mutants makes those of each field of base that top lets pass.
func (all schemas) mutants(kind property, base object, top func(field string) bool) []mutant {
	m := maker{schemas: all}
	fields, _ := kind["properties"].(map[string]any)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if field != "apiVersion" && field != "kind" && top(field) {
			m.walk([]step{{field: field}}, fields[field].(map[string]any), base[field])
		}
	}
	return m.made
}

type maker struct {
	schemas schemas
	made    []mutant
}

// absentDepth is how deep it goes into objects that the seed lacks: spec.x, not spec.x.y.
const absentDepth = 1

func (m *maker) walk(path []step, p property, value any) {
	path = slices.Clone(path)
	p = m.schemas.resolved(p)
	if value != nil && path[len(path)-1].field != "" {
		m.made = append(m.made, mutant{path: path, gone: true})
	}
	for _, v := range m.schemas.variants(p) {
		m.made = append(m.made, mutant{path: path, value: v})
	}
	switch value := value.(type) {
	case []any:
		if len(value) > 0 {
			m.made = append(m.made, mutant{path: path, value: append(slices.Clone(value), value[0])})
		}
		items, _ := p["items"].(map[string]any)
		for i, v := range value {
			m.walk(append(path, step{item: i}), items, v)
		}
	case map[string]any, nil:
		fields, _ := value.(map[string]any)
		m.walkFields(path, p, fields)
	}
}

func (m *maker) walkFields(path []step, p property, values map[string]any) {
	if each, ok := p["additionalProperties"].(map[string]any); ok {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			m.walk(append(path, step{field: key}), each, values[key])
		}
		return
	}
	if values == nil && len(path) > absentDepth || inPodOfTemplate(path) {
		return
	}
	fields, _ := p["properties"].(map[string]any)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if field != "managedFields" {
			m.walk(append(path, step{field: field}), fields[field].(map[string]any), values[field])
		}
	}
}

// inPodOfTemplate: what is within the fields of a template's pod is asked of pods.
func inPodOfTemplate(path []step) bool {
	i := slices.Index(path, step{field: "template"})
	return i >= 0 && len(path) > i+2
}

// variants are the values, good and bad, that are tried for a field.
func (all schemas) variants(p property) []any {
	p = all.resolved(p)
	switch name := object(p).text("name"); {
	case strings.HasSuffix(name, "resource.Quantity"):
		return []any{"1", "-1", "0", "1500m", "abc", "1Gi"}
	case strings.HasSuffix(name, "intstr.IntOrString"), p["format"] == "int-or-string":
		return []any{-1, 0, 1, 70000, "a", "10%", "101%", "0%", "A_b!", ""}
	}
	switch p["type"] {
	case "string":
		return stringVariants(p)
	case "integer", "number":
		return []any{-1, 0, 1, 100, 70000, 3000000000}
	case "boolean":
		return []any{true, false}
	case "array":
		return all.listVariants(p)
	}
	if each, ok := p["additionalProperties"].(map[string]any); ok {
		return all.mapVariants(each)
	}
	variants := []any{map[string]any{}}
	if least, ok := all.least(p, 3).(map[string]any); ok && len(least) > 0 {
		variants = append(variants, least)
	}
	return variants
}

func stringVariants(p property) []any {
	switch p["format"] {
	case "date-time":
		return []any{"2026-01-02T03:04:05Z", "nope"}
	case "byte":
		return []any{"", "YQ==", "!!"}
	}
	variants := []any{"", "a", "A_b!", long, "1.2.3.4"}
	for _, word := range words(p) {
		variants = append(variants, word)
	}
	return variants
}

// quoted finds the values that a description names.
var quoted = regexp.MustCompile("\"([A-Z][A-Za-z]{1,30})\"")

// words are the values that the schema or its description names.
func words(p property) []string {
	var all []string
	enum, _ := p["enum"].([]any)
	for _, value := range enum {
		all = append(all, fmt.Sprint(value))
	}
	for _, match := range quoted.FindAllStringSubmatch(object(p).text("description"), -1) {
		all = append(all, match[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (all schemas) listVariants(p property) []any {
	items, _ := p["items"].(map[string]any)
	least := all.least(items, 3)
	variants := []any{[]any{}, []any{least}, []any{least, least}}
	if item := all.resolved(items); item["type"] == "string" {
		for _, v := range stringVariants(item) {
			variants = append(variants, []any{v})
		}
	}
	return variants
}

func (all schemas) mapVariants(each property) []any {
	variants := []any{map[string]any{}}
	for _, key := range []string{"a", "A b", "a/b/c", "kubernetes.io/a", "cpu", "memory", "example.com/x", strings.Repeat("k", 70)} {
		variants = append(variants, map[string]any{key: all.least(each, 2)})
	}
	for _, v := range all.variants(each) {
		variants = append(variants, map[string]any{"a": v})
	}
	return variants
}

// least makes a value with nothing but what the schema requires.
func (all schemas) least(p property, depth int) any {
	p = all.resolved(p)
	name := object(p).text("name")
	switch {
	case strings.HasSuffix(name, "resource.Quantity"):
		return "1"
	case strings.HasSuffix(name, "intstr.IntOrString"), p["type"] == "integer", p["type"] == "number":
		return 1
	case p["format"] == "date-time":
		return "2026-01-02T03:04:05Z"
	case p["type"] == "boolean":
		return true
	case p["type"] == "string":
		if enum, ok := p["enum"].([]any); ok {
			return enum[0]
		}
		return "a"
	case p["type"] == "array":
		items, _ := p["items"].(map[string]any)
		if depth == 0 {
			return []any{}
		}
		return []any{all.least(items, depth-1)}
	}
	out := map[string]any{}
	if each, ok := p["additionalProperties"].(map[string]any); ok && depth > 0 {
		out["a"] = all.least(each, depth-1)
	}
	fields, _ := p["properties"].(map[string]any)
	required, _ := p["required"].([]any)
	for _, field := range required {
		if depth > 0 {
			out[field.(string)] = all.least(fields[field.(string)].(map[string]any), depth-1)
		}
	}
	return out
}
