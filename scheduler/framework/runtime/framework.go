// Package runtime calls the plugins: it sorts them by the extension points they
// implement, runs each point in table order, and keeps the pods that Permit holds
// back. A plugin takes part wherever it has the method, unless the profile says otherwise.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/clock"

	"hyperkube/client/informers"
	"hyperkube/scheduler/extender"
	"hyperkube/scheduler/framework"
)

// Registration is a line of the plugin table.
type Registration struct {
	Name string
	// Weight multiplies the plugin's normalized score; 0 counts as 1.
	Weight int64
	// Optional plugins take part only if a profile enables them.
	Optional bool
	// Also are points, as a profile names them, where kube-scheduler's plugin of this name takes part and this one has
	// nothing to do: a profile may name it there.
	Also []string
	// New makes the plugin; args are its settings in the profile.
	New func(ctx context.Context, h framework.Handle, args framework.Args) (framework.Plugin, error)
}

// Options are what plugins reach through their Handle.
type Options struct {
	Client    kubernetes.Interface
	Recorder  events.EventRecorder
	Informers informers.SharedInformerFactory
	Snapshot  framework.SharedLister
	// Nominator may be nil: nobody is nominated.
	Nominator framework.PodNominator
	Extenders []*extender.Extender
	Clock     clock.WithTicker
	// Observe is told the duration of each extension point; may be nil.
	Observe func(extensionPoint string, code framework.Code, d time.Duration)
}

// Framework is the set of plugins, by extension point. It is read-only after
// NewFramework except for the waiting pods.
type Framework struct {
	Options
	profile Profile
	logger  klog.Logger

	queueSort  framework.QueueSortPlugin
	preEnqueue []framework.PreEnqueuePlugin
	enqueueExt []framework.EnqueueExtensions
	preFilter  []framework.PreFilterPlugin
	filter     []framework.FilterPlugin
	postFilter []framework.PostFilterPlugin
	preScore   []framework.PreScorePlugin
	score      []framework.ScorePlugin
	reserve    []framework.ReservePlugin
	permit     []framework.PermitPlugin
	preBind    []framework.PreBindPlugin
	bind       []framework.BindPlugin
	postBind   []framework.PostBindPlugin

	weights map[string]int64
	waiting waitingPodsMap
	// rejecting are the plugins that can refuse a pod (PreEnqueue, PreFilter, Filter,
	// Reserve, Permit): those the queue wants events from.
	rejecting []framework.Plugin
}

// maxTotalWeight keeps the sum of a node's scores, each up to 100 times its weight, within 64 bits.
const maxTotalWeight = math.MaxInt64 / framework.MaxNodeScore

// NewFramework makes the plugins that a profile selects from the table. Names must be
// unique; there must be one QueueSort plugin and at least one Bind plugin.
func NewFramework(ctx context.Context, table []Registration, profile Profile, opts Options) (*Framework, error) {
	f := &Framework{Options: opts, profile: profile, logger: klog.FromContext(ctx), weights: map[string]int64{}}
	f.waiting.pods = map[types.UID]*waitingPod{}
	if err := profile.validate(table); err != nil {
		return nil, err
	}
	for _, name := range profile.unknownArgs(table) {
		f.logger.Info("There is no such plugin: its args are ignored", "profile", profile.SchedulerName, "plugin", name)
	}
	everywhere := profile.multiPoint(table)
	made := map[string]framework.Plugin{}
	for _, reg := range table {
		if _, dup := f.weights[reg.Name]; dup {
			return nil, fmt.Errorf("plugin %q is registered twice", reg.Name)
		}
		f.weights[reg.Name] = max(reg.Weight, 1)
		if !profile.uses(everywhere, reg.Name) {
			continue
		}
		plugin, err := reg.New(ctx, f, profile.Args[reg.Name])
		if err != nil {
			return nil, fmt.Errorf("initializing plugin %q: %w", reg.Name, err)
		}
		made[reg.Name] = plugin
	}
	if err := f.enterAll(table, everywhere, made); err != nil {
		return nil, err
	}
	if len(f.bind) == 0 {
		return nil, fmt.Errorf("at least one bind plugin is needed for profile with scheduler name %q", profile.SchedulerName)
	}
	return f, nil
}

