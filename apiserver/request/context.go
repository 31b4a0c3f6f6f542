package request

import (
	"context"
	"sync"

	"github.com/go-logr/logr"

	"hyperkube/flow"
)

type (
	userKey     struct{}
	infoKey     struct{}
	warningsKey struct{}
	auditKey    struct{}
)

// WithUser returns a context of a request by u.
func WithUser(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserFrom returns who asks, or nil.
func UserFrom(ctx context.Context) *User {
	u, _ := ctx.Value(userKey{}).(*User)
	return u
}

// WithInfo returns a context that knows what is asked for, and whose logger shows the
// request's trace id.
func WithInfo(ctx context.Context, info *Info) context.Context {
	return &infoContext{Context: ctx, info: info}
}

// infoContext is the context of a request. The logger with the trace id is made when
// somebody asks for it: few requests log anything, and a logger costs more than all else
// that is remembered of a request.
type infoContext struct {
	context.Context
	info *Info
}

// Value implements context.Context.
func (c *infoContext) Value(key any) any {
	if _, ok := key.(infoKey); ok {
		return c.info
	}
	value := c.Context.Value(key)
	if logger, ok := value.(logr.Logger); ok && c.info.AuditID != "" {
		return logger.WithValues("traceID", flow.TraceID(c.info.TraceParent, c.info.AuditID))
	}
	return value
}

// InfoFrom returns what is asked for, or nil.
func InfoFrom(ctx context.Context) *Info {
	info, _ := ctx.Value(infoKey{}).(*Info)
	return info
}

// WithAuditID returns a context that bears the id under which the request is audited.
func WithAuditID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, auditKey{}, id)
}

// AuditIDFrom returns the request's audit id, or "".
func AuditIDFrom(ctx context.Context) string {
	id, _ := ctx.Value(auditKey{}).(string)
	return id
}

// Warnings collects what the client should be told without being refused. Each text
// is sent once, as a Warning header, in the order of its first appearance.
type Warnings struct {
	mu    sync.Mutex
	seen  map[string]bool
	texts []string
}

// WithWarnings returns a context into which AddWarning can write.
func WithWarnings(ctx context.Context) (context.Context, *Warnings) {
	w := &Warnings{seen: map[string]bool{}}
	return context.WithValue(ctx, warningsKey{}, w), w
}

// AddWarning tells the client text; without an open request it does nothing.
func AddWarning(ctx context.Context, text string) {
	w, _ := ctx.Value(warningsKey{}).(*Warnings)
	if w == nil || text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.seen[text] {
		w.seen[text] = true
		w.texts = append(w.texts, text)
	}
}

// List returns the warnings so far.
func (w *Warnings) List() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.texts...)
}
