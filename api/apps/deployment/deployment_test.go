package deployment

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
)

func good() *appsv1.Deployment {
	app := map[string]string{"app": "web"}
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: app},
		Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "web", Image: "i"}}}},
	}}
	SetDefaults(d)
	return d
}

func TestValidate(t *testing.T) {
	rolling := func(unavailable, surge intstr.IntOrString) func(*appsv1.DeploymentSpec) {
		return func(s *appsv1.DeploymentSpec) {
			s.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: &unavailable, MaxSurge: &surge}
		}
	}
	for name, test := range map[string]struct {
		change func(s *appsv1.DeploymentSpec)
		want   []string
	}{
		"good":              {func(s *appsv1.DeploymentSpec) {}, nil},
		"negative":          {func(s *appsv1.DeploymentSpec) { s.Replicas = ptr.To[int32](-1) }, []string{"spec.replicas: Invalid value: -1: must be greater than or equal to 0"}},
		"other labels":      {func(s *appsv1.DeploymentSpec) { s.Template.Labels = nil }, []string{"spec.template.metadata.labels: Invalid value … `selector` does not match template `labels`"}},
		"the pod's own":     {func(s *appsv1.DeploymentSpec) { s.Template.Spec.Containers[0].Name = "" }, []string{"spec.template.spec.containers[0].name: Required value"}},
		"recreate, rolling": {func(s *appsv1.DeploymentSpec) { s.Strategy.Type = appsv1.RecreateDeploymentStrategyType }, []string{"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"}},
		"strategy":          {func(s *appsv1.DeploymentSpec) { s.Strategy.Type = "x" }, []string{`spec.strategy: Unsupported value: {"Type":"x","RollingUpdate":{"MaxUnavailable":"25%","MaxSurge":"25%"}}: supported values: "Recreate", "RollingUpdate"`}},
		"no room":           {rolling(intstr.FromInt32(0), intstr.FromString("0%")), []string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value … may not be 0 when `maxSurge` is 0"}},
		"too much":          {rolling(intstr.FromString("110%"), intstr.FromInt32(1)), []string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value … must not be greater than 100%"}},
		"no percent":        {rolling(intstr.FromString("x"), intstr.FromInt32(1)), []string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value … a valid percent string must be a numeric string followed by an ending '%'"}},
		"deadline":          {func(s *appsv1.DeploymentSpec) { s.MinReadySeconds = 600 }, []string{"spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := good()
			test.change(&d.Spec)
			ruletest.Expect(t, Validate(d), test.want...)
		})
	}
}

func TestValidateUpdate(t *testing.T) {
	d, old := good(), good()
	d.Spec.Template.Spec.Containers[0].Image = "other"
	ruletest.Expect(t, ValidateUpdate(d, old))
	d.Spec.Selector.MatchLabels = map[string]string{"app": "web", "b": "c"}
	d.Spec.Template.Labels = d.Spec.Selector.MatchLabels
	ruletest.Expect(t, ValidateUpdate(d, old), "spec.selector: Invalid value … field is immutable")
}

func TestValidateStatusUpdate(t *testing.T) {
	d := good()
	d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 2}
	ruletest.Expect(t, ValidateStatusUpdate(d, good()), "status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas")
}
