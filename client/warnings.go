package client

import (
	"context"
	"sync"

	"k8s.io/klog/v2"
)

// onceEach logs a warning of the apiserver the first time. A controller that writes a kind on its way out (Endpoints) is told
// with each answer; its log would hold little else.
type onceEach struct {
	mu   sync.Mutex
	seen map[string]bool
}

// warningCode is that of warnings about a request (RFC 7234: 299, miscellaneous and persistent).
const warningCode = 299

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (o *onceEach) HandleWarningHeaderWithContext(ctx context.Context, code int, agent, text string) {
	if code != warningCode || text == "" {
		return
	}
	o.mu.Lock()
	known := o.seen[text]
	o.seen[text] = true
	o.mu.Unlock()
	if !known {
		klog.FromContext(ctx).Info("The apiserver warns", "text", text)
	}
}
