package config

import (
	"strings"
	"testing"
	"time"
)

const head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

func TestRead(t *testing.T) {
	file, err := Read([]byte(head + `
leaderElection: {leaderElect: false, leaseDuration: 30s}
clientConnection: {kubeconfig: /etc/kubernetes/scheduler.conf}
podMaxBackoffSeconds: 60
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  percentageOfNodesToScore: 100
  plugins:
    score: {disabled: [{name: NodeResourcesBalancedAllocation}], enabled: [{name: ImageLocality, weight: 5}]}
  pluginConfig:
  - name: NodeResourcesFit
    args: {apiVersion: kubescheduler.config.k8s.io/v1, kind: NodeResourcesFitArgs, scoringStrategy: {type: MostAllocated}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Profiles) != 2 || file.Profiles[1].SchedulerName != "packing" || *file.Profiles[1].PercentageOfNodesToScore != 100 {
		t.Fatalf("profiles %+v", file.Profiles)
	}
	packing := file.Profiles[1]
	if s := packing.Plugins.Score; s.Disabled[0].Name != "NodeResourcesBalancedAllocation" || *s.Enabled[0].Weight != 5 {
		t.Errorf("score %+v", s)
	}
	if !strings.Contains(string(packing.Args["NodeResourcesFit"]), "MostAllocated") {
		t.Errorf("args %s", packing.Args["NodeResourcesFit"])
	}
	if file.PodMaxBackoff() != time.Minute || *file.LeaderElection.LeaderElect || file.LeaderElection.LeaseDuration.Duration != 30*time.Second {
		t.Errorf("file %+v", file.KubeSchedulerConfiguration)
	}
}

func TestWithoutProfilesThereIsTheDefault(t *testing.T) {
	file, err := Read([]byte(head))
	if err != nil || len(file.Profiles) != 1 || file.Profiles[0].SchedulerName != "default-scheduler" {
		t.Errorf("%+v, %v", file, err)
	}
}

// What a file for kube-scheduler sets and does not act here is named; what is not set is not.
func TestIgnoredIsSaid(t *testing.T) {
	file, err := Read([]byte(head + "parallelism: 8\ndelayCacheUntilActive: true\nclientConnection: {kubeconfig: /a, qps: 50, contentType: application/json}\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(file.Ignored(), "\n")
	for _, field := range []string{"parallelism: ", "delayCacheUntilActive: ", "clientConnection.kubeconfig: ", "clientConnection.qps and burst: ", "content types: "} {
		if !strings.Contains(got, field) {
			t.Errorf("%q does not name %s", got, field)
		}
	}
	if file, err = Read([]byte(head)); err != nil || file.Ignored() != nil {
		t.Errorf("%v: %q", err, file.Ignored())
	}
}

// An extender that the scheduler shall leave a resource to takes it out of what NodeResourcesFit counts.
func TestExtenders(t *testing.T) {
	file, err := Read([]byte(head + `
extenders:
- urlPrefix: http://127.0.0.1:12345/scheduler
  filterVerb: filter
  prioritizeVerb: prioritize
  weight: 5
  httpTimeout: 100ms
  managedResources: [{name: example.com/fpga, ignoredByScheduler: true}, {name: example.com/gpu}]
profiles:
- pluginConfig: [{name: NodeResourcesFit, args: {ignoredResources: [example.com/foo]}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Extenders) != 1 || file.Extenders[0].Name() != "http://127.0.0.1:12345/scheduler" || file.Extenders[0].IsBinder() || !file.Extenders[0].IsFilter() {
		t.Errorf("extenders %+v", file.Extenders)
	}
	if got := string(file.Profiles[0].Args["NodeResourcesFit"]); got != `{"ignoredResources":["example.com/foo","example.com/fpga"]}` {
		t.Errorf("args %s", got)
	}
}

func TestBadFiles(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"another kind":     {"apiVersion: v1\nkind: Pod\n", `no kind "Pod" is registered for version "v1"`},
		"an older version": {strings.Replace(head, "/v1", "/v1beta3", 1), `no kind "KubeSchedulerConfiguration" is registered for version "kubescheduler.config.k8s.io/v1beta3": it must be`},
		"no version":       {"kind: KubeSchedulerConfiguration\n", "Object 'apiVersion' is missing in '{\"kind\":\"KubeSchedulerConfiguration\"}'"},
		"no kind":          {"apiVersion: kubescheduler.config.k8s.io/v1\n", "Object 'Kind' is missing in"},
		"a field twice":    {head + "leaderElection: {leaderElect: true, leaderElect: false}\n", `key "leaderElect" already set in map`},
		"twice, unknown":   {head + "foo: 1\nfoo: 2\n", "strict decoding error: yaml: unmarshal errors:"},
		"not YAML":         {"a: [", "did not find expected node content"},
		"removed plugin":   {head + "profiles: [{plugins: {filter: {enabled: [{name: EBSLimits}]}}}]\n", `profiles[0].plugins.filter.enabled[0]: Invalid value: "EBSLimits": was invalid in version "v1" (KubeSchedulerConfiguration is version "kubescheduler.config.k8s.io/v1")`},
		"its args":         {head + "profiles: [{pluginConfig: [{name: CinderLimits}]}]\n", `profiles[0].pluginConfig[0]: Invalid value: "CinderLimits"`},
		"parallelism":      {head + "parallelism: 0\n", "parallelism: Invalid value: 0: should be an integer value greater than zero"},
		"burst":            {head + "clientConnection: {burst: -1}\n", "clientConnection.burst: Invalid value: -1: must be non-negative"},
		"lock":             {head + "leaderElection: {resourceLock: endpoints}\n", `leaderElection.resourceLock: Invalid value: "endpoints": resourceLock value must be "leases"`},
		"short lease":      {head + "leaderElection: {leaseDuration: 5s}\n", "leaderElection.leaseDuration: Invalid value: \"10s\": must be greater than `RenewDeadline`"},
		"negative lease":   {head + "leaderElection: {retryPeriod: -5s}\n", `leaderElection.retryPeriod: Invalid value: "-5s": must be greater than zero`},
		"unknown field":    {head + "profile: []\n", `strict decoding error: unknown field "profile"`},
		"unknown in depth": {head + "profiles: [{plugin: {}}]\n", `unknown field "profiles[0].plugin"`},
		"no name":          {head + "profiles: [{}, {schedulerName: b}]\n", "profiles[0].schedulerName: Required value"},
		"a name twice":     {head + "profiles: [{schedulerName: a}, {schedulerName: a}]\n", `profiles[1].schedulerName: Duplicate value: "profiles[0].schedulerName"`},
		"args twice":       {head + "profiles: [{pluginConfig: [{name: A}, {name: A}]}]\n", `profiles[0].pluginConfig[1]: Duplicate value: "A"`},
		"args of another":  {head + "profiles: [{pluginConfig: [{name: A, args: {kind: BArgs}}]}]\n", "args for plugin A were not of type AArgs, got BArgs"},
		"weight":           {head + "extenders: [{urlPrefix: http://x, prioritizeVerb: p}]\n", "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it"},
		"binders":          {head + "extenders: [{urlPrefix: http://x, bindVerb: b}, {urlPrefix: http://y, bindVerb: b}]\n", "only one extender can implement bind"},
		"managed twice":    {head + "extenders: [{managedResources: [{name: a/b}, {name: a/b}]}]\n", "duplicate extender managed resource name"},
		"no resource":      {head + "extenders: [{managedResources: [{name: cpu}]}]\n", "extenders[0].managedResources[0].name: Invalid value: \"cpu\""},
		"percentage":       {head + "percentageOfNodesToScore: 101\n", "not in valid range [0-100]"},
		"backoff":          {head + "podInitialBackoffSeconds: 5\npodMaxBackoffSeconds: 1\n", "podMaxBackoffSeconds: Invalid value: 1"},
	} {
		if _, err := Read([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
