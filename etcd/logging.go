package etcd

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger hands etcd's log lines to our logger: errors and warnings always,
// the rest at verbosity 3, its debugging at 6. Once stopping is set it complains
// of its own closed listeners: that is no error.
func zapLogger(logger logr.Logger, stopping *atomic.Bool, fatal fatalHook) *zap.Logger {
	return zap.New(&logCore{logger: logger, stopping: stopping}, zap.WithFatalHook(fatal), zap.WithPanicHook(fatal))
}

// fatalHook gets what etcd can't go on with. etcd would end the process there; here
// only the goroutine ends, and Run returns the error.
type fatalHook chan error

// OnWrite implements zapcore.CheckWriteHook. It does not return.
func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	select {
	case h <- err:
	default: // the first cause is the one that counts
	}
	runtime.Goexit()
}

// logCore is a zap backend that writes to a logr one.
type logCore struct {
	logger   logr.Logger
	stopping *atomic.Bool
	fields   []zapcore.Field
}

// usual are parts of the warnings and errors of every start like ours, of a start
// with short heartbeats, or of what Run returns as an error.
var usual = []string{
	"closing client listener",
	"simple token is not cryptographically signed",
	"serving client traffic insecurely; this is strongly discouraged!",
	"cannot campaign at term 1 since there are still pending configuration changes",
	"Failed to detect schema version",
	"failed to update storage version",
}

// verbosity is our level for a line of etcd's; -1 stands for an error.
func verbosity(level zapcore.Level, message string) int {
	isUsual := level >= zapcore.WarnLevel && slices.ContainsFunc(usual, func(part string) bool { return strings.Contains(message, part) })
	switch {
	case level >= zapcore.ErrorLevel && !isUsual:
		return -1
	case level >= zapcore.WarnLevel && !isUsual:
		return 0
	case level >= zapcore.InfoLevel:
		return 3
	}
	return 6
}

// Enabled implements zapcore.Core.
func (c *logCore) Enabled(level zapcore.Level) bool {
	return c.logger.V(max(verbosity(level, ""), 0)).Enabled()
}

// With implements zapcore.Core.
func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	return &logCore{logger: c.logger, stopping: c.stopping, fields: append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check implements zapcore.Core.
func (c *logCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *logCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	var cause error
	var pairs []any
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			cause = err
			continue
		}
		f.AddTo(encoder)
		pairs = append(pairs, f.Key, encoder.Fields[f.Key])
	}
	level := verbosity(entry.Level, entry.Message)
	if c.stopping.Load() {
		level = max(level, 3)
	}
	if level < 0 {
		c.logger.Error(cause, entry.Message, pairs...)
		return nil
	}
	if cause != nil {
		pairs = append(pairs, "err", cause)
	}
	c.logger.V(level).Info(entry.Message, pairs...)
	return nil
}

// Sync implements zapcore.Core.
func (c *logCore) Sync() error { return nil }
