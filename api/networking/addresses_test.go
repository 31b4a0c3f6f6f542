// Package networking_test checks the kinds behind Services' addresses.
package networking_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"hyperkube/api/networking/ipaddress"
	"hyperkube/api/networking/servicecidr"
	"hyperkube/api/rule/ruletest"
)

func TestIPAddress(t *testing.T) {
	for name, good := range map[string]bool{"10.0.0.1": true, "fd00::1": true, "10.00.0.1": false, "fd00:0::1": false, "::ffff:10.0.0.1": false, "a": false} {
		if messages := ipaddress.ValidateName(name, false); (len(messages) == 0) != good {
			t.Errorf("%s: %v", name, messages)
		}
	}
	a := &networkingv1.IPAddress{}
	ruletest.Expect(t, ipaddress.Validate(a), "spec.parentRef: Required value")
	a.Spec.ParentRef = &networkingv1.ParentReference{Group: "A", Namespace: "a/b"}
	ruletest.Expect(t, ipaddress.Validate(a), "spec.parentRef.group: Invalid value", "spec.parentRef.resource: Required value", "spec.parentRef.name: Required value", "spec.parentRef.namespace: Invalid value")
	a.Spec.ParentRef = &networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "web"}
	other := a.DeepCopy()
	other.Spec.ParentRef.Name = "x"
	ruletest.Expect(t, ipaddress.ValidateUpdate(other, a), "spec.parentRef: Invalid value … field is immutable")
}

func TestServiceCIDR(t *testing.T) {
	of := func(cidrs ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
	}
	ruletest.Expect(t, servicecidr.Validate(of("10.0.0.0/16", "fd00::/112")))
	ruletest.Expect(t, servicecidr.Validate(of()), "spec.cidrs: Required value: at least one CIDR required")
	ruletest.Expect(t, servicecidr.Validate(of("10.0.0.0/16", "fd00::/112", "10.1.0.0/16")), "spec.cidrs: Invalid value … may only hold up to 2 values")
	ruletest.Expect(t, servicecidr.Validate(of("10.0.0.0/16", "10.1.0.0/16")), "spec.cidrs: Invalid value … may specify no more than one IP for each IP family")
	ruletest.Expect(t, servicecidr.Validate(of("10.0.0.1/16")), "spec.cidrs[0]: Invalid value")
	ruletest.Expect(t, servicecidr.ValidateUpdate(of("10.0.0.0/16", "fd00::/112"), of("10.0.0.0/16")))
	ruletest.Expect(t, servicecidr.ValidateUpdate(of("a", "b"), of("10.0.0.0/16", "fd00::/112")), "spec.cidrs[0]: Invalid value … field is immutable", "spec.cidrs[1]: Invalid value … field is immutable")
	ruletest.Expect(t, servicecidr.ValidateUpdate(of("10.1.0.0/16", "x"), of("10.0.0.0/16")), "spec.cidrs[0]: Invalid value … field is immutable", "spec.cidrs[1]: Invalid value … must be a valid CIDR")
	ruletest.Expect(t, servicecidr.ValidateUpdate(of("10.1.0.0/16"), of("10.0.0.0/16")), "spec.cidrs[0]: Invalid value … field is immutable")
	ruletest.Expect(t, servicecidr.ValidateUpdate(of("10.0.0.0/16"), of("10.0.0.0/16", "fd00::/112")), "spec.cidrs: Invalid value … field is immutable")
}
