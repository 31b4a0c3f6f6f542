package endpoints

import (
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/storage"
)

// plainTable is how a resource without columns of its own looks in kubectl.
var plainTable = &registry.Table{
	Columns: []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
		{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
	},
	Cells: func(obj runtime.Object) []any {
		accessor, err := meta.Accessor(obj)
		if err != nil {
			return []any{"", ""}
		}
		return []any{accessor.GetName(), accessor.GetCreationTimestamp().UTC().Format("2006-01-02T15:04:05Z")}
	},
}

// table lays objects out in columns. Without columns (a watch's later events) it is rows only.
func (s *Scope) table(objects []*storage.Object, f form, columns bool) (*metav1.Table, error) {
	if err := checkIncludeObject(f.includeObject); err != nil {
		return nil, err
	}
	layout := s.Resource.Table
	if layout == nil {
		layout = plainTable
	}
	table := &metav1.Table{}
	if layout != plainTable {
		table.Rows = make([]metav1.TableRow, 0, len(objects)) // upstream's own columns, unlike the plain ones, have rows: []
	}
	if columns {
		table.ColumnDefinitions = layout.Columns
	}
	for _, o := range objects {
		served := s.toServed(o.Object)
		row := metav1.TableRow{Cells: layout.Cells(served)}
		switch f.includeObject {
		case metav1.IncludeObject:
			data, err := s.appendStored(nil, o, form{media: mediaJSON}, true)
			if err != nil {
				return nil, err
			}
			row.Object.Raw = data
		case metav1.IncludeMetadata, "":
			partial, err := partialMetadata(served, f)
			if err != nil {
				return nil, err
			}
			row.Object.Object = partial
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}

// writeOwn answers with what a subresource of a shape of its own (Scale) returned.
func (s *Scope) writeOwn(w http.ResponseWriter, r *http.Request, f form, obj runtime.Object) error {
	switch f.as {
	case "Table":
		if err := checkIncludeObject(f.includeObject); err != nil {
			return err
		}
		layout := s.Sub.Table
		if layout == nil {
			layout = plainTable
		}
		partial, err := partialMetadata(obj, f)
		if err != nil {
			return err
		}
		row := metav1.TableRow{Cells: layout.Cells(obj)}
		switch f.includeObject {
		case metav1.IncludeObject:
			row.Object.Object = ofKind(obj, s.kind())
		case metav1.IncludeMetadata:
			row.Object.Object = partial
		}
		table := &metav1.Table{ColumnDefinitions: layout.Columns, Rows: []metav1.TableRow{row}}
		table.ResourceVersion = partial.ResourceVersion
		obj = ofKind(table, f.metaKind("Table"))
	case "PartialObjectMetadataList":
		return wrongView(f.as, "not a list", s.kind())
	case "PartialObjectMetadata":
		partial, err := partialMetadata(obj, f)
		if err != nil {
			return err
		}
		obj = partial
	default:
		obj = ofKind(obj, s.kind())
	}
	return writeAny(w, r, f, http.StatusOK, obj)
}

func (s *Scope) writeTable(w http.ResponseWriter, r *http.Request, f form, list *storage.List) error {
	table, err := s.table(list.Items, f, true)
	if err != nil {
		return err
	}
	table.ListMeta = listMeta(list)
	return writeAny(w, r, f, http.StatusOK, ofKind(table, f.metaKind("Table")))
}
