package tools

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

func cat(c *call) int {
	_, files, err := c.options("u")
	if err != nil {
		return c.fail1(err)
	}
	return c.eachInput(files, func(_ string, r io.Reader) error {
		_, err := io.Copy(c.out, r)
		return err
	})
}

func seq(c *call) int {
	numbers := []int{}
	for _, arg := range c.args {
		n, err := strconv.Atoi(arg)
		if err != nil {
			return c.fail1(fmt.Errorf("%q is no whole number", arg))
		}
		numbers = append(numbers, n)
	}
	first, step, last := 1, 1, 0
	switch len(numbers) {
	case 1:
		last = numbers[0]
	case 2:
		first, last = numbers[0], numbers[1]
	case 3:
		first, step, last = numbers[0], numbers[1], numbers[2]
	default:
		return c.fail1(fmt.Errorf("usage: seq [FIRST [STEP]] LAST"))
	}
	if step == 0 {
		return c.fail1(fmt.Errorf("STEP must not be 0"))
	}
	for n := first; step > 0 && n <= last || step < 0 && n >= last; n += step {
		fmt.Fprintln(c.out, n)
	}
	return 0
}

// lines calls do for each line of r, without its newline, until do returns false.
func lines(r io.Reader, do func(line string) bool) error {
	reader := bufio.NewReader(r)
	for {
		line, err := reader.ReadString('\n')
		if line != "" && !do(strings.TrimSuffix(line, "\n")) {
			return nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// grep: -i ignore case, -v invert, -c count, -n number, -q quiet, -o only the match,
// -l files, -F fixed string, -E extended expressions, -w words.
func grep(c *call) int {
	flags, operands, err := c.options("ivcnqolFEwe:h")
	if err != nil {
		c.fail1(err)
		return 2
	}
	pattern, given := flags['e']
	if !given {
		if len(operands) == 0 {
			c.fail1(fmt.Errorf("usage: grep [-ivcnqolFEw] PATTERN [FILE…]"))
			return 2
		}
		pattern, operands = operands[0], operands[1:]
	}
	if flags['F'] != "" {
		pattern = regexp.QuoteMeta(pattern)
	} else if flags['E'] == "" {
		pattern = basicExpression(pattern)
	}
	if flags['w'] != "" {
		pattern = `\b(?:` + pattern + `)\b`
	}
	if flags['i'] != "" {
		pattern = "(?i)" + pattern
	}
	expression, err := regexp.Compile(pattern)
	if err != nil {
		c.fail1(err)
		return 2
	}
	g := &grepRun{call: c, flags: flags, expression: expression, named: len(operands) > 1 && flags['h'] == ""}
	if c.eachInput(operands, g.file) != 0 && !g.found {
		return 2
	}
	if g.found {
		return 0
	}
	return 1
}

type grepRun struct {
	*call
	flags      map[rune]string
	expression *regexp.Regexp
	named      bool
	found      bool
}

func (g *grepRun) file(name string, r io.Reader) error {
	count, number := 0, 0
	err := lines(r, func(line string) bool {
		number++
		if g.expression.MatchString(line) == (g.flags['v'] != "") {
			return true
		}
		g.found = true
		count++
		return g.show(name, number, line)
	})
	if g.flags['c'] != "" {
		if g.named {
			fmt.Fprintf(g.out, "%s:", name)
		}
		fmt.Fprintln(g.out, count)
	}
	return err
}

// show prints one matching line as the flags say, and reports whether to go on.
func (g *grepRun) show(name string, number int, line string) bool {
	switch {
	case g.flags['q'] != "":
		return false
	case g.flags['l'] != "":
		fmt.Fprintln(g.out, name)
		return false
	case g.flags['c'] != "":
		return true
	}
	prefix := ""
	if g.named {
		prefix = name + ":"
	}
	if g.flags['n'] != "" {
		prefix += strconv.Itoa(number) + ":"
	}
	if g.flags['o'] == "" {
		fmt.Fprintln(g.out, prefix+line)
		return true
	}
	for _, match := range g.expression.FindAllString(line, -1) {
		fmt.Fprintln(g.out, prefix+match)
	}
	return true
}

// cut: -d DELIMITER -f LIST, or -c LIST, where LIST is N, N-M, N-, -M, joined by commas.
func cut(c *call) int {
	flags, files, err := c.options("d:f:c:s")
	if err != nil {
		return c.fail1(err)
	}
	list, byField := flags['f'], flags['f'] != ""
	if !byField {
		list = flags['c']
	}
	wanted, err := parseRanges(list)
	if err != nil {
		return c.fail1(err)
	}
	delimiter := flags['d']
	if delimiter == "" {
		delimiter = "\t"
	}
	if !byField {
		delimiter = ""
	}
	return c.eachInput(files, func(_ string, r io.Reader) error {
		return lines(r, func(line string) bool {
			if byField && !strings.Contains(line, delimiter) {
				if flags['s'] == "" {
					fmt.Fprintln(c.out, line)
				}
				return true
			}
			var kept []string
			for i, piece := range strings.Split(line, delimiter) {
				if wanted(i + 1) {
					kept = append(kept, piece)
				}
			}
			fmt.Fprintln(c.out, strings.Join(kept, delimiter))
			return true
		})
	})
}

func parseRanges(list string) (func(int) bool, error) {
	type span struct{ from, to int }
	var spans []span
	for _, part := range strings.Split(list, ",") {
		from, to, ranged := strings.Cut(part, "-")
		s := span{1, int(^uint(0) >> 1)}
		var err error
		if from != "" {
			s.from, err = strconv.Atoi(from)
		}
		if err == nil && ranged && to != "" {
			s.to, err = strconv.Atoi(to)
		}
		if !ranged {
			s.to = s.from
		}
		if err != nil || part == "" || part == "-" || s.from < 1 {
			return nil, fmt.Errorf("list %q: must be like 1,3-5,7-", list)
		}
		spans = append(spans, s)
	}
	return func(n int) bool {
		return slices.ContainsFunc(spans, func(s span) bool { return s.from <= n && n <= s.to })
	}, nil
}

// lineCount takes -n N, and the old form -N.
func (c *call) lineCount(letters string) (n int, fromStart bool, flags map[rune]string, files []string, err error) {
	if len(c.args) > 0 && len(c.args[0]) > 1 && c.args[0][0] == '-' && strings.Trim(c.args[0][1:], "0123456789") == "" {
		c.args = append([]string{"-n", c.args[0][1:]}, c.args[1:]...)
	}
	flags, files, err = c.options(letters)
	n = 10
	if value := flags['n']; value != "" && err == nil {
		fromStart = strings.HasPrefix(value, "+")
		n, err = strconv.Atoi(value)
	}
	return n, fromStart, flags, files, err
}

func head(c *call) int {
	n, _, flags, files, err := c.lineCount("n:c:q")
	if err != nil {
		return c.fail1(err)
	}
	if size := flags['c']; size != "" {
		limit, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return c.fail1(err)
		}
		return c.eachInput(files, func(_ string, r io.Reader) error {
			_, err := io.Copy(c.out, io.LimitReader(r, limit))
			return err
		})
	}
	return c.eachInput(files, func(_ string, r io.Reader) error {
		left := n
		return lines(r, func(line string) bool {
			if left <= 0 {
				return false
			}
			fmt.Fprintln(c.out, line)
			left--
			return left > 0
		})
	})
}

// tail: -n N or -n +N, -f to follow one file as it grows.
func tail(c *call) int {
	n, fromStart, flags, files, err := c.lineCount("n:fq")
	if err != nil {
		return c.fail1(err)
	}
	return c.eachInput(files, func(_ string, r io.Reader) error {
		var last []string
		number := 0
		err := lines(r, func(line string) bool {
			number++
			switch {
			case fromStart && number >= n:
				fmt.Fprintln(c.out, line)
			case !fromStart:
				if last = append(last, line); len(last) > n {
					last = last[1:]
				}
			}
			return true
		})
		for _, line := range last {
			fmt.Fprintln(c.out, line)
		}
		for err == nil && flags['f'] != "" {
			// A file that grows gives no event to wait for without inotify; half a second is what tail does.
			time.Sleep(500 * time.Millisecond)
			_, err = io.Copy(c.out, r)
		}
		return err
	})
}

// wc: -l lines, -w words, -c bytes, -m characters.
func wc(c *call) int {
	flags, files, err := c.options("lwcm")
	if err != nil {
		return c.fail1(err)
	}
	return c.eachInput(files, func(name string, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		counts := []struct {
			letter rune
			n      int
			usual  bool
		}{
			{'l', bytes.Count(data, []byte("\n")), true}, {'w', len(bytes.Fields(data)), true},
			{'m', utf8.RuneCount(data), false}, {'c', len(data), true},
		}
		var out []string
		for _, count := range counts {
			if flags[count.letter] != "" || len(flags) == 0 && count.usual {
				out = append(out, strconv.Itoa(count.n))
			}
		}
		if name != "-" {
			out = append(out, name)
		}
		fmt.Fprintln(c.out, strings.Join(out, " "))
		return nil
	})
}

func sortLines(c *call) int {
	flags, files, err := c.options("nru")
	if err != nil {
		return c.fail1(err)
	}
	var all []string
	status := c.eachInput(files, func(_ string, r io.Reader) error {
		return lines(r, func(line string) bool {
			all = append(all, line)
			return true
		})
	})
	slices.SortStableFunc(all, func(a, b string) int {
		order := strings.Compare(a, b)
		if flags['n'] != "" {
			x, _ := strconv.ParseFloat(strings.TrimSpace(a), 64) // what is no number counts as 0
			y, _ := strconv.ParseFloat(strings.TrimSpace(b), 64)
			if x != y {
				order = int(2*btof(x > y) - 1)
			}
		}
		if flags['r'] != "" {
			return -order
		}
		return order
	})
	if flags['u'] != "" {
		all = slices.Compact(all)
	}
	for _, line := range all {
		fmt.Fprintln(c.out, line)
	}
	return status
}

func btof(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// tr: SET1 SET2, or -d SET1; sets may have ranges (a-z).
func tr(c *call) int {
	flags, sets, err := c.options("d")
	if err != nil {
		return c.fail1(err)
	}
	if len(sets) == 0 || flags['d'] == "" && len(sets) != 2 {
		return c.fail1(fmt.Errorf("usage: tr SET1 SET2 | tr -d SET1"))
	}
	from := expandSet(sets[0])
	var to []rune
	if flags['d'] == "" {
		if to = expandSet(sets[1]); len(to) == 0 {
			return c.fail1(fmt.Errorf("SET2 must not be empty"))
		}
	}
	data, err := io.ReadAll(c.in)
	if err != nil {
		return c.fail1(err)
	}
	mapped := strings.Map(func(r rune) rune {
		i := slices.Index(from, r)
		switch {
		case i < 0:
			return r
		case to == nil:
			return -1
		}
		return to[min(i, len(to)-1)]
	}, string(data))
	io.WriteString(c.out, mapped)
	return 0
}

func expandSet(set string) []rune {
	in := []rune(strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(set))
	var out []rune
	for i := 0; i < len(in); i++ {
		if i+2 < len(in) && in[i+1] == '-' && in[i] <= in[i+2] {
			for r := in[i]; r <= in[i+2]; r++ {
				out = append(out, r)
			}
			i += 2
			continue
		}
		out = append(out, in[i])
	}
	return out
}

func env(c *call) int {
	for _, variable := range os.Environ() {
		fmt.Fprintln(c.out, variable)
	}
	return 0
}
