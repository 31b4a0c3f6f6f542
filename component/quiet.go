package component

import (
	"context"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// Demoted returns ctx with a logger that tells errors as information of level
// 2. It is for libraries to whom the end of a connection is an error, whoever
// ended it, and which do not return it: people see an error line for every
// `kubectl exec` otherwise.
func Demoted(ctx context.Context) context.Context {
	logger := klog.FromContext(ctx)
	return klog.NewContext(ctx, logger.WithSink(demoted{logger.GetSink()}))
}

type demoted struct{ logr.LogSink }

func (d demoted) Error(err error, msg string, keysAndValues ...any) {
	const level = 2
	if d.Enabled(level) {
		d.Info(level, msg, append(keysAndValues[:len(keysAndValues):len(keysAndValues)], "err", err)...)
	}
}

func (d demoted) WithValues(keysAndValues ...any) logr.LogSink {
	return demoted{d.LogSink.WithValues(keysAndValues...)}
}

func (d demoted) WithName(name string) logr.LogSink { return demoted{d.LogSink.WithName(name)} }
