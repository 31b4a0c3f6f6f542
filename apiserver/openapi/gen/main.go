// Command gen writes ../definitions.json.gz: the OpenAPI schemas of every type
// the apiserver serves, by their model names (io.k8s.api.core.v1.Pod).
//
//	go run ./apiserver/openapi/gen      (from the module's root; make generate)
//
// Step 1: openapi-gen reads the comments and markers of the k8s.io/api
// packages below and writes them as a Go function into a throwaway package.
// Step 2: a throwaway main calls that function and prints the schemas as JSON.
// Step 3: the JSON goes through gzip into the tree.
//
// The detour over Go code is openapi-gen's own: it knows no other output.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/gengo/v2"
	"k8s.io/gengo/v2/generator"
	"k8s.io/kube-openapi/cmd/openapi-gen/args"
	"k8s.io/kube-openapi/pkg/generators"
)

const (
	output   = "apiserver/openapi/definitions.json.gz"
	tempRoot = "apiserver/openapi/gen/tmp"
	tempPkg  = "hyperkube/apiserver/openapi/gen/tmp"
)

// packages hold the types of the served API, and those that these refer to.
var packages = []string{
	"k8s.io/api/admissionregistration/v1",
	"k8s.io/api/apidiscovery/v2",
	"k8s.io/api/apps/v1",
	"k8s.io/api/authentication/v1",
	"k8s.io/api/authorization/v1",
	"k8s.io/api/autoscaling/v1",
	"k8s.io/api/autoscaling/v2",
	"k8s.io/api/batch/v1",
	"k8s.io/api/certificates/v1",
	"k8s.io/api/coordination/v1",
	"k8s.io/api/core/v1",
	"k8s.io/api/discovery/v1",
	"k8s.io/api/events/v1",
	"k8s.io/api/flowcontrol/v1",
	"k8s.io/api/networking/v1",
	"k8s.io/api/node/v1",
	"k8s.io/api/policy/v1",
	"k8s.io/api/rbac/v1",
	"k8s.io/api/resource/v1",
	"k8s.io/api/scheduling/v1",
	"k8s.io/api/scheduling/v1alpha3", // batch/v1 refers to it
	"k8s.io/api/storage/v1",
	"k8s.io/api/storagemigration/v1",
	"k8s.io/apimachinery/pkg/api/resource",
	"k8s.io/apimachinery/pkg/apis/meta/v1",
	"k8s.io/apimachinery/pkg/runtime",
	"k8s.io/apimachinery/pkg/util/intstr",
	"k8s.io/apimachinery/pkg/version",
}

const dump = `package main

import (
	"encoding/json"
	"os"
	"strings"

	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"` + tempPkg + `/definitions"
)

// friendly leaves model names alone and turns those of types without one (k8s.io/apimachinery's) around.
func friendly(name string) string {
	if strings.Contains(name, "/") {
		return util.ToRESTFriendlyName(name)
	}
	return name
}

func main() {
	ref := func(name string) spec.Ref {
		return spec.MustCreateRef("#/definitions/" + friendly(name))
	}
	schemas := map[string]spec.Schema{}
	all := definitions.GetOpenAPIDefinitions(ref)
	for name, definition := range all {
		for _, other := range definition.Dependencies {
			if _, known := all[other]; !known {
				panic(name + " refers to " + other + ": add its package")
			}
		}
		schema := definition.Schema
		// A v2 document cannot say oneOf (quantities): the generator keeps its view in an extension.
		delete(schema.Extensions, "x-kubernetes-v2-schema")
		schemas[friendly(name)] = schema
	}
	if err := json.NewEncoder(os.Stdout).Encode(schemas); err != nil {
		panic(err)
	}
}
`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	defer os.RemoveAll(tempRoot)
	// Step 1
	if err := generate(filepath.Join(tempRoot, "definitions")); err != nil {
		return fmt.Errorf("openapi-gen: %w", err)
	}
	// Step 2
	dir := filepath.Join(tempRoot, "dump")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(dump), 0o644); err != nil {
		return err
	}
	command := exec.Command("go", "run", "./"+dir)
	command.Stderr = os.Stderr
	schemas, err := command.Output()
	if err != nil {
		return fmt.Errorf("%v: %w", command.Args, err)
	}
	// Step 3
	var packed bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if _, err := writer.Write(schemas); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return os.WriteFile(output, packed.Bytes(), 0o644)
}

func generate(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	options := args.New()
	options.OutputDir = dir
	options.OutputPkg = tempPkg + "/definitions"
	options.OutputFile = "generated.openapi.go"
	options.ReportFilename = os.DevNull
	targets := func(c *generator.Context) []generator.Target {
		return generators.GetOpenAPITargets(c, options, nil)
	}
	return gengo.Execute(generators.NameSystems(), generators.DefaultNameSystem(), targets, gengo.StdBuildTag, packages)
}
