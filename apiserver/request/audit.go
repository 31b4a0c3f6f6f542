package request

import (
	"context"
	"maps"
	"sync"
)

type annotationsKey struct{}

// Annotations collects what the audit log should say of a request beside the request itself.
type Annotations struct {
	mu     sync.Mutex
	values map[string]string
}

// WithAnnotations returns a context into which AddAuditAnnotation can write.
func WithAnnotations(ctx context.Context) (context.Context, *Annotations) {
	a := &Annotations{values: map[string]string{}}
	return context.WithValue(ctx, annotationsKey{}, a), a
}

// AddAuditAnnotation notes value under key; the first word on a key stays. Without an audited request it does nothing.
func AddAuditAnnotation(ctx context.Context, key, value string) {
	a, _ := ctx.Value(annotationsKey{}).(*Annotations)
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, taken := a.values[key]; !taken {
		a.values[key] = value
	}
}

// Values are the annotations so far.
func (a *Annotations) Values() map[string]string {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.values)
}
