package endpoints

import (
	"reflect"
	"slices"
	"strings"

	"github.com/emicklei/go-restful/v3"
)

// queryParams adds the fields of an options struct as query parameters, with the
// documentation its type carries. Clients read from them what a server can do:
// kubectl asks for dryRun and fieldValidation here. Those named without are left out.
func queryParams(b *restful.RouteBuilder, options any, without ...string) *restful.RouteBuilder {
	documented, _ := options.(interface{ SwaggerDoc() map[string]string })
	docs := map[string]string{}
	if documented != nil {
		docs = documented.SwaggerDoc()
	}
	structure := reflect.TypeOf(options).Elem()
	for n := range structure.NumField() {
		name, _, _ := strings.Cut(structure.Field(n).Tag.Get("json"), ",")
		kind := parameterType(structure.Field(n).Type)
		if name == "" || kind == "" || slices.Contains(without, name) {
			continue
		}
		b.Param(restful.QueryParameter(name, docs[name]).DataType(kind))
	}
	return b
}

// parameterType is the type of a query parameter; "" for what can't be one. A list is repeated in the query: documents show one
// value.
func parameterType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return parameterType(t.Elem())
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.String:
		return "string"
	}
	return ""
}
