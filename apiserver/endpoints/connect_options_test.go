package endpoints

import (
	"net/url"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

// R40, R41: what kubectl puts into the query of logs, exec and port-forward.
func TestDecodeConnectOptions(t *testing.T) {
	for _, test := range []struct {
		query string
		want  runtime.Object
	}{
		{"command=sh&command=-c&command=ls+-l&container=app&stdin=true&stdout=true&tty=true", &corev1.PodExecOptions{
			Command: []string{"sh", "-c", "ls -l"}, Container: "app", Stdin: true, Stdout: true, TTY: true,
		}},
		{"follow=true&tailLines=0&sinceTime=2026-01-02T03:04:05Z&stream=Stdout&unknown=1&previous=false", &corev1.PodLogOptions{
			Follow: true, TailLines: ptr.To(int64(0)), Stream: ptr.To("Stdout"),
			SinceTime: &metav1.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Local()},
		}},
		{"ports=80&ports=8080", &corev1.PodPortForwardOptions{Ports: []int32{80, 8080}}},
		{"path=%2Fmetrics", &corev1.NodeProxyOptions{Path: "/metrics"}},
		{"follow", &corev1.PodLogOptions{Follow: true}},
	} {
		query, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(test.want).Elem()).Interface().(runtime.Object)
		if err := decodeConnectOptions(query, got); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v %+v", test.query, err, got)
		}
	}
	if err := decodeConnectOptions(url.Values{"tailLines": {"x"}}, &corev1.PodLogOptions{}); err == nil {
		t.Error("tailLines=x was accepted")
	}
}