// enterAll puts the plugins at the extension points.
func (f *Framework) enterAll(table []Registration, everywhere []choice, made map[string]framework.Plugin) error {
	set := &f.profile.Plugins
	at := func(point string, set configv1.PluginSet) []choice {
		choices := f.profile.at(everywhere, set)
		for _, reg := range table {
			for i := range choices {
				if choices[i].name == reg.Name && slices.Contains(reg.Also, point) {
					choices[i].explicit = false // there is nothing to do: no fault
				}
			}
		}
		return choices
	}
	var queueSort []framework.QueueSortPlugin
	err := errors.Join(
		enter(&queueSort, "queueSort", at("queueSort", set.QueueSort), made), enter(&f.preEnqueue, "preEnqueue", at("preEnqueue", set.PreEnqueue), made),
		enter(&f.preFilter, "preFilter", at("preFilter", set.PreFilter), made), enter(&f.filter, "filter", at("filter", set.Filter), made),
		enter(&f.postFilter, "postFilter", at("postFilter", set.PostFilter), made), enter(&f.preScore, "preScore", at("preScore", set.PreScore), made),
		enter(&f.score, "score", at("score", set.Score), made), enter(&f.reserve, "reserve", at("reserve", set.Reserve), made),
		enter(&f.permit, "permit", at("permit", set.Permit), made), enter(&f.preBind, "preBind", at("preBind", set.PreBind), made),
		enter(&f.bind, "bind", at("bind", set.Bind), made), enter(&f.postBind, "postBind", at("postBind", set.PostBind), made),
	)
	if err != nil {
		return err
	}
	if len(queueSort) != 1 {
		return fmt.Errorf("only one queue sort plugin required for profile with scheduler name %q, but got %d", f.profile.SchedulerName, len(queueSort))
	}
	f.queueSort = queueSort[0]
	for _, c := range f.profile.at(everywhere, set.Score) {
		if c.weight > 0 {
			f.weights[c.name] = c.weight
		}
	}
	var total int64
	for _, p := range f.score {
		if total += f.weights[p.Name()]; total > maxTotalWeight {
			return errors.New("total score of Score plugins could overflow")
		}
	}
	for name, plugin := range made {
		if f.canReject(name) {
			f.rejecting = append(f.rejecting, plugin)
		}
	}
	return nil
}

// canReject says whether a plugin takes part where pods are refused.
func (f *Framework) canReject(name string) bool {
	return slices.Contains(slices.Concat(names(f.preEnqueue), names(f.preFilter), names(f.filter), names(f.reserve), names(f.permit)), name)
}

// enter takes the plugins that have the methods of T; one that was asked for at this
// point must have them.
func enter[T framework.Plugin](list *[]T, point string, choices []choice, made map[string]framework.Plugin) error {
	for _, c := range choices {
		p, ok := made[c.name].(T)
		if ok {
			*list = append(*list, p)
		} else if c.explicit {
			return fmt.Errorf("plugin %q does not extend %s plugin", c.name, pluginType(point))
		}
	}
	return nil
}

// ListPlugins returns the names per extension point, in calling order.
func (f *Framework) ListPlugins() map[string][]string {
	return map[string][]string{
		"QueueSort": {f.queueSort.Name()}, "PreEnqueue": names(f.preEnqueue), "PreFilter": names(f.preFilter),
		"Filter": names(f.filter), "PostFilter": names(f.postFilter), "PreScore": names(f.preScore), "Score": names(f.score),
		"Reserve": names(f.reserve), "Permit": names(f.permit), "PreBind": names(f.preBind), "Bind": names(f.bind), "PostBind": names(f.postBind),
	}
}

// ScoreWeights are the weights of the Score plugins.
func (f *Framework) ScoreWeights() map[string]int64 {
	weights := map[string]int64{}
	for _, p := range f.score {
		weights[p.Name()] = f.weights[p.Name()]
	}
	return weights
}

func names[T framework.Plugin](list []T) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.Name()
	}
	return out
}

// ProfileName is the spec.schedulerName that this framework serves.
func (f *Framework) ProfileName() string { return f.profile.SchedulerName }

