package deployment

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// model is a cluster in which ReplicaSets get their pods at random speed.
type model struct {
	*fixture
	random *rand.Rand
	steps  []string
}

// Through rollouts that begin in the middle of others, with pods becoming
// available in any order, the number of replicas asked for stays at or below
// replicas + maxSurge, and the number available, once reached, at or above
// replicas − maxUnavailable. And they end.
func TestRolloutKeepsItsBounds(t *testing.T) {
	for seed := range int64(30) {
		random := rand.New(rand.NewSource(seed))
		d := newDeployment(int32(1+random.Intn(6)), "image-0")
		d.Spec.Strategy.RollingUpdate.MaxSurge = ptr.To(intstr.FromInt32(int32(random.Intn(3))))
		d.Spec.Strategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(int32(random.Intn(3))))
		m := &model{fixture: newFixture(d), random: random}
		m.settle(t, seed)
		for step := range 40 {
			switch random.Intn(6) {
			case 0:
				m.setImage(t, fmt.Sprintf("image-%d", random.Intn(4)))
			case 1, 2:
				m.turn(t)
				m.steps = append(m.steps, "turn: "+m.sizes(t))
			default:
				m.replicaSetStep(t)
			}
			m.check(t, seed, step)
		}
		m.settle(t, seed)
	}
}

func (m *model) setImage(t *testing.T, image string) {
	d := m.deployment(t)
	d.Spec.Template = template(image)
	d.Generation++
	m.update(t, d)
	m.steps = append(m.steps, "set "+image)
}

func (m *model) update(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	if _, err := m.client.AppsV1().Deployments("ns").Update(t.Context(), d, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// replicaSetStep does to one ReplicaSet what its controller and kubelets would:
// pods are made or taken, or one becomes available. Unavailable ones are taken first.
func (m *model) replicaSetStep(t *testing.T) {
	sets := m.replicaSets(t)
	if len(sets) == 0 {
		return
	}
	rs := &sets[m.random.Intn(len(sets))]
	if rs.UID == "" {
		rs.UID = types.UID(rs.Name) // the fake gives none
	}
	s := &rs.Status
	if s.Replicas != *rs.Spec.Replicas {
		s.Replicas = *rs.Spec.Replicas
		s.AvailableReplicas = min(s.AvailableReplicas, s.Replicas)
	} else if s.AvailableReplicas < s.Replicas {
		s.AvailableReplicas++
	}
	s.ReadyReplicas, s.ObservedGeneration = s.AvailableReplicas, rs.Generation
	if _, err := m.client.AppsV1().ReplicaSets("ns").Update(t.Context(), rs, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.steps = append(m.steps, fmt.Sprintf("%s has %d, %d available", rs.Name, s.Replicas, s.AvailableReplicas))
}

func (m *model) check(t *testing.T, seed int64, step int) {
	t.Helper()
	d := m.deployment(t)
	var asked, available int32
	for _, rs := range m.replicaSets(t) {
		asked += *rs.Spec.Replicas
		available += min(rs.Status.AvailableReplicas, *rs.Spec.Replicas)
	}
	if most := *d.Spec.Replicas + MaxSurge(*d); asked > most {
		t.Fatalf("seed %d, step %d: %d replicas are asked for, more than %d\n%s", seed, step, asked, most, strings.Join(m.steps, "\n"))
	}
	if least := *d.Spec.Replicas - MaxUnavailable(*d); available < least {
		t.Fatalf("seed %d, step %d: %d replicas are available, fewer than %d\n%s", seed, step, available, least, strings.Join(m.steps, "\n"))
	}
}

// settle lets everything happen until the rollout is complete.
func (m *model) settle(t *testing.T, seed int64) {
	t.Helper()
	for range 200 {
		m.turn(t)
		for range 4 {
			m.replicaSetStep(t)
		}
		d := m.deployment(t)
		if DeploymentComplete(d, &d.Status) {
			return
		}
	}
	t.Fatalf("seed %d: the rollout does not end: %+v\n%s", seed, m.deployment(t).Status, strings.Join(m.steps, "\n"))
}
