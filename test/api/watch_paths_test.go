package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/test/integration"
)

// The paths of before v1.11: what they name is watched without being asked to, an object by its name, and the right to it is the
// one to watch.
func TestWatchPaths(t *testing.T) {
	cluster := integration.Start(t)
	for _, name := range []string{"a", "b"} {
		made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := cluster.Client.CoreV1().ConfigMaps("default").Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	core := cluster.Client.CoreV1().RESTClient()
	for _, test := range []struct{ path, field, want string }{
		{"/api/v1/watch/namespaces/default/configmaps/b", "", "b"},
		{"/api/v1/watch/namespaces/default/configmaps", "metadata.name=b", "b"},
		{"/api/v1/watch/configmaps", "metadata.name=b", "b"},
		{"/api/v1/watch/namespaces/default", "", "default"},
		{"/apis/rbac.authorization.k8s.io/v1/watch/clusterroles/view", "", "view"},
	} {
		if name := firstEvent(t, core.Get().AbsPath(test.path).Param("fieldSelector", test.field)); name != test.want {
			t.Errorf("%s: the first event is of %q, want %q", test.path, name, test.want)
		}
	}
	err := core.Get().AbsPath("/api/v1/watch/namespaces/default/configmaps/b").Param("fieldSelector", "metadata.name=a").Do(t.Context()).Error()
	if !apierrors.IsBadRequest(err) {
		t.Errorf("a name and another in the selector: %v", err)
	}
	if err := core.Get().AbsPath("/api/v1/watch/componentstatuses").Do(t.Context()).Error(); !apierrors.IsNotFound(err) {
		t.Errorf("what cannot be watched: %v", err)
	}

	allow(t, cluster, "jane", "reader", rbacv1.PolicyRule{APIGroups: []string{""}, Verbs: []string{"get", "list"}, Resources: []string{"configmaps"}})
	jane := kubernetes.NewForConfigOrDie(cluster.ConfigAs("jane")).CoreV1().RESTClient()
	if err := jane.Get().AbsPath("/api/v1/watch/configmaps").Do(t.Context()).Error(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `cannot watch resource "configmaps"`) {
		t.Errorf("who may list, but not watch: %v", err)
	}
}

// firstEvent is the name of the first object that a watch tells of.
func firstEvent(t *testing.T, request *rest.Request) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	body, err := request.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	line, err := bufio.NewReader(body).ReadBytes('\n')
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	var event struct {
		Type   string
		Object metav1.PartialObjectMetadata
	}
	if err := json.Unmarshal(line, &event); err != nil || event.Type != "ADDED" {
		t.Fatalf("not an event: %s", line)
	}
	return event.Object.Name
}