// PercentageOfNodesToScore is the profile's own; nil: it has none.
func (f *Framework) PercentageOfNodesToScore() *int32 { return f.profile.PercentageOfNodesToScore }

// QueueSortFunc is the order of the active queue.
func (f *Framework) QueueSortFunc() framework.LessFunc { return f.queueSort.Less }

// HasPostFilterPlugins, HasScorePlugins tell whether the point is empty.
func (f *Framework) HasPostFilterPlugins() bool { return len(f.postFilter) > 0 }

// HasScorePlugins tells whether any plugin scores.
func (f *Framework) HasScorePlugins() bool { return len(f.score) > 0 }

// EventsToRegister collects, per plugin that can reject pods, the events that may
// cure it. One without EnqueueExtensions gets the wildcard.
func (f *Framework) EventsToRegister(ctx context.Context) (map[string][]framework.ClusterEventWithHint, error) {
	hints := map[string][]framework.ClusterEventWithHint{}
	for _, plugin := range f.rejecting {
		ext, ok := plugin.(framework.EnqueueExtensions)
		if !ok {
			all := framework.ClusterEvent{Resource: framework.WildCard, ActionType: framework.All}
			hints[plugin.Name()] = []framework.ClusterEventWithHint{{Event: all}}
			continue
		}
		registered, err := ext.EventsToRegister(ctx)
		if err != nil {
			return nil, fmt.Errorf("events of plugin %q: %w", plugin.Name(), err)
		}
		hints[plugin.Name()] = registered
	}
	return hints, nil
}

// RunPreEnqueuePlugins stops at the first objection.
func (f *Framework) RunPreEnqueuePlugins(ctx context.Context, pod *v1.Pod) *framework.Status {
	for _, p := range f.preEnqueue {
		if status := p.PreEnqueue(ctx, pod); !status.IsSuccess() {
			return status.WithPlugin(p.Name())
		}
	}
	return nil
}

