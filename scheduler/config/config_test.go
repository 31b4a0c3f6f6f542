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
		"another kind":     {"apiVersion: v1\nkind: Pod\n", `it is a "Pod" of "v1"`},
		"an older version": {strings.Replace(head, "/v1", "/v1beta3", 1), "must be a KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1"},
		"unknown field":    {head + "profile: []\n", `unknown field "profile"`},
		"unknown in depth": {head + "profiles: [{plugin: {}}]\n", `unknown field "profiles[0].plugin"`},
		"no name":          {head + "profiles: [{}, {schedulerName: b}]\n", "profiles[0].schedulerName: Required value"},
		"a name twice":     {head + "profiles: [{schedulerName: a}, {schedulerName: a}]\n", `profiles[1].schedulerName: Duplicate value: "a"`},
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
