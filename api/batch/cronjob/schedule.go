package cronjob

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule is a parsed cron expression: a bit for each minute, hour, day of the
// month, month and weekday that it names.
type Schedule struct {
	minute, hour, day, month, weekday uint64
	// anyDay, anyWeekday: the field was "*". If both are restricted, either may match (crontab(5)).
	anyDay, anyWeekday bool
	every              time.Duration // "@every 90m"; then nothing else counts
}

type cronField struct {
	low, high int
	names     string // of the values from low on, three letters each
}

var cronFields = [5]cronField{
	{0, 59, ""}, {0, 23, ""}, {1, 31, ""}, {1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"}, {0, 6, "sunmontuewedthufrisat"},
}

var descriptors = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// ParseSchedule reads "minute hour day month weekday", or a descriptor (@daily, @every 90m).
func ParseSchedule(text string) (*Schedule, error) {
	if text == "" {
		return nil, fmt.Errorf("empty spec string")
	}
	text, err := cutZone(text)
	if err != nil {
		return nil, err
	}
	if duration, ok := strings.CutPrefix(text, "@every "); ok {
		every, err := time.ParseDuration(duration)
		if err != nil {
			return nil, fmt.Errorf("failed to parse duration %s: %w", text, err)
		}
		return &Schedule{every: max(every.Truncate(time.Second), time.Second)}, nil
	}
	if strings.HasPrefix(text, "@") {
		expanded, ok := descriptors[text]
		if !ok {
			return nil, fmt.Errorf("unrecognized descriptor: %s", text)
		}
		text = expanded
	}
	parts := strings.Fields(text)
	if len(parts) != 5 {
		return nil, fmt.Errorf("expected exactly 5 fields, found %d: %s", len(parts), parts)
	}
	s := &Schedule{anyDay: isAny(parts[2]), anyWeekday: isAny(parts[4])}
	for i, bits := range []*uint64{&s.minute, &s.hour, &s.day, &s.month, &s.weekday} {
		if *bits, err = parseCronField(parts[i], cronFields[i]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// cutZone takes a time zone off, which old schedules may begin with ("TZ=UTC 0 0 * * *"). New ones have a field for it.
func cutZone(text string) (string, error) {
	zone, found := strings.CutPrefix(text, "TZ=")
	if !found {
		zone, found = strings.CutPrefix(text, "CRON_TZ=")
	}
	if !found {
		return text, nil
	}
	zone, rest, _ := strings.Cut(zone, " ")
	if _, err := time.LoadLocation(zone); err != nil {
		return "", fmt.Errorf("provided bad location %s: %w", zone, err)
	}
	return strings.TrimSpace(rest), nil
}

// isAny: one of the parts of the field is "*". With a step it is a restriction like any other ("*/2" is every second day).
func isAny(text string) bool {
	for _, piece := range strings.Split(text, ",") {
		if span, step, _ := strings.Cut(piece, "/"); (span == "*" || span == "?") && (step == "" || step == "1") {
			return true
		}
	}
	return false
}

// parseCronField reads a list of ranges with steps: "1-5,*/15,30".
func parseCronField(text string, f cronField) (uint64, error) {
	var bits uint64
	for _, piece := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		r, err := parseCronRange(piece, f)
		if err != nil {
			return 0, err
		}
		for n := r.low; n <= r.high; n += r.step {
			bits |= 1 << n
		}
	}
	return bits, nil
}

type cronRange struct{ low, high, step int }

// parseCronRange reads "*", "5", "1-5", or one of these with a step; "5/10" is "5-max/10".
func parseCronRange(piece string, f cronField) (r cronRange, err error) {
	parts := strings.Split(piece, "/")
	if r, err = parseCronSpan(parts[0], piece, f); err != nil {
		return r, err
	}
	switch len(parts) {
	case 1:
	case 2:
		if r.step, err = parseCronInt(parts[1]); err != nil {
			return r, err
		}
		if !strings.Contains(parts[0], "-") {
			r.high = f.high
		}
	default:
		return r, fmt.Errorf("too many slashes: %s", piece)
	}
	switch {
	case r.low < f.low:
		return r, fmt.Errorf("beginning of range (%d) below minimum (%d): %s", r.low, f.low, piece)
	case r.high > f.high:
		return r, fmt.Errorf("end of range (%d) above maximum (%d): %s", r.high, f.high, piece)
	case r.low > r.high:
		return r, fmt.Errorf("beginning of range (%d) beyond end of range (%d): %s", r.low, r.high, piece)
	case r.step == 0:
		return r, fmt.Errorf("step of range should be a positive number: %s", piece)
	}
	return r, nil
}

func parseCronSpan(span, piece string, f cronField) (r cronRange, err error) {
	ends := strings.Split(span, "-")
	if ends[0] == "*" || ends[0] == "?" {
		return cronRange{f.low, f.high, 1}, nil
	}
	if r.low, err = f.value(ends[0]); err != nil {
		return r, err
	}
	r.high, r.step = r.low, 1
	switch len(ends) {
	case 1:
	case 2:
		r.high, err = f.value(ends[1])
	default:
		err = fmt.Errorf("too many hyphens: %s", piece)
	}
	return r, err
}

func (f cronField) value(text string) (int, error) {
	if i := strings.Index(f.names, strings.ToLower(text)); len(text) == 3 && f.names != "" && i >= 0 && i%3 == 0 {
		return f.low + i/3, nil
	}
	return parseCronInt(text)
}

func parseCronInt(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("failed to parse int from %s: %w", text, err)
	}
	if n < 0 {
		return 0, fmt.Errorf("negative number (%d) not allowed: %s", n, text)
	}
	return n, nil
}

// Next is the first time after t that the schedule names, in t's time zone; the
// zero time if there is none in five years (the 30th of February).
func (s *Schedule) Next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Add(s.every).Truncate(time.Second)
	}
	end := t.AddDate(5, 0, 0)
	t = t.Truncate(time.Minute).Add(time.Minute)
	for t.Before(end) {
		switch {
		case s.month&(1<<int(t.Month())) == 0:
			t = time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, t.Location())
		case !s.matchesDay(t):
			t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location())
		case s.hour&(1<<t.Hour()) == 0:
			// By duration, not by wall clock: an hour may be missing or come twice.
			t = t.Add(time.Duration(60-t.Minute()) * time.Minute)
		case s.minute&(1<<t.Minute()) == 0:
			t = t.Add(time.Minute)
		default:
			return t
		}
	}
	return time.Time{}
}

func (s *Schedule) matchesDay(t time.Time) bool {
	day := s.day&(1<<t.Day()) != 0
	weekday := s.weekday&(1<<int(t.Weekday())) != 0
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
