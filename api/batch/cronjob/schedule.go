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
	{0, 59, ""}, {0, 23, ""}, {1, 31, ""}, {1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"}, {0, 7, "sunmontuewedthufrisat"},
}

var descriptors = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// ParseSchedule reads "minute hour day month weekday", or a descriptor (@daily, @every 90m).
func ParseSchedule(text string) (*Schedule, error) {
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
		return nil, fmt.Errorf("expected exactly 5 fields, found %d: %s", len(parts), text)
	}
	s := &Schedule{anyDay: isAny(parts[2]), anyWeekday: isAny(parts[4])}
	for i, bits := range []*uint64{&s.minute, &s.hour, &s.day, &s.month, &s.weekday} {
		var err error
		if *bits, err = parseCronField(parts[i], cronFields[i]); err != nil {
			return nil, err
		}
	}
	// Sunday is 0 and 7.
	if s.weekday&(1<<7) != 0 {
		s.weekday |= 1
	}
	return s, nil
}

func isAny(part string) bool {
	return part == "?" || part == "*" || strings.HasPrefix(part, "*/")
}

// parseCronField reads a list of ranges with steps: "1-5,*/15,30".
func parseCronField(text string, f cronField) (uint64, error) {
	var bits uint64
	for _, piece := range strings.Split(text, ",") {
		span, stepText, stepped := strings.Cut(piece, "/")
		step := 1
		if stepped {
			var err error
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
				return 0, fmt.Errorf("step of range should be a positive number: %s", piece)
			}
		}
		low, high := f.low, f.high
		if span != "*" && span != "?" {
			first, last, ranged := strings.Cut(span, "-")
			var err error
			if low, err = f.value(first); err != nil {
				return 0, err
			}
			if !stepped {
				high = low
			}
			if ranged {
				if high, err = f.value(last); err != nil {
					return 0, err
				}
			}
		}
		if low > high {
			return 0, fmt.Errorf("beginning of range (%d) beyond end of range (%d): %s", low, high, piece)
		}
		for n := low; n <= high; n += step {
			bits |= 1 << n
		}
	}
	return bits, nil
}

func (f cronField) value(text string) (int, error) {
	if i := strings.Index(f.names, strings.ToLower(text)); len(text) == 3 && f.names != "" && i >= 0 && i%3 == 0 {
		return f.low + i/3, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("failed to parse int from %s: %w", text, err)
	}
	if n < f.low || n > f.high {
		return 0, fmt.Errorf("value %d is not between %d and %d", n, f.low, f.high)
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
