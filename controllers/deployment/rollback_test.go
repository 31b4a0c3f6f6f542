package deployment

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// One turn of a Deployment of image three, that had two and one before, with the annotation
// that asks for another revision: which image it has afterwards, and what was told.
func TestRollback(t *testing.T) {
	for _, test := range []struct {
		name, to, image, cause, event string
		history                       bool
	}{
		{name: "to a revision", to: "1", history: true, image: "one", cause: "of one", event: `Normal DeploymentRollback Rolled back deployment "web" to revision 1`},
		{name: "to the one before", to: "0", history: true, image: "two", cause: "of two", event: `Normal DeploymentRollback Rolled back deployment "web" to revision 2`},
		{name: "to the same", to: "3", history: true, image: "three", cause: "now",
			event: `Warning DeploymentRollbackTemplateUnchanged The rollback revision contains the same template as current deployment "web"`},
		{name: "to none", to: "7", history: true, image: "three", cause: "now", event: "Warning DeploymentRollbackRevisionNotFound Unable to find the revision to rollback to."},
		{name: "without a history", to: "0", image: "three", cause: "now", event: "Warning DeploymentRollbackRevisionNotFound Unable to find last revision."},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDeployment(2, "three")
			d.Annotations = map[string]string{appsv1.DeprecatedRollbackTo: test.to, RevisionAnnotation: "3", "kubernetes.io/change-cause": "now"}
			f := newFixture(d, rsOf(d, "three", "3", 2))
			if test.history {
				for image, revision := range map[string]string{"one": "1", "two": "2"} {
					rs := rsOf(d, image, revision, 0)
					rs.Annotations["kubernetes.io/change-cause"] = "of " + image
					rs.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = "hash"
					_ = f.client.Tracker().Add(rs)
				}
			}
			f.refresh(t)
			if _, err := f.syncDeployment(t.Context(), "ns/web"); err != nil {
				t.Fatal(err)
			}
			after, err := f.client.AppsV1().Deployments("ns").Get(t.Context(), "web", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := after.Spec.Template.Spec.Containers[0].Image; got != test.image {
				t.Errorf("image %s, want %s", got, test.image)
			}
			if _, hashed := after.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; hashed {
				t.Error("the template has the label of the ReplicaSet")
			}
			if _, asks := after.Annotations[appsv1.DeprecatedRollbackTo]; asks {
				t.Error("it would be rolled back again")
			}
			if got := after.Annotations["kubernetes.io/change-cause"]; got != test.cause {
				t.Errorf("change cause %q, want %q", got, test.cause)
			}
			if got := <-f.events.Events; strings.TrimSpace(got) != test.event {
				t.Errorf("event %q, want %q", got, test.event)
			}
		})
	}
	d := newDeployment(1, "one")
	d.Annotations = map[string]string{appsv1.DeprecatedRollbackTo: "x"}
	if _, asked := rollbackTo(d); asked {
		t.Error("what is no number asks for a rollback")
	}
}
