package iptables

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

// Proxier makes the kernel's rules follow the Input. It is not safe for concurrent
// use: one goroutine syncs.
type Proxier struct {
	backend *Backend
	// written is the text the last successful sync wrote; "" before.
	written string
}

// NewProxier returns a Proxier that writes through the backend.
func NewProxier(backend *Backend) *Proxier { return &Proxier{backend: backend} }

// Backend says which programs are used.
func (p *Proxier) Backend() *Backend { return p.backend }

// SyncReport is what one sync did.
type SyncReport struct {
	// Written is false when the kernel already had everything.
	Written bool
	// Added and Removed are the rules that differ from the last sync.
	Added, Removed []string
	// FilterRules, NatRules count the rules.
	FilterRules, NatRules int
	Duration              time.Duration
}

// SyncProxyRules makes the kernel have the rules for this input. It decides
// (ComputeRules), looks (Save), and acts (Restore), once each:
//
//	1: decide the rules
//	2: look at what the kernel has
//	3: if it has them all and they are the same as last time, be done
//	4: write them, in one run of iptables-restore
//
// After an error it may be called again: it does not build on what it wrote before.
func (p *Proxier) SyncProxyRules(ctx context.Context, in Input) (SyncReport, error) {
	start := time.Now()
	// Step 1: decide the rules
	rules := ComputeRules(in)
	text := rules.Text()
	report := SyncReport{FilterRules: len(rules.Filter.Rules), NatRules: len(rules.Nat.Rules)}

	// Step 2: look at what the kernel has
	saved, err := p.backend.Save(ctx)
	if err != nil {
		return report, fmt.Errorf("reading the rules: %w", err)
	}

	// Step 3: if it has them all and they are the same as last time, be done
	if text == p.written && rules.Complete(saved) {
		report.Duration = time.Since(start)
		return report, nil
	}

	// Step 4: write them, in one run of iptables-restore
	if err := p.backend.Restore(ctx, rules.RestoreText(saved)); err != nil {
		p.written = ""
		return report, fmt.Errorf("writing the rules: %w", err)
	}
	report.Written = true
	report.Added, report.Removed = diffRules(p.written, text)
	p.written = text
	report.Duration = time.Since(start)
	logDiff(klog.FromContext(ctx), report)
	return report, nil
}

// CleanUp removes every chain and rule of ours from the kernel.
func (p *Proxier) CleanUp(ctx context.Context) error {
	p.written = ""
	return CleanUp(ctx, p.backend)
}

// CleanUp removes every chain and rule of ours that the backend shows.
func CleanUp(ctx context.Context, backend *Backend) error {
	saved, err := backend.Save(ctx)
	if err != nil {
		return fmt.Errorf("reading the rules: %w", err)
	}
	text := CleanUpText(saved)
	if text == "" {
		return nil
	}
	if err := backend.Restore(ctx, text); err != nil {
		return fmt.Errorf("removing the rules: %w", err)
	}
	return nil
}

// diffRules compares two texts rule by rule; order within a chain does not count.
func diffRules(before, after string) (added, removed []string) {
	count := map[string]int{}
	for _, line := range strings.Split(before, "\n") {
		count[line]--
	}
	for _, line := range strings.Split(after, "\n") {
		count[line]++
	}
	for line, n := range count {
		switch {
		case !strings.HasPrefix(line, "-A "):
		case n > 0:
			added = append(added, line)
		case n < 0:
			removed = append(removed, line)
		}
	}
	slices.Sort(added)
	slices.Sort(removed)
	return added, removed
}

// logDiff shows the rules that came and went (R28).
func logDiff(logger klog.Logger, report SyncReport) {
	logger.V(1).Info("Wrote iptables rules", "added", len(report.Added), "removed", len(report.Removed),
		"filterRules", report.FilterRules, "natRules", report.NatRules, "took", report.Duration)
	for _, rule := range report.Removed {
		logger.V(2).Info("Rule removed", "rule", rule)
	}
	for _, rule := range report.Added {
		logger.V(2).Info("Rule added", "rule", rule)
	}
}
