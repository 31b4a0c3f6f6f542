// Package admissionregistration_test checks webhooks, admission policies and their bindings.
package admissionregistration_test

import (
	"reflect"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/admissionregistration/match"
	"hyperkube/api/admissionregistration/policy"
	"hyperkube/api/admissionregistration/webhook"
	"hyperkube/api/rule/ruletest"
)

// anything compiles: what CEL says of expressions is tested where they are compiled.
func anything(match.Expression) field.ErrorList { return nil }

func rule(resources ...string) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: resources},
	}
}

func TestWebhook(t *testing.T) {
	type hook = admissionregistrationv1.MutatingWebhook
	for _, test := range []struct {
		name   string
		change func(*hook)
		want   []string
	}{
		{"good", func(h *hook) {}, nil},
		{"name", func(h *hook) { h.Name = "a" }, []string{"webhooks[0].name: Invalid value … should be a domain with at least three segments separated by dots"}},
		{"side effects left out", func(h *hook) { h.SideEffects = nil }, []string{"webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"}},
		{"side effects", func(h *hook) { h.SideEffects = ptr.To(admissionregistrationv1.SideEffectClassSome) }, []string{`webhooks[0].sideEffects: Unsupported value: "Some"`}},
		{"timeout", func(h *hook) { h.TimeoutSeconds = ptr.To[int32](31) }, []string{"webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"}},
		{"policies", func(h *hook) {
			h.FailurePolicy, h.MatchPolicy, h.ReinvocationPolicy = ptr.To(admissionregistrationv1.FailurePolicyType("a")), ptr.To(admissionregistrationv1.MatchPolicyType("b")), ptr.To(admissionregistrationv1.ReinvocationPolicyType("c"))
		}, []string{`webhooks[0].failurePolicy: Unsupported value: "a"`, `webhooks[0].matchPolicy: Unsupported value: "b"`, `webhooks[0].reinvocationPolicy: Unsupported value: "c"`}},
		{"both url and service", func(h *hook) { h.ClientConfig.URL = ptr.To("https://a") }, []string{"webhooks[0].clientConfig: Required value: exactly one of url or service is required"}},
		{"url", func(h *hook) {
			h.ClientConfig.Service, h.ClientConfig.URL = nil, ptr.To("http://a@b/?c=d#e")
		}, []string{"webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme", "webhooks[0].clientConfig.url: Invalid value: \"a\": user information is not permitted in the URL",
			"webhooks[0].clientConfig.url: Invalid value: \"e\": fragments", "webhooks[0].clientConfig.url: Invalid value: \"c=d\": query parameters"}},
		{"service", func(h *hook) {
			*h.ClientConfig.Service = admissionregistrationv1.ServiceReference{Port: ptr.To[int32](0), Path: ptr.To("a//b")}
		}, []string{"webhooks[0].clientConfig.service.name: Required value", "webhooks[0].clientConfig.service.namespace: Required value",
			"webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid", "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": must start with a '/'",
			"webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[0] may not be empty", "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[1] may not be empty"}},
		{"versions", func(h *hook) { h.AdmissionReviewVersions = []string{"v2", "v2"} },
			[]string{"webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version", "webhooks[0].admissionReviewVersions: Invalid value … must include at least one of v1, v1beta1"}},
		{"rules", func(h *hook) {
			h.Rules = []admissionregistrationv1.RuleWithOperations{{}, rule("a/*", "a/b", "*/c", "d/c"), rule("*/*", "a"), rule("*", "a")}
			h.Rules[3].Operations = []admissionregistrationv1.OperationType{"*", "x"}
		}, []string{"webhooks[0].rules[0].operations: Required", "webhooks[0].rules[0].apiGroups: Required", "webhooks[0].rules[0].apiVersions: Required", "webhooks[0].rules[0].resources: Required",
			"webhooks[0].rules[1].resources[1]: Invalid value: \"a/b\": if 'a/*' is present, must not specify a/b", "webhooks[0].rules[1].resources[3]: Invalid value: \"d/c\": if '*/c' is present, must not specify d/c",
			"webhooks[0].rules[2].resources: Invalid value … if '*/*' is present", "webhooks[0].rules[3].resources: Invalid value … if '*' is present, must not specify other resources without subresources",
			"webhooks[0].rules[3].operations: Invalid value … if '*' is present, must not specify other operations", "webhooks[0].rules[3].operations[1]: Unsupported value"}},
		{"conditions", func(h *hook) {
			h.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "a", Expression: "true"}, {Name: "a"}, {Expression: "true"}}
		}, []string{"webhooks[0].matchConditions[1].name: Duplicate value", "webhooks[0].matchConditions[1].expression: Required", "webhooks[0].matchConditions[2].name: Required"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: []hook{{
				Name: "a.example.com", SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
				ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: "a", Name: "b"}},
				Rules:        []admissionregistrationv1.RuleWithOperations{rule("pods", "pods/log")},
			}}}
			webhook.SetDefaultsMutating(c)
			test.change(&c.Webhooks[0])
			ruletest.Expect(t, webhook.ValidateMutating(c, anything), test.want...)
		})
	}
}