// RunPreFilterPlugins returns the narrowed nodes and the plugins that narrowed
// them, or the first rejection. Plugins that Skip are left out of Filter.
func (f *Framework) RunPreFilterPlugins(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (result *framework.PreFilterResult, narrowing sets.Set[string], status *framework.Status) {
	defer f.observe("PreFilter", time.Now(), &status)()
	skip := sets.New[string]()
	narrowing = sets.New[string]()
	for _, p := range f.preFilter {
		r, s := p.PreFilter(ctx, state, pod, nodes)
		if s.IsSkip() {
			skip.Insert(p.Name())
			continue
		}
		if !s.IsSuccess() {
			s.WithPlugin(p.Name())
			if s.IsRejected() {
				return nil, narrowing, s
			}
			return nil, narrowing, asStatus("PreFilter", p.Name(), s)
		}
		if !r.AllNodes() {
			narrowing.Insert(p.Name())
		}
		result = result.Merge(r)
		if !result.AllNodes() && len(result.NodeNames) == 0 {
			msg := fmt.Sprintf("node(s) didn't satisfy plugin(s) %v simultaneously", sets.List(narrowing))
			if len(narrowing) == 1 {
				msg = fmt.Sprintf("node(s) didn't satisfy plugin %v", sets.List(narrowing)[0])
			}
			return result, narrowing, framework.NewStatus(framework.UnschedulableAndUnresolvable, msg)
		}
	}
	state.SkipFilterPlugins = skip
	state.FilterPlugins = slices.DeleteFunc(slices.Clone(f.filter), func(p framework.FilterPlugin) bool { return skip.Has(p.Name()) })
	return result, narrowing, nil
}

// RunFilterPlugins asks each plugin that PreFilter has left about one node until one refuses.
func (f *Framework) RunFilterPlugins(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	for _, p := range state.FilterPlugins {
		status := p.Filter(ctx, state, pod, node)
		if status.IsSuccess() {
			continue
		}
		status.WithPlugin(p.Name())
		if !status.IsRejected() {
			return asStatus("Filter", p.Name(), status)
		}
		return status
	}
	return nil
}

// RunPostFilterPlugins stops at the first success or failure; the reasons of
// plugins that could not help are joined.
func (f *Framework) RunPostFilterPlugins(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, filtered *framework.NodeToStatus) (result *framework.PostFilterResult, status *framework.Status) {
	defer f.observe("PostFilter", time.Now(), &status)()
	var reasons []string
	code, rejector := framework.UnschedulableAndUnresolvable, ""
	for _, p := range f.postFilter {
		r, s := p.PostFilter(ctx, state, pod, filtered)
		if s.IsSuccess() {
			return r, s
		}
		if !s.IsRejected() {
			return nil, asStatus("PostFilter", p.Name(), s)
		}
		if r != nil && r.NominatingInfo != nil && r.Override {
			result = r
		}
		reasons = append(reasons, s.Reasons()...)
		if rejector == "" {
			rejector = p.Name()
		}
		if s.Code() == framework.Unschedulable {
			code = framework.Unschedulable
		}
	}
	return result, framework.NewStatus(code, reasons...).WithPlugin(rejector)
}

// RunPreScorePlugins prepares the scores; plugins that Skip are left out of Score.
func (f *Framework) RunPreScorePlugins(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (status *framework.Status) {
	defer f.observe("PreScore", time.Now(), &status)()
	skip := sets.New[string]()
	for _, p := range f.preScore {
		s := p.PreScore(ctx, state, pod, nodes)
		if s.IsSkip() {
			skip.Insert(p.Name())
			continue
		}
		if !s.IsSuccess() {
			return asStatus("PreScore", p.Name(), s)
		}
	}
	state.SkipScorePlugins = skip
	return nil
}

// PluginScore is one plugin's weighted score for one node.
type PluginScore struct {
	Name  string `json:"name"`
	Score int64  `json:"score"`
}

// NodePluginScores is a node's total and what it is made of.
type NodePluginScores struct {
	Name       string        `json:"name"`
	Scores     []PluginScore `json:"scores"`
	TotalScore int64         `json:"totalScore"`
}

// RunScorePlugins scores all nodes in three steps:
//
//	1: each plugin scores each node
//	2: each plugin normalizes its own scores
//	3: the weighted sum
func (f *Framework) RunScorePlugins(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (result []NodePluginScores, status *framework.Status) {
	defer f.observe("Score", time.Now(), &status)()
	var plugins []framework.ScorePlugin
	for _, p := range f.score {
		if !state.SkipScorePlugins.Has(p.Name()) {
			plugins = append(plugins, p)
		}
	}
	scores := make([][]framework.NodeScore, len(plugins))
	for i := range scores {
		scores[i] = make([]framework.NodeScore, len(nodes))
	}

	// Step 1: each plugin scores each node
	var firstErr errorOnce
	Until(ctx, len(nodes), func(n int) {
		for i, p := range plugins {
			s, st := p.Score(ctx, state, pod, nodes[n])
			if !st.IsSuccess() {
				firstErr.set(asStatus("Score", p.Name(), st))
				return
			}
			scores[i][n] = framework.NodeScore{Name: nodes[n].Node().Name, Score: s}
		}
	})
	if firstErr.status != nil {
		return nil, firstErr.status
	}

	// Step 2: each plugin normalizes its own scores
	for i, p := range plugins {
		if ext, ok := p.(framework.ScoreExtensions); ok {
			if st := ext.NormalizeScore(ctx, state, pod, scores[i]); !st.IsSuccess() {
				return nil, asStatus("NormalizeScore", p.Name(), st)
			}
		}
	}

	// Step 3: the weighted sum
	return f.sumScores(plugins, scores, nodes)
}

func (f *Framework) sumScores(plugins []framework.ScorePlugin, scores [][]framework.NodeScore, nodes []*framework.NodeInfo) ([]NodePluginScores, *framework.Status) {
	result := make([]NodePluginScores, len(nodes))
	all := make([]PluginScore, len(nodes)*len(plugins))
	weights := make([]int64, len(plugins))
	for i, p := range plugins {
		weights[i] = f.weights[p.Name()]
	}
	for n := range nodes {
		own := all[n*len(plugins) : (n+1)*len(plugins)]
		result[n] = NodePluginScores{Name: nodes[n].Node().Name, Scores: own}
		for i, p := range plugins {
			s := scores[i][n].Score
			if s < framework.MinNodeScore || s > framework.MaxNodeScore {
				err := fmt.Errorf("plugin %q returns an invalid score %v, it should in the range of [%v, %v] after normalizing",
					p.Name(), s, framework.MinNodeScore, framework.MaxNodeScore)
				return nil, framework.AsStatus(err)
			}
			own[i] = PluginScore{Name: p.Name(), Score: s * weights[i]}
			result[n].TotalScore += own[i].Score
		}
	}
	return result, nil
}

// RunReservePluginsReserve stops at the first objection; the caller unreserves.
func (f *Framework) RunReservePluginsReserve(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) (status *framework.Status) {
	defer f.observe("Reserve", time.Now(), &status)()
	for _, p := range f.reserve {
		if s := p.Reserve(ctx, state, pod, node); !s.IsSuccess() {
			if s.IsRejected() {
				return s.WithPlugin(p.Name())
			}
			return asStatus("Reserve", p.Name(), s)
		}
	}
	return nil
}

// RunReservePluginsUnreserve undoes all reservations, last first.
func (f *Framework) RunReservePluginsUnreserve(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) {
	for i := len(f.reserve) - 1; i >= 0; i-- {
		f.reserve[i].Unreserve(ctx, state, pod, node)
	}
}

// RunPreBindPlugins stops at the first failure.
func (f *Framework) RunPreBindPlugins(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) (status *framework.Status) {
	defer f.observe("PreBind", time.Now(), &status)()
	for _, p := range f.preBind {
		if s := p.PreBind(ctx, state, pod, node); !s.IsSuccess() {
			if s.IsRejected() {
				return s.WithPlugin(p.Name())
			}
			return asStatus("PreBind", p.Name(), s)
		}
	}
	return nil
}

// RunBindPlugins lets the first plugin bind that does not Skip.
func (f *Framework) RunBindPlugins(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) (status *framework.Status) {
	defer f.observe("Bind", time.Now(), &status)()
	for _, p := range f.bind {
		s := p.Bind(ctx, state, pod, node)
		switch {
		case s.IsSkip():
			continue
		case s.IsSuccess():
			return nil
		case s.IsRejected():
			return s.WithPlugin(p.Name())
		}
		return asStatus("Bind", p.Name(), s)
	}
	return framework.NewStatus(framework.Error, "no Bind plugin took the pod")
}

// RunPostBindPlugins informs.
func (f *Framework) RunPostBindPlugins(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) {
	for _, p := range f.postBind {
		p.PostBind(ctx, state, pod, node)
	}
}

// asStatus says which plugin failed at which point.
func asStatus(point, plugin string, s *framework.Status) *framework.Status {
	return framework.AsStatus(fmt.Errorf("running %s plugin %q: %w", point, plugin, s.AsError())).WithPlugin(plugin)
}

// observe reports an extension point's duration when the function returns.
func (f *Framework) observe(point string, start time.Time, status **framework.Status) func() {
	return func() {
		if f.Observe != nil {
			f.Observe(point, (*status).Code(), time.Since(start))
		}
	}
}

// errorOnce keeps the first failure of concurrent calls.
type errorOnce struct {
	mu     sync.Mutex
	status *framework.Status
}

func (e *errorOnce) set(status *framework.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status == nil {
		e.status = status
	}
}

// The Handle.

func (f *Framework) SnapshotSharedLister() framework.SharedLister           { return f.Snapshot }
func (f *Framework) ClientSet() kubernetes.Interface                        { return f.Client }
func (f *Framework) EventRecorder() events.EventRecorder                    { return f.Recorder }
func (f *Framework) SharedInformerFactory() informers.SharedInformerFactory { return f.Informers }
func (f *Framework) Logger() klog.Logger                                    { return f.logger }

// NominatedPodsForNode implements Handle.
func (f *Framework) NominatedPodsForNode(node string) []*framework.PodInfo {
	if f.Nominator == nil {
		return nil
	}
	return f.Nominator.NominatedPodsForNode(node)
}

// Extenders implements Handle.
func (f *Framework) Extenders() []*extender.Extender { return f.Options.Extenders }

var _ framework.Handle = &Framework{}
