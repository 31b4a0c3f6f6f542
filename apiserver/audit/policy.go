package audit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"hyperkube/apiserver/request"
)

// Policy says what is written: audit.k8s.io/v1 Policy.
type Policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// Rules are tried in order; the first that matches decides. Of what none matches nothing is written.
	Rules []PolicyRule `json:"rules"`
	// OmitStages are written of no request.
	OmitStages []Stage `json:"omitStages,omitempty"`
	// OmitManagedFields leaves them out of the bodies, where a rule does not say otherwise.
	OmitManagedFields bool `json:"omitManagedFields,omitempty"`
}

// PolicyRule matches requests that fulfil all that it names; an empty list matches all.
type PolicyRule struct {
	Level             Level            `json:"level"`
	Users             []string         `json:"users,omitempty"`
	UserGroups        []string         `json:"userGroups,omitempty"`
	Verbs             []string         `json:"verbs,omitempty"`
	Resources         []GroupResources `json:"resources,omitempty"`
	Namespaces        []string         `json:"namespaces,omitempty"`
	NonResourceURLs   []string         `json:"nonResourceURLs,omitempty"`
	OmitStages        []Stage          `json:"omitStages,omitempty"`
	OmitManagedFields *bool            `json:"omitManagedFields,omitempty"`
}

// GroupResources are resources of one group: "pods", "pods/log", "pods/*", "*/scale", "*"; none: all.
type GroupResources struct {
	Group         string   `json:"group,omitempty"`
	Resources     []string `json:"resources,omitempty"`
	ResourceNames []string `json:"resourceNames,omitempty"`
}

// LoadPolicy reads and checks a policy file, YAML or JSON.
func LoadPolicy(path string) (*Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit policy: %w", err)
	}
	p := &Policy{}
	if err := yaml.UnmarshalStrict(data, p); err != nil {
		return nil, fmt.Errorf("audit policy %s: %w", path, err)
	}
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("audit policy %s: %w", path, err)
	}
	return p, nil
}

func (p *Policy) validate() error {
	if p.APIVersion != "audit.k8s.io/v1" || p.Kind != "Policy" {
		return fmt.Errorf("want apiVersion audit.k8s.io/v1 and kind Policy, have %q and %q", p.APIVersion, p.Kind)
	}
	if len(p.Rules) == 0 {
		return errors.New("it has no rules: nothing would ever be written")
	}
	errs := []error{validateStages("omitStages", p.OmitStages)}
	for i, rule := range p.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if _, known := rank[rule.Level]; !known {
			errs = append(errs, fmt.Errorf("%s.level: unsupported value %q: want None, Metadata, Request or RequestResponse", at, rule.Level))
		}
		if len(rule.NonResourceURLs) > 0 && (len(rule.Resources) > 0 || len(rule.Namespaces) > 0) {
			errs = append(errs, fmt.Errorf("%s: a rule cannot be about nonResourceURLs and resources or namespaces at once", at))
		}
		for _, url := range rule.NonResourceURLs {
			if url != "*" && (!strings.HasPrefix(url, "/") || strings.Contains(strings.TrimSuffix(url, "*"), "*")) {
				errs = append(errs, fmt.Errorf("%s.nonResourceURLs: %q must begin with / and have a * only at its end", at, url))
			}
		}
		errs = append(errs, validateStages(at+".omitStages", rule.OmitStages))
	}
	return errors.Join(errs...)
}

func validateStages(at string, stages []Stage) error {
	for _, stage := range stages {
		if !slices.Contains([]Stage{StageRequestReceived, StageResponseStarted, StageResponseComplete, StagePanic}, stage) {
			return fmt.Errorf("%s: unsupported value %q", at, stage)
		}
	}
	return nil
}

// verdict is what is written of one request.
type verdict struct {
	level             Level
	omitStages        []Stage
	omitManagedFields bool
}

// evaluate finds the first rule that matches.
func (p *Policy) evaluate(user *request.User, info *request.Info) verdict {
	for i := range p.Rules {
		rule := &p.Rules[i]
		if !rule.matches(user, info) {
			continue
		}
		v := verdict{level: rule.Level, omitStages: append(slices.Clone(p.OmitStages), rule.OmitStages...), omitManagedFields: p.OmitManagedFields}
		if rule.OmitManagedFields != nil {
			v.omitManagedFields = *rule.OmitManagedFields
		}
		return v
	}
	return verdict{level: LevelNone}
}

func (r *PolicyRule) matches(user *request.User, info *request.Info) bool {
	if len(r.Users) > 0 && (user == nil || !slices.Contains(r.Users, user.Name)) {
		return false
	}
	if len(r.UserGroups) > 0 && !slices.ContainsFunc(r.UserGroups, user.InGroup) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, info.Verb) {
		return false
	}
	if !info.IsResourceRequest {
		return len(r.Resources) == 0 && len(r.Namespaces) == 0 &&
			(len(r.NonResourceURLs) == 0 || slices.ContainsFunc(r.NonResourceURLs, func(url string) bool { return pathMatches(url, info.Path) }))
	}
	if len(r.NonResourceURLs) > 0 || len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, info.Namespace) {
		return false
	}
	return len(r.Resources) == 0 || slices.ContainsFunc(r.Resources, func(g GroupResources) bool { return g.matches(info) })
}

func (g *GroupResources) matches(info *request.Info) bool {
	if g.Group != info.APIGroup || len(g.ResourceNames) > 0 && !slices.Contains(g.ResourceNames, info.Name) {
		return false
	}
	if len(g.Resources) == 0 {
		return true
	}
	full := info.Resource
	if info.Subresource != "" {
		full += "/" + info.Subresource
	}
	return slices.ContainsFunc(g.Resources, func(pattern string) bool {
		return pattern == "*" || pattern == full || info.Subresource != "" && (pattern == info.Resource+"/*" || pattern == "*/"+info.Subresource)
	})
}

func pathMatches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}