func TestWebhookDefaults(t *testing.T) {
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{Webhooks: []admissionregistrationv1.ValidatingWebhook{{
		Rules:        []admissionregistrationv1.RuleWithOperations{rule("pods")},
		ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{}},
	}}}
	webhook.SetDefaultsValidating(c)
	w := c.Webhooks[0]
	if *w.FailurePolicy != "Fail" || *w.MatchPolicy != "Equivalent" || *w.TimeoutSeconds != 10 || w.NamespaceSelector == nil || w.ObjectSelector == nil ||
		*w.Rules[0].Scope != "*" || *w.ClientConfig.Service.Port != 443 {
		t.Errorf("%+v", w)
	}
}

func TestPolicy(t *testing.T) {
	type object = admissionregistrationv1.ValidatingAdmissionPolicy
	for _, test := range []struct {
		name   string
		change func(*object)
		want   []string
	}{
		{"good", func(p *object) {}, nil},
		{"nothing to match", func(p *object) { p.Spec.MatchConstraints = nil }, []string{"spec.matchConstraints: Required value"}},
		{"no rules", func(p *object) { p.Spec.MatchConstraints.ResourceRules = nil }, []string{"spec.matchConstraints.resourceRules: Required value"}},
		{"nothing to say", func(p *object) { p.Spec.Validations = nil },
			[]string{"spec.validations: Required value: validations or auditAnnotations must contain at least one item", "spec.auditAnnotations: Required value"}},
		{"validation", func(p *object) {
			p.Spec.Validations[0] = admissionregistrationv1.Validation{Message: "a\nb", MessageExpression: " ", Reason: ptr.To(metav1.StatusReasonGone)}
		}, []string{"spec.validations[0].expression: Required value: expression is not specified", "spec.validations[0].message: Invalid value … must not contain line breaks",
			"spec.validations[0].messageExpression: Invalid value … must be non-empty if specified", "spec.validations[0].reason: Unsupported value"}},
		{"param kind", func(p *object) { p.Spec.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "a/b/c"} },
			[]string{"spec.paramKind.apiVersion: Invalid value … unexpected GroupVersion string: a/b/c", "spec.paramKind.kind: Required value"}},
		{"variables", func(p *object) {
			p.Spec.Variables = []admissionregistrationv1.Variable{{Name: "in", Expression: "1"}, {}}
		}, []string{"spec.variables[0].name: Invalid value: \"in\": must be a valid CEL identifier", "spec.variables[1].name: Required value", "spec.variables[1].expression: Required value"}},
		{"annotations", func(p *object) {
			p.Spec.AuditAnnotations = []admissionregistrationv1.AuditAnnotation{{Key: "a", ValueExpression: "'x'"}, {Key: "a"}}
		}, []string{"spec.auditAnnotations[1].key: Duplicate value", "spec.auditAnnotations[1].valueExpression: Required value"}},
		{"names", func(p *object) { p.Spec.MatchConstraints.ResourceRules[0].ResourceNames = []string{"a", "a", "b/c"} },
			[]string{"spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value", "spec.matchConstraints.resourceRules[0].resourceNames[2]: Invalid value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &object{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
				MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: rule("pods")}}},
				Validations:      []admissionregistrationv1.Validation{{Expression: "true"}},
			}}
			policy.SetDefaultsValidating(p)
			test.change(p)
			ruletest.Expect(t, policy.ValidateValidating(p, anything), test.want...)
		})
	}
}

func TestBinding(t *testing.T) {
	b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: "p", ValidationActions: []admissionregistrationv1.ValidationAction{"Deny", "Audit"},
	}}
	ruletest.Expect(t, policy.ValidateValidatingBinding(b))
	b.Spec.PolicyName, b.Spec.ValidationActions, b.Spec.ParamRef = "", []admissionregistrationv1.ValidationAction{"Deny", "Warn", "Deny", "x"}, &admissionregistrationv1.ParamRef{}
	ruletest.Expect(t, policy.ValidateValidatingBinding(b), "spec.policyName: Required value", "spec.validationActions[2]: Duplicate value", "spec.validationActions[3]: Unsupported value",
		"spec.validationActions: Invalid value … must not contain both Deny and Warn", "spec.paramRef: Required value: one of name or selector must be specified", "spec.paramRef.parameterNotFoundAction: Required value")
}

