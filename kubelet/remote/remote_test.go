package remote

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const value = "c4nary-hunter2"

// What a runtime says of a command that does not start keeps its code and its words, without the values of Secrets.
func TestErrorsDoNotQuoteSecrets(t *testing.T) {
	failed := status.Error(codes.NotFound, `exec: "/no/such/`+value+`": no such file`)
	for _, test := range []struct {
		name   string
		values []string
		want   string
	}{
		{"no secret", nil, `exec: "/no/such/` + value + `": no such file`},
		{"a secret", []string{"other", value}, `exec: "/no/such/<redacted>": no such file`},
		{"one too short to be told from words", []string{"no"}, `exec: "/no/such/` + value + `": no such file`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := hideSecrets(WithSecrets(context.Background(), test.values), failed)
			if status.Code(err) != codes.NotFound || status.Convert(err).Message() != test.want {
				t.Errorf("%v", err)
			}
		})
	}
	if err := hideSecrets(WithSecrets(context.Background(), []string{value}), nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

// Of a pod's sandbox the log leaves out the manifest that kubectl apply keeps in an annotation.
func TestLogHasNoManifest(t *testing.T) {
	request := &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{
		Annotations: map[string]string{v1.LastAppliedConfigAnnotation: `{"env":"` + value + `"}`, "kept": "yes"}}}
	text := Redact(request)
	if strings.Contains(text, value) || !strings.Contains(text, "kept") {
		t.Error(text)
	}
	if len(request.Config.Annotations) != 2 {
		t.Error("the request itself has been changed")
	}
}
