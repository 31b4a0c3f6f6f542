package framework

import (
	"errors"
	"fmt"

	kubejson "sigs.k8s.io/json"
)

// Args are a plugin's settings in the scheduler's configuration file, as JSON. Empty: there are none.
type Args []byte

// Into reads the settings into a struct whose defaults are set. What it does not know is an error.
func (a Args) Into(target any) error {
	if len(a) == 0 {
		return nil
	}
	strict, err := kubejson.UnmarshalStrict(a, target)
	if err == nil {
		err = errors.Join(strict...)
	}
	if err != nil {
		return fmt.Errorf("args: %w", err)
	}
	return nil
}
