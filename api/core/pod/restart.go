package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// ContainerShouldRestart tells whether a container that ended with exitCode runs again: by the first of its own rules that
// fits, else by its own policy, else by its pod's (KEP-5307). A container without a policy of its own has no rules.
func ContainerShouldRestart(c *v1.Container, spec *v1.PodSpec, exitCode int32) bool {
	policy := spec.RestartPolicy
	if c.RestartPolicy != nil {
		if FindMatchingContainerRestartRule(c, exitCode) != nil {
			return true // both actions there are restart it
		}
		policy = v1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return true
}

// RestartsAfterKill tells whether a container runs again that the kubelet itself ended, for a failed probe say: there is no
// exit code of its own that a rule could be about.
func RestartsAfterKill(c *v1.Container, spec *v1.PodSpec) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy != v1.ContainerRestartPolicyNever
	}
	return spec.RestartPolicy != v1.RestartPolicyNever
}

// FindMatchingContainerRestartRule is the first rule of a container that is about this exit code, or nil.
func FindMatchingContainerRestartRule(c *v1.Container, exitCode int32) *v1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		rule := &c.RestartPolicyRules[i]
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, exitCode)
		switch rule.ExitCodes.Operator {
		case v1.ContainerRestartRuleOnExitCodesOpIn:
			if listed {
				return rule
			}
		case v1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !listed {
				return rule
			}
		}
	}
	return nil
}

// RestartsAllContainers tells whether the end of a container with exitCode has its whole pod start anew (KEP-5532).
func RestartsAllContainers(c *v1.Container, exitCode int32) bool {
	rule := FindMatchingContainerRestartRule(c, exitCode)
	return rule != nil && rule.Action == v1.ContainerRestartRuleActionRestartAllContainers
}

// AllContainersCouldRestart tells whether any container has a rule that would restart all.
func AllContainersCouldRestart(spec *v1.PodSpec) bool {
	return !VisitContainers(spec, InitContainers|Containers, func(c *v1.Container, _ ContainerType) bool {
		return !slices.ContainsFunc(c.RestartPolicyRules, func(r v1.ContainerRestartRule) bool {
			return r.Action == v1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}
