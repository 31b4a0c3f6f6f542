package component

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// output is where all log lines of the process go. There is one, since stderr
// is one; what differs by component is the level and, with a logs directory,
// the file.
type output struct {
	mu      sync.Mutex
	out     io.Writer
	dir     string              // one file a component, beside out; "" = none
	files   map[string]*os.File // by component
	json    bool
	levels  map[string]int // by component; "" = the default of the others
	now     func() time.Time
	columns int // widest component name seen, so that messages line up
}

const (
	levelError = -2 // only errors
	levelWarn  = -1 // errors, and nothing at V(0)
)

var logs = &output{out: os.Stderr, files: map[string]*os.File{}, levels: map[string]int{}, now: time.Now}

// LogOptions are the logging flags of every subcommand.
type LogOptions struct {
	// Level is "info", "warn", "error" or a verbosity 0-10, for all or a component: "2,scheduler=5,etcd=warn".
	Level string
	// Format is "text" or "json".
	Format string
	// Dir gets one file a component when set.
	Dir string
}

// SetUpLogging applies o to the process, and sends what libraries log without a
// context to the same output as component "lib".
func SetUpLogging(o LogOptions) error {
	if o.Format != "" && o.Format != "text" && o.Format != "json" {
		return fmt.Errorf("--log-format=%s: must be text or json", o.Format)
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o755); err != nil {
			return fmt.Errorf("--logs-dir: %w", err)
		}
	}
	if err := SetLogLevels(o.Level); err != nil {
		return fmt.Errorf("--log-level=%s: %w", o.Level, err)
	}
	logs.mu.Lock()
	logs.json, logs.dir = o.Format == "json", o.Dir
	logs.mu.Unlock()
	klog.SetLoggerWithOptions(Logger("lib"), klog.ContextualLogger(true))
	return nil
}

// SetLogLevels changes levels while the process runs; see LogOptions.Level.
func SetLogLevels(spec string) error {
	levels := map[string]int{}
	for _, part := range strings.Split(spec, ",") {
		if part == "" {
			continue
		}
		name, value, named := strings.Cut(part, "=")
		if !named {
			name, value = "", part
		}
		level, err := parseLevel(value)
		if err != nil {
			return err
		}
		levels[name] = level
	}
	if _, set := levels["lib"]; !set {
		levels["lib"] = levelWarn
	}
	logs.mu.Lock()
	logs.levels = levels
	logs.mu.Unlock()
	return nil
}

func parseLevel(value string) (int, error) {
	switch value {
	case "error":
		return levelError, nil
	case "warn", "warning":
		return levelWarn, nil
	case "info":
		return 0, nil
	case "debug":
		return 4, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > 10 {
		return 0, fmt.Errorf("level %q: must be error, warn, info, debug or a number from 0 to 10", value)
	}
	return n, nil
}

// Logger returns the logger of a component: every line it writes begins with the
// component's name (R20).
func Logger(name string) logr.Logger {
	return logr.New(&sink{component: name, out: logs})
}

// sink writes the lines of one component as
//
//	scheduler  I 10:04:05.123 Bound pod  pod="default/web" node="box"
//
// or as one JSON object a line.
type sink struct {
	component string
	names     string // of WithName, joined by "/"
	values    []any
	out       *output
}

func (s *sink) Init(logr.RuntimeInfo) {}

func (s *sink) Enabled(level int) bool {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return level <= s.out.level(s.component)
}

func (s *sink) Info(level int, msg string, keysAndValues ...any) {
	s.write("I", nil, msg, keysAndValues)
}

func (s *sink) Error(err error, msg string, keysAndValues ...any) {
	s.write("E", err, msg, keysAndValues)
}

func (s *sink) WithValues(keysAndValues ...any) logr.LogSink {
	c := *s
	c.values = append(append([]any{}, s.values...), keysAndValues...)
	return &c
}

func (s *sink) WithName(name string) logr.LogSink {
	c := *s
	if c.names != "" {
		name = c.names + "/" + name
	}
	c.names = name
	return &c
}

// write makes one line. Values of the logger come before those of the call;
// where a key stands twice the later one counts, as readers expect.
func (s *sink) write(severity string, err error, msg string, keysAndValues []any) {
	pairs := append(append([]any{}, s.values...), keysAndValues...)
	if s.names != "" {
		pairs = append([]any{"logger", s.names}, pairs...)
	}
	if err != nil {
		pairs = append(pairs, "err", err)
	}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	var line []byte
	if s.out.json {
		line = s.out.jsonLine(s.component, severity, msg, pairs)
	} else {
		line = s.out.textLine(s.component, severity, msg, pairs)
	}
	s.out.out.Write(line)
	if file := s.out.file(s.component); file != nil {
		file.Write(line)
	}
}

func (o *output) level(component string) int {
	if level, ok := o.levels[component]; ok {
		return level
	}
	for name, level := range o.levels { // that of kubelet counts for kubelet-node-2 too
		if name != "" && strings.HasPrefix(component, name+"-") {
			return level
		}
	}
	return o.levels[""]
}

func (o *output) textLine(component, severity, msg string, pairs []any) []byte {
	if len(component) > o.columns {
		o.columns = len(component)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%-*s %s %s %s", o.columns, component, severity, o.now().Format("15:04:05.000"), strings.TrimSpace(msg))
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "  %v=%s", pairs[i], textValue(valueAt(pairs, i)))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// textValue quotes strings, and what contains blanks, so that a line stays one
// line and splits at blanks outside quotes.
func textValue(value any) string {
	switch v := value.(type) {
	case nil:
		return "<nil>"
	case error:
		return strconv.Quote(v.Error())
	case string:
		return strconv.Quote(v)
	case fmt.Stringer:
		return strconv.Quote(v.String())
	}
	text := fmt.Sprintf("%+v", value)
	if strings.ContainsAny(text, " \n\"") {
		return strconv.Quote(text)
	}
	return text
}

func (o *output) jsonLine(component, severity, msg string, pairs []any) []byte {
	fields := map[string]any{"component": component, "severity": severity, "ts": o.now().Format(time.RFC3339Nano), "msg": msg}
	for i := 0; i < len(pairs); i += 2 {
		value := valueAt(pairs, i)
		if err, ok := value.(error); ok {
			value = err.Error()
		} else if s, ok := value.(fmt.Stringer); ok {
			value = s.String()
		}
		fields[fmt.Sprint(pairs[i])] = value
	}
	keys := make([]string, 0, len(fields))
	for key := range fields {
		if key != "component" {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	var b bytes.Buffer
	// The component stands first, in this format too.
	for i, key := range append([]string{"component"}, keys...) {
		b.WriteByte(",{"[btoi(i == 0)])
		value, err := json.Marshal(fields[key])
		if err != nil {
			value, _ = json.Marshal(fmt.Sprintf("%+v", fields[key]))
		}
		fmt.Fprintf(&b, "%q:%s", key, value)
	}
	b.WriteString("}\n")
	return b.Bytes()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func valueAt(pairs []any, i int) any {
	if i+1 < len(pairs) {
		return pairs[i+1]
	}
	return "(missing)"
}

// file returns the component's own log file, opened on its first line.
func (o *output) file(component string) *os.File {
	if o.dir == "" {
		return nil
	}
	if f, ok := o.files[component]; ok {
		return f
	}
	f, err := os.OpenFile(filepath.Join(o.dir, component+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		// A line still reaches stderr; a nil entry keeps this from being tried on every line.
		fmt.Fprintf(o.out, "%s E cannot open its log file: %v\n", component, err)
	}
	o.files[component] = f
	return f
}