func TestMutation(t *testing.T) {
	p := &admissionregistrationv1.MutatingAdmissionPolicy{Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
		MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: rule("pods")}}},
		Mutations: []admissionregistrationv1.Mutation{
			{PatchType: "JSONPatch", JSONPatch: &admissionregistrationv1.JSONPatch{Expression: "[]"}},
			{PatchType: "JSONPatch", ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{}}, {},
		},
	}}
	policy.SetDefaultsMutating(p)
	ruletest.Expect(t, policy.ValidateMutating(p, anything), "spec.mutations[1].jsonPatch: Required value", "spec.mutations[1].applyConfiguration: Invalid value", "spec.mutations[2].patchType: Required value", "spec.reinvocationPolicy: Required value")
	// What is deleted can't be changed on its way.
	p.Spec.ReinvocationPolicy, p.Spec.Mutations = "Never", p.Spec.Mutations[:1]
	p.Spec.MatchConstraints.ResourceRules[0].Operations = []admissionregistrationv1.OperationType{"DELETE"}
	ruletest.Expect(t, policy.ValidateMutating(p, anything),
		`spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"`)
	b := &admissionregistrationv1.MutatingAdmissionPolicyBinding{Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "p", MatchResources: p.Spec.MatchConstraints,
		ParamRef: &admissionregistrationv1.ParamRef{Name: "a", ParameterNotFoundAction: ptr.To(admissionregistrationv1.ParameterNotFoundActionType("x"))}}}
	ruletest.Expect(t, policy.ValidateMutatingBinding(b), `spec.matchResources.resourceRules.operations: Unsupported value: "DELETE"`,
		`spec.paramRef.parameterNotFoundAction: Unsupported value: "x": supported values: "Deny", "Allow"`)
}

// What each place lets an expression name and give, and when it is checked again.
func TestExpressions(t *testing.T) {
	type object = admissionregistrationv1.ValidatingAdmissionPolicy
	p := &object{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: rule("pods")}}},
		MatchConditions:  []admissionregistrationv1.MatchCondition{{Name: "c", Expression: " cond "}},
		Variables:        []admissionregistrationv1.Variable{{Name: "v", Expression: "var"}},
		Validations:      []admissionregistrationv1.Validation{{Expression: "valid", MessageExpression: "message"}},
		AuditAnnotations: []admissionregistrationv1.AuditAnnotation{{Key: "k", ValueExpression: " audit "}},
	}}
	policy.SetDefaultsValidating(p)
	var seen []match.Expression
	record := func(e match.Expression) field.ErrorList {
		seen = append(seen, e)
		return nil
	}
	expect := func(want ...match.Expression) {
		t.Helper()
		for i := range seen {
			seen[i].Path = nil
		}
		if !reflect.DeepEqual(seen, want) {
			t.Errorf("got %+v\nwant %+v", seen, want)
		}
		seen = nil
	}
	cond := match.Expression{Text: "cond", Result: match.Bool, Authorizer: true, Alone: true}
	variable := match.Expression{Text: "var", Authorizer: true, Variable: "v"}
	valid := match.Expression{Text: "valid", Result: match.Bool, Authorizer: true}
	message := match.Expression{Text: "message", Result: match.String}
	audit := match.Expression{Text: "audit", Shown: " audit ", Result: match.StringOrNull, Authorizer: true}
	ruletest.Expect(t, policy.ValidateValidating(p, record))
	expect(cond, variable, valid, message, audit)

	changed := p.DeepCopy()
	changed.Spec.Validations[0].Expression = "new"
	ruletest.Expect(t, policy.ValidateValidatingUpdate(changed, p, record))
	valid.Text = "new"
	variable.Stored, message.Stored, audit.Stored = true, true, true
	expect(variable, valid, message, audit)

	changed = p.DeepCopy()
	changed.Spec.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
	ruletest.Expect(t, policy.ValidateValidatingUpdate(changed, p, record))
	for _, e := range seen {
		if !e.Params || !e.Stored {
			t.Errorf("%+v", e)
		}
	}
	if len(seen) != 5 {
		t.Errorf("conditions are checked again when parameters come: %d expressions", len(seen))
	}
}
