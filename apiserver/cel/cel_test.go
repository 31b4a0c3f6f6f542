// Package cel_test holds what CEL says of expressions in upstream's words.
package cel_test

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/environment"

	"hyperkube/api/admissionregistration/policy"
	"hyperkube/api/rule/ruletest"
	"hyperkube/apiserver/cel"
)

var resources = &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
	RuleWithOperations: admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{"CREATE"},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
	},
}}}

func TestPolicy(t *testing.T) {
	type spec = admissionregistrationv1.ValidatingAdmissionPolicySpec
	for _, test := range []struct {
		name   string
		change func(*spec)
		want   []string
	}{
		{"all that may be named", func(s *spec) {
			s.Validations[0].Expression = `object.spec.replicas > oldObject.x && request.userInfo.username != "" && namespaceObject.metadata.name == "a" &&
				authorizer.group("").resource("pods").check("get").allowed() && authorizer.requestResource.check("get").allowed()`
			s.Validations[0].MessageExpression = `"a" + object.metadata.name`
		}, nil},
		{"libraries", func(s *spec) {
			s.Validations[0].Expression = `quantity("1Gi").isGreaterThan(quantity("1Mi")) && ip("10.0.0.1").family() == 4 && cidr("10.0.0.0/8").containsIP("10.0.0.1") &&
				url("https://a/b").getHost() == "a" && "abc".find("b") == "b" && [1, 2].sum() == 3 && semver("1.2.3").major() == 1 &&
				sets.contains([1], [1]) && !format.dns1123Label().validate("a").hasValue() && optional.of(1).hasValue() && "a,b".split(",").all(i, v, i >= 0)`
		}, nil},
		{"syntax", func(s *spec) { s.Validations[0].Expression = "object.spec.replicas >" },
			[]string{"spec.validations[0].expression: Invalid value: \"object.spec.replicas >\": compilation failed: ERROR: <input>:1:23: Syntax error: mismatched input '<EOF>' expecting"}},
		{"no bool", func(s *spec) { s.Validations[0].Expression = "'a'" }, []string{"spec.validations[0].expression: Invalid value: \"'a'\": must evaluate to bool but got string"}},
		{"unknown name", func(s *spec) { s.Validations[0].Expression = "x == 1" },
			[]string{"spec.validations[0].expression: Invalid value: \"x == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x == 1\n | ^"}},
		{"unknown field", func(s *spec) { s.Validations[0].Expression = "request.uid == ''" },
			[]string{"spec.validations[0].expression: Invalid value … undefined field 'uid'"}},
		{"no parameters", func(s *spec) { s.Validations[0].Expression = "params.a == 1" }, []string{"spec.validations[0].expression: Invalid value … undeclared reference to 'params'"}},
		{"parameters", func(s *spec) {
			s.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
			s.Validations[0].Expression, s.Validations[0].MessageExpression = "params.a == 1", "string(params.a)"
			s.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "a", Expression: "params.a == 2"}}
		}, nil},
		{"message", func(s *spec) { s.Validations[0].MessageExpression = "1" }, []string{"spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but got int"}},
		{"message of an authorizer", func(s *spec) {
			s.Validations[0].MessageExpression = "string(authorizer.path('/a').check('get').allowed())"
		},
			[]string{"spec.validations[0].messageExpression: Invalid value … undeclared reference to 'authorizer'"}},
		{"condition", func(s *spec) {
			s.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "a", Expression: " 'a' "}}
		}, []string{"spec.matchConditions[0].expression: Invalid value: \"'a'\": must evaluate to bool but got string"}},
		{"annotation", func(s *spec) {
			s.AuditAnnotations = []admissionregistrationv1.AuditAnnotation{{Key: "a", ValueExpression: " 1"}, {Key: "b", ValueExpression: "null"}, {Key: "c", ValueExpression: "'x'"}}
		}, []string{"spec.auditAnnotations[0].valueExpression: Invalid value: \" 1\": must evaluate to one of [string null_type] but got int"}},
		{"variables", func(s *spec) {
			s.Variables = []admissionregistrationv1.Variable{{Name: "names", Expression: "['a']"}, {Name: "first", Expression: "variables.names[0]"}}
			s.Validations[0].Expression = "variables.first == 'a'"
		}, nil},
		{"types of variables", func(s *spec) {
			s.Variables = []admissionregistrationv1.Variable{{Name: "name", Expression: "'a'"}}
			s.Validations[0].Expression = "variables.name == 1"
		}, []string{"spec.validations[0].expression: Invalid value … found no matching overload for '_==_' applied to '(string, int)'"}},
		{"variables in order", func(s *spec) {
			s.Variables = []admissionregistrationv1.Variable{{Name: "a", Expression: "variables.b"}, {Name: "b", Expression: "1"}}
		}, []string{"spec.variables[0].expression: Invalid value … undefined field 'b'"}},
		{"a bad variable is reported once", func(s *spec) {
			s.Variables = []admissionregistrationv1.Variable{{Name: "a", Expression: "1 +"}}
			s.Validations[0].Expression = "variables.a == 1"
		}, []string{"spec.variables[0].expression: Invalid value: \"1 +\": compilation failed"}},
		{"no variables for conditions", func(s *spec) {
			s.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "a", Expression: "variables.a"}}
			s.Variables = []admissionregistrationv1.Variable{{Name: "a", Expression: "true"}}
		}, []string{"spec.matchConditions[0].expression: Invalid value … undeclared reference to 'variables'"}},
		{"pattern", func(s *spec) { s.Validations[0].Expression = "'a'.matches('(')" }, []string{"spec.validations[0].expression: Invalid value … invalid matches argument"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec{
				MatchConstraints: resources.DeepCopy(), Validations: []admissionregistrationv1.Validation{{Expression: "true"}},
			}}
			policy.SetDefaultsValidating(p)
			test.change(&p.Spec)
			ruletest.Expect(t, policy.ValidateValidating(p, cel.Admission(len(p.Spec.Variables) > 0)), test.want...)
		})
	}
}

