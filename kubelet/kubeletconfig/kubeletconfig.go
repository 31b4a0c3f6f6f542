// Package kubeletconfig reads the kubelet's configuration file: KubeletConfiguration kubelet.config.k8s.io/v1beta1, as
// upstream's kubelet takes it.
//
//	--config FILE ──┐ merge            ┌─► Settings: field → flag    the command line goes before it
//	--config-dir DIR┴──────► decode ───┼─► Ignored: known, no use    logged at the start
//	  *.conf in order        defaults  └─► Warning: unknown fields   logged; decoded without them
//	                         validate
//
// A field is a flag by another name: what the file sets becomes the value of a flag that the command line does not set
// (`kubelet/kubeletconfig/fields.go:flags`). So there is one place where each value is understood, whoever gives it. Fields
// that are not in the table are ignored, each with a line in the log; nothing is left out in silence.
//
// Merging is RFC 7386's: maps grow together, lists and values are replaced, null takes away. A field of the
// wrong type is an error; an unknown one is a warning, as upstream has it for v1beta1.
//
// Defaults are upstream's where a file is used, also where this kubelet's own are others: images go at 85 % of the disk, pulls
// are one at a time and at most 5 a second. But what is not said stays this cluster's own: addresses, certificates and
// their rotation, DNS, the runtime, the place of static pods; and swap is refused only by a file that says so.
//
// Read first: Load, settings.
//
// In Kubernetes: pkg/kubelet/kubeletconfig/configfiles (loading), pkg/kubelet/apis/config (defaults, validation),
// cmd/kubelet/app/server.go (merging of directory and flags). Left out: feature gates.
package kubeletconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	configv1beta1 "k8s.io/kubelet/config/v1beta1"
	kubejson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// File is what the configuration files say.
type File struct {
	// Settings are values of flags, in the order of the fields.
	Settings []Setting
	// Ignored are the fields that are set and mean nothing here, each with the reason.
	Ignored []string
	// Warnings tell what is in the files and no field.
	Warnings []error
}

// Setting is a field that is the value of a flag.
type Setting struct{ Field, Flag, Value string }

// Load reads the file at path, if any, and then those in the directory dir, if any.
func Load(path, dir string) (*File, error) {
	file, merged := &File{}, map[string]any{}
	paths, err := dropIns(dir)
	if err != nil {
		return nil, fmt.Errorf("the kubelet's configuration: %w", err)
	}
	if path != "" {
		paths = append([]string{path}, paths...)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err == nil {
			err = file.add(merged, data, filepath.Dir(path))
		}
		if err != nil {
			return nil, fmt.Errorf("the kubelet's configuration %s: %w", path, err)
		}
	}
	data, err := json.Marshal(merged)
	if err != nil {
		return nil, err
	}
	config := configv1beta1.KubeletConfiguration{}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("the kubelet's configuration: %w", err)
	}
	setDefaults(&config)
	if err := validate(&config); err != nil {
		return nil, fmt.Errorf("the kubelet's configuration: %w", err)
	}
	file.Settings, file.Ignored = settings(&config)
	return file, nil
}

// dropIns are the files *.conf in dir and below it, in the order of their names.
func dropIns(dir string) (paths []string, err error) {
	if dir == "" {
		return nil, nil
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Ext(path) == ".conf" {
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

// add decodes one file and merges it. Paths in it that are relative are so to its directory.
func (f *File) add(merged map[string]any, data []byte, dir string) error {
	text, strict := yaml.YAMLToJSONStrict(data)
	if strict != nil { // a field that stands there twice, say
		var err error
		if text, err = yaml.YAMLToJSON(data); err != nil {
			return err
		}
		f.Warnings = append(f.Warnings, strict)
	}
	config, fields := configv1beta1.KubeletConfiguration{}, map[string]any{}
	unknown, err := kubejson.UnmarshalStrict(text, &config)
	if err == nil {
		err = kubejson.UnmarshalCaseSensitivePreserveInts(text, &fields)
	}
	if err != nil {
		return err
	}
	if config.Kind != "KubeletConfiguration" || config.APIVersion != configv1beta1.SchemeGroupVersion.String() {
		return fmt.Errorf("it is a %q of %q, must be a KubeletConfiguration of %s", config.Kind, config.APIVersion, configv1beta1.SchemeGroupVersion)
	}
	if err := errors.Join(unknown...); err != nil {
		f.Warnings = append(f.Warnings, err)
	}
	resolvePaths(fields, dir)
	merge(merged, fields)
	return nil
}

// resolvePaths makes the paths of a file's fields absolute.
func resolvePaths(fields map[string]any, dir string) {
	absolute := func(at map[string]any, names ...string) {
		for _, name := range names {
			if path, ok := at[name].(string); ok && path != "" && !filepath.IsAbs(path) {
				at[name] = filepath.Join(dir, path)
			}
		}
	}
	absolute(fields, "staticPodPath", "tlsCertFile", "tlsPrivateKeyFile", "resolvConf")
	if authentication, ok := fields["authentication"].(map[string]any); ok {
		if x509, ok := authentication["x509"].(map[string]any); ok {
			absolute(x509, "clientCAFile")
		}
	}
}

// merge is RFC 7386.
func merge(into, from map[string]any) {
	for name, value := range from {
		inner, isMap := value.(map[string]any)
		if value == nil {
			delete(into, name)
		} else if !isMap {
			into[name] = value
		} else {
			under, ok := into[name].(map[string]any)
			if !ok {
				under = map[string]any{}
				into[name] = under
			}
			merge(under, inner)
		}
	}
}
