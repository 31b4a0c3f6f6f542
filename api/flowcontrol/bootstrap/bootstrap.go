// Package bootstrap is the flow control objects that every cluster starts with: the mandatory ones, whose specs are fixed, and
// the suggested ones, which an administrator may change.
//
// In Kubernetes: k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap/default.go.
package bootstrap

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Mandatory says that the object of this name must be as it is here; only spec.exempt of the priority level exempt is free.
func Mandatory(name string) bool {
	return name == flowcontrolv1.FlowSchemaNameExempt || name == flowcontrolv1.FlowSchemaNameCatchAll
}

// PriorityLevelConfigurations are the priority levels, the mandatory two first.
func PriorityLevelConfigurations() []*flowcontrolv1.PriorityLevelConfiguration {
	exempt := &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: meta(flowcontrolv1.PriorityLevelConfigurationNameExempt),
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type:   flowcontrolv1.PriorityLevelEnablementExempt,
			Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: ptr.To[int32](0), LendablePercent: ptr.To[int32](0)},
		},
	}
	return []*flowcontrolv1.PriorityLevelConfiguration{
		exempt,
		limited(flowcontrolv1.PriorityLevelConfigurationNameCatchAll, 5, 0, 0, 0),
		limited("system", 30, 33, 64, 6),
		limited("node-high", 40, 25, 64, 6),
		limited("leader-election", 10, 0, 16, 4),
		limited("workload-high", 40, 50, 128, 6),
		limited("workload-low", 100, 90, 128, 6),
		limited("global-default", 20, 50, 128, 6),
	}
}

// limited is a level of so many shares, of which lendable percent may be lent; without queues it rejects what it has no room for.
func limited(name string, shares, lendable, queues, hand int32) *flowcontrolv1.PriorityLevelConfiguration {
	response := flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}
	if queues > 0 {
		response = flowcontrolv1.LimitResponse{
			Type:    flowcontrolv1.LimitResponseTypeQueue,
			Queuing: &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: hand, QueueLengthLimit: 50},
		}
	}
	return &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: meta(name),
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: &shares, LendablePercent: &lendable, LimitResponse: response,
			},
		},
	}
}

// FlowSchemas are the schemas, in the order in which they are tried.
func FlowSchemas() []*flowcontrolv1.FlowSchema {
	const byUser, byNamespace = flowcontrolv1.FlowDistinguisherMethodByUserType, flowcontrolv1.FlowDistinguisherMethodByNamespaceType
	everyone := []flowcontrolv1.Subject{group("system:unauthenticated"), group("system:authenticated")}
	leases := resources("coordination.k8s.io", "leases")
	return []*flowcontrolv1.FlowSchema{
		schema(flowcontrolv1.FlowSchemaNameExempt, 1, "exempt", "", anything(group("system:masters"))),
		schema("probes", 2, "exempt", "", flowcontrolv1.PolicyRulesWithSubjects{
			Subjects:         everyone,
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}},
		}),
		schema("system-leader-election", 100, "leader-election", byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects:      []flowcontrolv1.Subject{user("system:kube-controller-manager"), user("system:kube-scheduler"), serviceAccountsOf("kube-system")},
			ResourceRules: []flowcontrolv1.ResourcePolicyRule{verbs(leases, "get", "create", "update")},
		}),
		schema("system-node-high", 400, "node-high", byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects:      []flowcontrolv1.Subject{group("system:nodes")},
			ResourceRules: []flowcontrolv1.ResourcePolicyRule{clusterWide(resources("", "nodes", "nodes/status")), leases},
		}),
		schema("system-nodes", 500, "system", byUser, anything(group("system:nodes"))),
		schema("kube-controller-manager", 800, "workload-high", byNamespace, anything(user("system:kube-controller-manager"))),
		schema("kube-scheduler", 800, "workload-high", byNamespace, anything(user("system:kube-scheduler"))),
		schema("kube-system-service-accounts", 900, "workload-high", byNamespace, anything(serviceAccountsOf("kube-system"))),
		schema("service-accounts", 9000, "workload-low", byUser, anything(group("system:serviceaccounts"))),
		schema("global-default", 9900, "global-default", byUser, anything(everyone...)),
		schema(flowcontrolv1.FlowSchemaNameCatchAll, 10000, "catch-all", byUser, anything(everyone...)),
	}
}

func schema(name string, precedence int32, level string, by flowcontrolv1.FlowDistinguisherMethodType, rule flowcontrolv1.PolicyRulesWithSubjects) *flowcontrolv1.FlowSchema {
	s := &flowcontrolv1.FlowSchema{
		ObjectMeta: meta(name),
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level},
			MatchingPrecedence:         precedence, Rules: []flowcontrolv1.PolicyRulesWithSubjects{rule},
		},
	}
	if by != "" {
		s.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: by}
	}
	return s
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

func anything(subjects ...flowcontrolv1.Subject) flowcontrolv1.PolicyRulesWithSubjects {
	return flowcontrolv1.PolicyRulesWithSubjects{
		Subjects:         subjects,
		ResourceRules:    []flowcontrolv1.ResourcePolicyRule{clusterWide(resources("*", "*"))},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}},
	}
}

func resources(group string, names ...string) flowcontrolv1.ResourcePolicyRule {
	return flowcontrolv1.ResourcePolicyRule{Verbs: []string{"*"}, APIGroups: []string{group}, Resources: names, Namespaces: []string{"*"}}
}

func verbs(rule flowcontrolv1.ResourcePolicyRule, list ...string) flowcontrolv1.ResourcePolicyRule {
	rule.Verbs = list
	return rule
}

func clusterWide(rule flowcontrolv1.ResourcePolicyRule) flowcontrolv1.ResourcePolicyRule {
	rule.ClusterScope = true
	return rule
}

func group(name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: name}}
}

func user(name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: name}}
}

func serviceAccountsOf(namespace string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindServiceAccount,
		ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: namespace, Name: flowcontrolv1.NameAll}}
}
