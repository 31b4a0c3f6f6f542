package endpoints

import (
	"reflect"
	"strings"

	"github.com/emicklei/go-restful/v3"
)

// queryParams adds the fields of an options struct as query parameters, with the
// documentation its type carries. Clients read from them what a server can do:
// kubectl asks for dryRun and fieldValidation here.
func (i *installer) queryParams(b *restful.RouteBuilder, options any) *restful.RouteBuilder {
	documented, _ := options.(interface{ SwaggerDoc() map[string]string })
	docs := map[string]string{}
	if documented != nil {
		docs = documented.SwaggerDoc()
	}
	structure := reflect.TypeOf(options).Elem()
	for n := range structure.NumField() {
		name, _, _ := strings.Cut(structure.Field(n).Tag.Get("json"), ",")
		kind, format := parameterType(structure.Field(n).Type)
		if name == "" || kind == "" {
			continue
		}
		parameter := i.ws.QueryParameter(name, docs[name]).DataType(kind)
		if format == "array" {
			// In the query it is repeated; documents show one value.
			parameter.DataType("string")
		}
		b.Param(parameter)
	}
	return b
}

// parameterType is the type of a query parameter; "" for what can't be one.
func parameterType(t reflect.Type) (kind, format string) {
	switch t.Kind() {
	case reflect.Pointer:
		return parameterType(t.Elem())
	case reflect.Bool:
		return "boolean", ""
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "integer", ""
	case reflect.String:
		return "string", ""
	case reflect.Slice:
		if kind, _ := parameterType(t.Elem()); kind != "" {
			return "string", "array"
		}
	}
	return "", ""
}
