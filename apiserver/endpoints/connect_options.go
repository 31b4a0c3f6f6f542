package endpoints

import (
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// decodeConnectOptions fills the options of a connection (v1.PodExecOptions …) from the query, each field by
// its JSON name. These kinds have no body and no conversions in k8s.io/api: upstream generates one for
// each. Unknown parameters are left for whoever is connected to.
func decodeConnectOptions(query url.Values, into runtime.Object) error {
	v := reflect.ValueOf(into).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		values, given := query[name]
		if name == "" || !given || len(values) == 0 {
			continue
		}
		if err := setField(v.Field(i), values); err != nil {
			return errors.NewBadRequest(fmt.Sprintf("unable to decode query parameter %q: %v", name, err))
		}
	}
	return nil
}

// setField reads the forms that occur: text, booleans, numbers, times, lists, and pointers to them. A
// boolean without a value is true.
func setField(field reflect.Value, values []string) error {
	switch field.Kind() {
	case reflect.Pointer:
		if values[0] == "" {
			return nil
		}
		field.Set(reflect.New(field.Type().Elem()))
		return setField(field.Elem(), values)
	case reflect.Slice:
		list := reflect.MakeSlice(field.Type(), len(values), len(values))
		for i := range values {
			if err := setField(list.Index(i), values[i:i+1]); err != nil {
				return err
			}
		}
		field.Set(list)
	case reflect.String:
		field.SetString(values[0])
	case reflect.Bool:
		field.SetBool(values[0] != "0" && !strings.EqualFold(values[0], "false"))
	case reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(values[0], 10, field.Type().Bits())
		if err != nil {
			return err
		}
		field.SetInt(n)
	case reflect.Struct:
		at, ok := field.Addr().Interface().(*metav1.Time)
		if !ok {
			return fmt.Errorf("a %s can't be given in a query", field.Type())
		}
		return at.UnmarshalQueryParameter(values[0])
	}
	return nil
}
