// Package flowcontrol_test checks the two kinds of flow control, and that what every cluster starts with is valid.
package flowcontrol_test

import (
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"

	"hyperkube/api/flowcontrol/bootstrap"
	"hyperkube/api/flowcontrol/flowschema"
	"hyperkube/api/flowcontrol/prioritylevelconfiguration"
	"hyperkube/api/rule/ruletest"
)

// What is bootstrapped is valid and has its defaults: else each start would write it again.
func TestBootstrapIsValid(t *testing.T) {
	for _, s := range bootstrap.FlowSchemas() {
		ruletest.Expect(t, flowschema.Validate(s))
		defaulted := s.DeepCopy()
		if flowschema.SetDefaults(defaulted); !equality.Semantic.DeepEqual(s, defaulted) {
			t.Errorf("%s lacks defaults", s.Name)
		}
	}
	for _, p := range bootstrap.PriorityLevelConfigurations() {
		ruletest.Expect(t, prioritylevelconfiguration.Validate(p))
		defaulted := p.DeepCopy()
		if prioritylevelconfiguration.SetDefaults(defaulted); !equality.Semantic.DeepEqual(p, defaulted) {
			t.Errorf("%s lacks defaults", p.Name)
		}
	}
}

func TestFlowSchema(t *testing.T) {
	type object = flowcontrolv1.FlowSchema
	good := bootstrap.FlowSchemas()[2] // not mandatory
	rules := func(s *object) *flowcontrolv1.PolicyRulesWithSubjects { return &s.Spec.Rules[0] }
	for _, test := range []struct {
		name   string
		change func(*object)
		want   []string
	}{
		{"precedence too small", func(s *object) { s.Spec.MatchingPrecedence = -1 }, []string{"spec.matchingPrecedence: Invalid value: -1: must be a positive value"}},
		{"precedence too large", func(s *object) { s.Spec.MatchingPrecedence = 10001 }, []string{"spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"}},
		{"precedence of exempt", func(s *object) { s.Spec.MatchingPrecedence = 1 }, []string{"spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"}},
		{"no level", func(s *object) { s.Spec.PriorityLevelConfiguration.Name = "" }, []string{"spec.priorityLevelConfiguration.name: Required value: must reference a priority level"}},
		{"distinguisher", func(s *object) { s.Spec.DistinguisherMethod.Type = "x" }, []string{"spec.distinguisherMethod.type: Unsupported value"}},
		{"no subjects, no rules", func(s *object) { s.Spec.Rules = []flowcontrolv1.PolicyRulesWithSubjects{{}} },
			[]string{"spec.rules[0].subjects: Required value: subjects must contain at least one value", "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty"}},
		{"two subjects in one", func(s *object) { rules(s).Subjects[0].Group = &flowcontrolv1.GroupSubject{Name: "x"} },
			[]string{"spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'"}},
		{"subject without its name", func(s *object) { rules(s).Subjects[0].User = nil }, []string{"spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'"}},
		{"unknown subject", func(s *object) { rules(s).Subjects[0].Kind = "x" }, []string{"spec.rules[0].subjects[0].kind: Unsupported value"}},
		{"account without a namespace", func(s *object) { rules(s).Subjects[2].ServiceAccount.Namespace = "" },
			[]string{"spec.rules[0].subjects[2].serviceAccount.namespace: Required value: must specify namespace for service account"}},
		{"wildcards", func(s *object) {
			r := &rules(s).ResourceRules[0]
			r.Verbs, r.APIGroups, r.Resources, r.Namespaces = []string{"*", "get"}, []string{"*", "a"}, []string{"*", "b"}, []string{"*", "c"}
		}, []string{"spec.rules[0].resourceRules[0].verbs: Invalid value … if '*' is present, must not specify other verbs", "spec.rules[0].resourceRules[0].apiGroups: Invalid value … other api groups",
			"spec.rules[0].resourceRules[0].resources: Invalid value … other resources", "spec.rules[0].resourceRules[0].namespaces: Invalid value … other namespaces"}},
		{"no namespaces", func(s *object) { rules(s).ResourceRules[0].Namespaces = nil }, []string{"spec.rules[0].resourceRules[0].namespaces: Required value"}},
		{"paths", func(s *object) {
			rules(s).NonResourceRules = []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"x"}, NonResourceURLs: []string{"a", "/a*", "//", "/a/*", "/"}}}
		}, []string{"spec.rules[0].nonResourceRules[0].verbs: Unsupported value", "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash",
			"spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a*\": wildcard can only do suffix matching", "spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: \"//\": must not contain double slash"}},
		{"mandatory", func(s *object) { s.Name = "catch-all" }, []string{"spec: Invalid value … spec of 'catch-all' must equal the fixed value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := good.DeepCopy()
			test.change(s)
			ruletest.Expect(t, flowschema.Validate(s), test.want...)
		})
	}
}

func TestPriorityLevel(t *testing.T) {
	type object = flowcontrolv1.PriorityLevelConfiguration
	good := bootstrap.PriorityLevelConfigurations()[2]
	for _, test := range []struct {
		name   string
		change func(*object)
		want   []string
	}{
		{"exempt under another name", func(p *object) { p.Spec.Type, p.Spec.Limited = "Exempt", nil }, []string{"spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"}},
		{"nothing", func(p *object) { p.Spec.Limited = nil }, []string{"spec.limited: Required value"}},
		{"both", func(p *object) { p.Spec.Exempt = &flowcontrolv1.ExemptPriorityLevelConfiguration{} }, []string{"spec.exempt: Forbidden"}},
		{"numbers", func(p *object) {
			l := p.Spec.Limited
			l.NominalConcurrencyShares, l.LendablePercent, l.BorrowingLimitPercent = ptr.To[int32](-1), ptr.To[int32](101), ptr.To[int32](-1)
		}, []string{"spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer", "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
			"spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer"}},
		{"queues", func(p *object) {
			*p.Spec.Limited.LimitResponse.Queuing = flowcontrolv1.QueuingConfiguration{Queues: 4, HandSize: 5, QueueLengthLimit: -1}
		}, []string{"spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive", "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)"}},
		{"a hand too large for the hash", func(p *object) { p.Spec.Limited.LimitResponse.Queuing.HandSize = 11 },
			[]string{"spec.limited.limitResponse.queuing.handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 should not be greater than 60"}},
		{"reject with queues", func(p *object) { p.Spec.Limited.LimitResponse.Type = "Reject" }, []string{"spec.limited.limitResponse.queuing: Forbidden"}},
		{"no type", func(p *object) { p.Spec.Type = "" }, []string{"spec.limited: Forbidden", "spec.type: Required value"}},
		{"no answer when full", func(p *object) { p.Spec.Limited.LimitResponse.Type = "" },
			[]string{"spec.limited.limitResponse.queuing: Forbidden", "spec.limited.limitResponse.type: Required value"}},
		{"mandatory", func(p *object) { p.Name = "catch-all" }, []string{"spec: Invalid value … spec of 'catch-all' must equal the fixed value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := good.DeepCopy()
			test.change(p)
			ruletest.Expect(t, prioritylevelconfiguration.Validate(p), test.want...)
		})
	}
	exempt := bootstrap.PriorityLevelConfigurations()[0]
	exempt.Spec.Exempt.LendablePercent = ptr.To[int32](50)
	ruletest.Expect(t, prioritylevelconfiguration.Validate(exempt))
}
