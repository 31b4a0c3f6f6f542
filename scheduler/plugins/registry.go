// Package plugins is the table of the scheduler's plugins. Adding one is a folder
// beside this file and a line below: the framework calls a plugin wherever it has
// the method, in the order of the table. The cheap filters and those that rule out
// most nodes come first.
package plugins

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
	"hyperkube/scheduler/plugins/defaultbinder"
	"hyperkube/scheduler/plugins/defaultpreemption"
	"hyperkube/scheduler/plugins/imagelocality"
	"hyperkube/scheduler/plugins/interpodaffinity"
	"hyperkube/scheduler/plugins/nodeaffinity"
	"hyperkube/scheduler/plugins/nodename"
	"hyperkube/scheduler/plugins/nodeports"
	"hyperkube/scheduler/plugins/noderesources"
	"hyperkube/scheduler/plugins/nodeunschedulable"
	"hyperkube/scheduler/plugins/nodevolumelimits"
	"hyperkube/scheduler/plugins/podtopologyspread"
	"hyperkube/scheduler/plugins/queuesort"
	"hyperkube/scheduler/plugins/schedulinggates"
	"hyperkube/scheduler/plugins/tainttoleration"
	"hyperkube/scheduler/plugins/volumebinding"
	"hyperkube/scheduler/plugins/volumerestrictions"
	"hyperkube/scheduler/plugins/volumezone"
)

// NewInTreeRegistry returns the plugins in calling order, with upstream's default
// weights of the scores.
func NewInTreeRegistry() []runtime.Registration {
	return []runtime.Registration{
		{Name: schedulinggates.Name, New: plain(schedulinggates.New)},
		{Name: queuesort.Name, New: plain(queuesort.New)},
		{Name: nodeunschedulable.Name, New: plain(nodeunschedulable.New)},
		{Name: nodename.Name, New: plain(nodename.New)},
		{Name: tainttoleration.Name, Weight: 3, New: plain(tainttoleration.New)},
		{Name: nodeaffinity.Name, Weight: 2, New: nodeaffinity.New},
		{Name: nodeports.Name, New: plain(nodeports.New)},
		{Name: noderesources.FitName, Weight: 1, Also: []string{"preFilter", "preScore"}, New: noderesources.NewFit},
		{Name: volumerestrictions.Name, New: volumerestrictions.New},
		{Name: nodevolumelimits.Name, New: nodevolumelimits.New},
		{Name: volumebinding.Name, Weight: 1, New: volumebinding.New},
		{Name: volumezone.Name, New: volumezone.New},
		{Name: podtopologyspread.Name, Weight: 2, New: podtopologyspread.New},
		{Name: interpodaffinity.Name, Weight: 2, New: interpodaffinity.New},
		{Name: defaultpreemption.Name, Also: []string{"preEnqueue"}, New: defaultpreemption.New},
		{Name: noderesources.BalancedAllocationName, Weight: 1, New: noderesources.NewBalancedAllocation},
		{Name: imagelocality.Name, Weight: 1, New: imagelocality.New},
		{Name: defaultbinder.Name, New: defaultbinder.New},
	}
}

// plain adapts the constructor of a plugin that needs nothing of the scheduler.
func plain[P framework.Plugin](newPlugin func() P) func(context.Context, framework.Handle, framework.Args) (framework.Plugin, error) {
	return func(_ context.Context, _ framework.Handle, args framework.Args) (framework.Plugin, error) {
		return newPlugin(), args.Into(&noArgs{})
	}
}

// noArgs is what a plugin without settings accepts.
type noArgs struct {
	metav1.TypeMeta `json:",inline"`
}
