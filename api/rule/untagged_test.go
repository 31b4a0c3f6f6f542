package rule_test

import (
	"encoding/json"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

func TestUntagged(t *testing.T) {
	for want, value := range map[string]any{
		`{"Type":"x","RollingUpdate":null}`:                                appsv1.DeploymentStrategy{Type: "x"},
		`{"Type":"","RollingUpdate":{"MaxUnavailable":"5%","MaxSurge":1}}`: &appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr.To(intstr.FromString("5%")), MaxSurge: ptr.To(intstr.FromInt32(1))}},
		`{"matchLabels":{"a":"b"}}`:                                        &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		`{"CIDR":"x","Except":["y"]}`:                                      networkingv1.IPBlock{CIDR: "x", Except: []string{"y"}},
		// What is embedded is not told apart.
		`{"Name":"a","Optional":null}`: v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "a"}},
		`null`:                         (*appsv1.DeploymentStrategy)(nil),
	} {
		if text, err := json.Marshal(rule.Untagged(value)); err != nil || string(text) != want {
			t.Errorf("%T: %s, %v, want %s", value, text, err, want)
		}
	}
}
