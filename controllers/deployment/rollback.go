package deployment

import (
	"context"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The reasons of the events of a rollback.
const (
	RollbackRevisionNotFound  = "DeploymentRollbackRevisionNotFound"
	RollbackTemplateUnchanged = "DeploymentRollbackTemplateUnchanged"
	RollbackDone              = "DeploymentRollback"
)

// rollbackTo is the revision that the annotation asks for, 0 for the one before the last.
// The annotation is what is left of spec.rollbackTo, which the groups before apps/v1 had;
// kubectl does an undo itself. One that is no number asks for nothing.
func rollbackTo(d *appsv1.Deployment) (revision int64, asked bool) {
	revision, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedRollbackTo], 10, 64)
	return revision, err == nil
}

// rollback gives d the template of the revision, and takes the question off whatever the
// answer is: it would be asked again for ever.
func (dc *DeploymentController) rollback(ctx context.Context, d *appsv1.Deployment, rsList []*appsv1.ReplicaSet, revision int64) error {
	newRS, oldRSs, err := dc.getAllReplicaSetsAndSyncRevision(ctx, d, rsList, true)
	if err != nil {
		return err
	}
	all := allReplicaSets(oldRSs, newRS)
	if revision == 0 {
		if revision = LastRevision(all); revision == 0 {
			dc.eventRecorder.Event(d, corev1.EventTypeWarning, RollbackRevisionNotFound, "Unable to find last revision.")
			return dc.updateDeploymentAndClearRollbackTo(ctx, d)
		}
	}
	at := slices.IndexFunc(all, func(rs *appsv1.ReplicaSet) bool {
		v, err := Revision(rs)
		return err == nil && v == revision
	})
	if at < 0 {
		dc.eventRecorder.Event(d, corev1.EventTypeWarning, RollbackRevisionNotFound, "Unable to find the revision to rollback to.")
		return dc.updateDeploymentAndClearRollbackTo(ctx, d)
	}
	if EqualIgnoreHash(&d.Spec.Template, &all[at].Spec.Template) {
		dc.eventRecorder.Eventf(d, corev1.EventTypeWarning, RollbackTemplateUnchanged,
			"The rollback revision contains the same template as current deployment %q", d.Name)
		return dc.updateDeploymentAndClearRollbackTo(ctx, d)
	}
	setTemplateOf(d, all[at])
	if err := dc.updateDeploymentAndClearRollbackTo(ctx, d); err != nil {
		return err
	}
	dc.eventRecorder.Eventf(d, corev1.EventTypeNormal, RollbackDone, "Rolled back deployment %q to revision %d", d.Name, revision)
	return nil
}

// LastRevision is the second highest revision, 0 where there is none: the highest is of
// the template of now.
func LastRevision(rsList []*appsv1.ReplicaSet) int64 {
	var highest, second int64
	for _, rs := range rsList {
		v, err := Revision(rs)
		switch {
		case err != nil:
		case v >= highest:
			highest, second = v, highest
		case v > second:
			second = v
		}
	}
	return second
}

// setTemplateOf takes the ReplicaSet's template over, and the annotations that came from d
// when that was d's template: the change cause belongs to the template.
func setTemplateOf(d *appsv1.Deployment, rs *appsv1.ReplicaSet) {
	d.Spec.Template = *rs.Spec.Template.DeepCopy()
	delete(d.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	annotations := map[string]string{}
	for key, value := range d.Annotations {
		if slices.Contains(notCopied, key) {
			annotations[key] = value
		}
	}
	for key, value := range rs.Annotations {
		if !slices.Contains(notCopied, key) {
			annotations[key] = value
		}
	}
	d.Annotations = annotations
}

func (dc *DeploymentController) updateDeploymentAndClearRollbackTo(ctx context.Context, d *appsv1.Deployment) error {
	delete(d.Annotations, appsv1.DeprecatedRollbackTo)
	_, err := dc.client.AppsV1().Deployments(d.Namespace).Update(ctx, d, metav1.UpdateOptions{})
	return err
}
