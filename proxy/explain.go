package proxy

import (
	"context"
	"encoding/json"
	"net/http"

	"hyperkube/proxy/iptables"
)

// Explain walks the rules of one Service as they are in the kernel now (R28).
func (p *Proxy) Explain(ctx context.Context, namespace, name string) ([]iptables.Step, error) {
	return Explain(ctx, p.cfg.IptablesMode, namespace, name)
}

// Explain is the same for another process, such as `hyperkube proxy explain`.
func Explain(ctx context.Context, iptablesMode, namespace, name string) ([]iptables.Step, error) {
	backend, err := iptables.DetectBackend(ctx, iptables.Mode(iptablesMode), iptables.Exec)
	if err != nil {
		return nil, err
	}
	text, err := iptables.Exec(ctx, "", backend.Program+"-save", "-t", "nat")
	if err != nil {
		return nil, err
	}
	steps := iptables.Explain(text, namespace, name)
	if six, err := backend.IPv6(ctx); err == nil {
		if text, err = iptables.Exec(ctx, "", six.Program+"-save", "-t", "nat"); err != nil {
			return nil, err
		}
		for _, step := range iptables.Explain(text, namespace, name) {
			step.IPv6 = true
			steps = append(steps, step)
		}
	}
	return steps, nil
}

// ExplainHandler serves Explain as JSON: ?namespace=default&name=web. The kernel shows its
// rules to root in the node's own network namespace, where the proxy is; who asks need not be.
func (p *Proxy) ExplainHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		steps, err := p.Explain(r.Context(), query.Get("namespace"), query.Get("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// A failed write means the reader has gone: there is nobody left to tell.
		_ = json.NewEncoder(w).Encode(steps)
	})
}
