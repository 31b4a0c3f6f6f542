package answers

import (
	"regexp"
	"testing"
)

// differences are the answers that are not kube-apiserver's, by seed, write and mutant, and why.
var differences = []struct{ question, why string }{
	{`review/\S+ once \.metadata.*`, "a review's metadata is refused upstream, and its managed fields shown; here it is no part of the question"},
	{`review/subjectaccessreview-path once .*`, "upstream names whichever of two bindings it comes upon first; the reason here names the rule, too"},
	{`pod/\S+ create \.spec\.runtimeClassName = ""`, "upstream answers 500: it looks for a RuntimeClass without a name; 400 here"},
	{`pod/\S+ update \.spec\.volumes\[\d+\]\.projected\.sources = \[\]`, "both store none; upstream shows [] in the error and we null, since lists are emptied before they are judged"},
	{`apps/\S+ update \.spec\.(podFailurePolicy\.rules|drivers\[0\]\.topologyKeys) = \[\]`, "as above"},
	{`other/resourceclaimtemplate update \.spec\.spec\.devices\.requests = \[\]`, "as above"},
	{`apps/job-indexed (create|update) \.spec\.completions gone`, "upstream panics, and the stream ends; 422 here"},
	{`other/(mutating|validating)webhook\S* (create|update) \.webhooks\[\d+\]\.clientConfig\.service\.name(space)? (gone|= "")`, "upstream names the wrong one of the two fields"},
	{`apps/daemonset\S* \S+ \.metadata\.annotations\.deprecated.*`, "upstream reads the annotation of extensions/v1beta1 while it decodes and refuses what is no number; nobody reads it here"},
	{`(core/replicationcontroller|other/deviceclass) create \.metadata\.(generateName|name).*`, "upstream declares the rule at the type, where it passes over generateName; ours refuses what could name nothing"},
	{`apps/volumeattachment-inline \S+ \.spec\.source\.inlineVolumeSpec\.azureDisk.*`, "two volume sources at once, of which one lacks its defaults: fewer errors here"},
	{`other/flowschema-exempt create \.spec\.rules\[0\]\.resourceRules\[0\]\.namespaces = \[\]`, "an empty list shown as null in the error"},
	{`\S+ (update|status|/\w+) \.metadata\.resourceVersion = .*`, "upstream answers 500 to a version that is no number; 400 here"},
	{`core/service-(loadbalancer|nodeport) update \.spec\.ports = .*`, "upstream answers 500 to one node port given twice; 400 here"},
	{`core/configmap-generated create \.metadata\.name.*`, "a generated name is random"},
}

// excuses counts which of the differences were met.
type excuses map[int]int

var patterns = func() []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, d := range differences {
		all = append(all, regexp.MustCompile("^(?:"+d.question+")$"))
	}
	return all
}()

func (e excuses) takes(question string) bool {
	for i, pattern := range patterns {
		if pattern.MatchString(question) {
			e[i]++
			return true
		}
	}
	return false
}

func (e excuses) holdNoneIsSpare(t *testing.T) {
	t.Helper()
	for i, d := range differences {
		if e[i] == 0 {
			t.Errorf("no answer differs as in %q (%s): take the line out", d.question, d.why)
		}
	}
}
