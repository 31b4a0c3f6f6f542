package why

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// lastChanged says who last changed which fields, newest first: the managed fields say it of all
// fields, the record knows the user and the line of code of what it still has.
func lastChanged(f *facts) []Finding {
	managed := slices.Clone(f.object.GetManagedFields())
	slices.SortStableFunc(managed, func(a, b metav1.ManagedFieldsEntry) int { return timeOf(&b).Compare(timeOf(&a)) })
	var lines []string
	for i := range managed {
		m := &managed[i]
		line := fmt.Sprintf("%s, %s: %s", m.Manager, ago(f.now, timeOf(m)), fieldsOf(m))
		if c := f.changeOf(m); c != nil {
			if c.user != "" {
				line += "; as " + c.user
			}
			if c.source != "" {
				line += ", " + c.source
			}
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return nil
	}
	return []Finding{{Weight: Note, Title: "Last changed by", Evidence: lines}}
}

func timeOf(m *metav1.ManagedFieldsEntry) time.Time {
	if m.Time == nil {
		return time.Time{}
	}
	return m.Time.Time
}

// changeOf is the recorded write by which a manager came to its fields: the last of this
// program. Managed fields keep whole seconds, so times are compared that way.
func (f *facts) changeOf(m *metav1.ManagedFieldsEntry) *change {
	for i := len(f.changes) - 1; i >= 0; i-- {
		c := &f.changes[i]
		program, _, _ := strings.Cut(c.program, "/")
		// Of one program there may be several managers: kubectl-client-side-apply, kubectl-edit.
		if (m.Manager == program || strings.HasPrefix(m.Manager, program+"-")) && !c.time.Truncate(time.Second).After(timeOf(m)) {
			return c
		}
	}
	return nil
}

// fieldsOf names the fields of an entry, at most six: of a list's item not what is in it, for
// most often all of it was written at once.
func fieldsOf(m *metav1.ManagedFieldsEntry) string {
	set := &fieldpath.Set{}
	if m.FieldsV1 == nil || set.FromJSON(bytes.NewReader(m.FieldsV1.GetRawBytes())) != nil {
		return strings.TrimSpace(m.Subresource + " " + m.FieldsType)
	}
	var paths []string
	set.Leaves().Iterate(func(path fieldpath.Path) {
		text := strings.TrimPrefix(path.String(), ".")
		for _, noise := range []string{`"`, "name=", "type=", "uid="} {
			text = strings.ReplaceAll(text, noise, "")
		}
		if cut := strings.Index(text, "]."); cut >= 0 {
			text = text[:cut+1]
		}
		if text != "metadata.annotations."+corev1.LastAppliedConfigAnnotation && !slices.Contains(paths, text) {
			paths = append(paths, text)
		}
	})
	// What is wanted comes before labels and annotations.
	slices.SortStableFunc(paths, func(a, b string) int { return cmp.Compare(metadataLast(a), metadataLast(b)) })
	return few(paths, 6)
}

func metadataLast(path string) int {
	if strings.HasPrefix(path, "metadata.") {
		return 1
	}
	return 0
}

// managerOf is who owns a field by the managed fields: "kubectl-cordon, 12s ago".
func (f *facts) managerOf(path ...string) string {
	elements := make([]any, len(path))
	for i, name := range path {
		elements[i] = name
	}
	wanted, err := fieldpath.MakePath(elements...)
	if err != nil {
		return ""
	}
	managed := f.object.GetManagedFields()
	for i := range managed {
		m := &managed[i]
		set := &fieldpath.Set{}
		if m.FieldsV1 == nil || set.FromJSON(bytes.NewReader(m.FieldsV1.GetRawBytes())) != nil {
			continue
		}
		if set.Has(wanted) || !set.WithPrefix(wanted[0]).Empty() && len(wanted) == 1 {
			return fmt.Sprintf("%s, %s", m.Manager, ago(f.now, timeOf(m)))
		}
	}
	return ""
}

// whoChanged names who last changed a field, by the record, else by the managed fields; "": unknown.
func (f *facts) whoChanged(path ...string) string {
	if c := f.changed(strings.Join(path, ".")); c != nil {
		return fmt.Sprintf("by %s, %s", c.by(), ago(f.now, c.time))
	}
	if manager := f.managerOf(path...); manager != "" {
		return "by " + manager + " (managed fields)"
	}
	return ""
}
