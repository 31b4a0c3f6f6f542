package framework

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	kubejson "sigs.k8s.io/json"
)

// Args are a plugin's settings in the scheduler's configuration file, as JSON. Empty: there are none.
type Args []byte

// Into reads the settings into a struct whose defaults are set. What it does not know is an error; null leaves the default.
func (a Args) Into(target any) error {
	if len(a) == 0 {
		return nil
	}
	set, err := withoutNulls(a)
	if err != nil {
		return fmt.Errorf("args: %w", err)
	}
	strict, err := kubejson.UnmarshalStrict(set, target)
	if err == nil {
		err = errors.Join(strict...)
	}
	if err != nil {
		return fmt.Errorf("args: %w", err)
	}
	return nil
}

// withoutNulls drops the fields that are null: decoded, they would take the default away and leave nothing.
func withoutNulls(a Args) ([]byte, error) {
	if !bytes.Contains(a, []byte("null")) {
		return a, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(a, &fields); err != nil {
		return nil, err
	}
	maps.DeleteFunc(fields, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	return json.Marshal(fields)
}
