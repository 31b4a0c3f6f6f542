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
	return klog.NewContext(ctx, demote(klog.FromContext(ctx), nil))
}

// Outliving returns a context that goes on when ctx has ended, but whose logger
// tells errors as information then. It is for what says the last words of a
// component, such as events of its stop: that some are cut off is as it should be.
func Outliving(ctx context.Context) context.Context {
	return klog.NewContext(context.WithoutCancel(ctx), demote(klog.FromContext(ctx), ctx.Done()))
}

// demote wraps the logger's sink. A logger without one, such as the zero Logger, says
// nothing and stays as it is.
func demote(logger klog.Logger, after <-chan struct{}) klog.Logger {
	if logger.GetSink() == nil {
		return logger
	}
	return logger.WithSink(demoted{logger.GetSink(), after})
}

// demoted turns errors into information, once after is closed; always if it is nil.
type demoted struct {
	logr.LogSink
	after <-chan struct{}
}

func (d demoted) Error(err error, msg string, keysAndValues ...any) {
	if d.after != nil {
		select {
		case <-d.after:
		default:
			d.LogSink.Error(err, msg, keysAndValues...)
			return
		}
	}
	const level = 2
	if d.Enabled(level) {
		d.Info(level, msg, append(keysAndValues[:len(keysAndValues):len(keysAndValues)], "err", err)...)
	}
}

func (d demoted) WithValues(keysAndValues ...any) logr.LogSink {
	return demoted{d.LogSink.WithValues(keysAndValues...), d.after}
}

func (d demoted) WithName(name string) logr.LogSink {
	return demoted{d.LogSink.WithName(name), d.after}
}