func TestMutation(t *testing.T) {
	apply := func(text string) admissionregistrationv1.Mutation {
		return admissionregistrationv1.Mutation{PatchType: "ApplyConfiguration", ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{Expression: text}}
	}
	patch := func(text string) admissionregistrationv1.Mutation {
		return admissionregistrationv1.Mutation{PatchType: "JSONPatch", JSONPatch: &admissionregistrationv1.JSONPatch{Expression: text}}
	}
	p := &admissionregistrationv1.MutatingAdmissionPolicy{Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
		MatchConstraints: resources.DeepCopy(), ReinvocationPolicy: "Never",
		Mutations: []admissionregistrationv1.Mutation{
			apply(`Object{spec: Object.spec{replicas: object.spec.replicas + 1}}`),
			patch(`[JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a/b"), value: "c"}]`),
			apply(`{"spec": 1}`), patch(`["a"]`),
		},
	}}
	policy.SetDefaultsMutating(p)
	ruletest.Expect(t, policy.ValidateMutating(p, cel.Admission(false)),
		"spec.mutations[2].applyConfiguration.expression: Invalid value … must evaluate to Object but got map(string, int)",
		"spec.mutations[3].jsonPatch.expression: Invalid value … must evaluate to list(JSONPatch) but got list(string)")
}

func TestDevice(t *testing.T) {
	for _, test := range []struct{ expression, want string }{
		{`device.driver == "a" && device.attributes["a"].b == 1 && device.capacity["a"].m.isGreaterThan(quantity("1Gi")) && device.allowMultipleAllocations`, ""},
		{`device.attributes["dra.example.com"].driverVersion.isGreaterThan(semver("1.0.0"))`, ""},
		{`1`, "x: Invalid value: \"1\": must evaluate to bool or the unknown type, not int"},
		{`device.name == "a"`, "x: Invalid value … undefined field 'name'"},
		{``, "x: Invalid value: \"\": compilation failed: ERROR: <input>:1:0: Syntax error: mismatched input '<EOF>' expecting"},
		{`device.attributes["a"].map(s, s.lowerAscii()).map(s, s.size()).sum() == 0 && device.attributes["a"].map(s, s.lowerAscii()).map(s, s.size()).sum() == 0 &&
			device.attributes["a"].map(s, s.lowerAscii()).map(s, s.size()).sum() == 0 && ` + strings.Repeat(`device.attributes["a"].map(s, device.attributes["b"].map(t, device.attributes["c"].map(u, s + t + u))).size() == 0 && `, 9) + `true`, "x: Forbidden: too complex, exceeds cost limit"},
	} {
		var want []string
		if test.want != "" {
			want = []string{test.want}
		}
		ruletest.Expect(t, cel.Device(test.expression, false, field.NewPath("x")), want...)
	}
}

// What may be new in an environment is for stored expressions first: an apiserver of the release before must read what this one
// accepts.
func TestNewAndStored(t *testing.T) {
	set := cel.BaseEnv()
	if set.NewExpressionsEnv() == set.StoredExpressionsEnv() {
		t.Fatal("one environment for both")
	}
	if v := environment.DefaultCompatibilityVersion(); v.Major() != 1 || v.Minor() != 36 {
		t.Errorf("new expressions are checked as %s would", v)
	}
}
