package tools

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// sed: [-n] [-E] [-e] SCRIPT [FILE…]. Commands s/…/…/[gip], d, p and q, after an address:
// a line number, $, /expression/, or two of them.
func sed(c *call) int {
	flags, operands, err := c.options("nEre:")
	if err != nil {
		return c.fail1(err)
	}
	script, given := flags['e']
	if !given {
		if len(operands) == 0 {
			return c.fail1(fmt.Errorf("usage: sed [-nE] SCRIPT [FILE…]"))
		}
		script, operands = operands[0], operands[1:]
	}
	parser := sedParser{translate: basicExpression}
	if flags['E'] != "" || flags['r'] != "" {
		parser.translate = func(pattern string) string { return pattern }
	}
	commands, err := parser.parse(script)
	if err != nil {
		return c.fail1(err)
	}
	return c.eachInput(operands, func(_ string, r io.Reader) error {
		var all []string
		if err := lines(r, func(line string) bool {
			all = append(all, line)
			return true
		}); err != nil {
			return err
		}
		for i, line := range all {
			if !c.sedLine(commands, sedLine{text: line, number: i + 1, last: i == len(all)-1}, flags['n'] != "") {
				break
			}
		}
		return nil
	})
}

// sedLine is the line at hand.
type sedLine struct {
	text   string
	number int
	last   bool
}

// sedLine runs the commands on one line and reports whether to go on with the next.
func (c *call) sedLine(commands []*sedCommand, line sedLine, quiet bool) bool {
	for _, command := range commands {
		if !command.selects(line) {
			continue
		}
		switch command.name {
		case 'd':
			return true
		case 'p':
			fmt.Fprintln(c.out, line.text)
		case 'q':
			if !quiet {
				fmt.Fprintln(c.out, line.text)
			}
			return false
		case 's':
			replaced, hit := command.replace(line.text)
			line.text = replaced
			if hit && command.print {
				fmt.Fprintln(c.out, line.text)
			}
		}
	}
	if !quiet {
		fmt.Fprintln(c.out, line.text)
	}
	return true
}

// sedAddress chooses lines: by number, the last one, or an expression.
type sedAddress struct {
	number     int
	last       bool
	expression *regexp.Regexp
}

func (a *sedAddress) matches(line sedLine) bool {
	switch {
	case a.expression != nil:
		return a.expression.MatchString(line.text)
	case a.last:
		return line.last
	}
	return a.number == line.number
}

type sedCommand struct {
	from, to *sedAddress // nil: every line; to nil: from alone
	inside   bool        // between from and to
	negate   bool
	name     byte

	expression  *regexp.Regexp
	replacement string
	all, print  bool
}

func (s *sedCommand) selects(line sedLine) bool {
	return s.inRange(line) != s.negate
}

func (s *sedCommand) inRange(line sedLine) bool {
	switch {
	case s.from == nil:
		return true
	case s.to == nil:
		return s.from.matches(line)
	case s.inside:
		s.inside = !s.to.matches(line)
		return true
	case s.from.matches(line):
		s.inside = !(s.to.number > 0 && s.to.number <= line.number)
		return true
	}
	return false
}

func (s *sedCommand) replace(text string) (string, bool) {
	if !s.expression.MatchString(text) {
		return text, false
	}
	if s.all {
		return s.expression.ReplaceAllString(text, s.replacement), true
	}
	at := s.expression.FindStringSubmatchIndex(text)
	var out []byte
	out = append(out, text[:at[0]]...)
	out = s.expression.ExpandString(out, s.replacement, text, at)
	return string(append(out, text[at[1]:]...)), true
}

// sedParser parses scripts; translate turns an expression into RE2's syntax.
type sedParser struct {
	translate func(pattern string) string
}

// basicExpression turns a POSIX basic expression into RE2's syntax: there \( \) \{ \} \+
// \? and \| are special and the bare characters are not.
func basicExpression(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			if !strings.ContainsRune("(){}+?|", rune(pattern[i])) {
				b.WriteByte('\\')
			}
		case strings.ContainsRune("(){}+?|", rune(pattern[i])):
			b.WriteByte('\\')
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}

// parse splits a script into commands.
func (parser sedParser) parse(script string) ([]*sedCommand, error) {
	var commands []*sedCommand
	for script = strings.TrimLeft(script, " ;\n"); script != ""; script = strings.TrimLeft(script, " ;\n") {
		command := &sedCommand{}
		var err error
		if command.from, script, err = parser.address(script); err != nil {
			return nil, err
		}
		if command.from != nil && strings.HasPrefix(script, ",") {
			if command.to, script, err = parser.address(script[1:]); err != nil {
				return nil, err
			}
			if command.to == nil {
				return nil, fmt.Errorf("unexpected %q after ','", script)
			}
		}
		script = strings.TrimLeft(script, " ")
		if strings.HasPrefix(script, "!") {
			command.negate, script = true, script[1:]
		}
		if script == "" {
			return nil, fmt.Errorf("missing command")
		}
		command.name, script = script[0], script[1:]
		switch command.name {
		case 'd', 'p', 'q':
		case 's':
			if script, err = parser.substitution(command, script); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("unknown command %q", command.name)
		}
		commands = append(commands, command)
	}
	return commands, nil
}

func (parser sedParser) address(script string) (*sedAddress, string, error) {
	switch {
	case script == "":
		return nil, script, nil
	case script[0] == '$':
		return &sedAddress{last: true}, script[1:], nil
	case script[0] == '/':
		pattern, rest, ok := until(script[1:], '/')
		if !ok {
			return nil, "", fmt.Errorf("unterminated address %q", script)
		}
		expression, err := regexp.Compile(parser.translate(pattern))
		return &sedAddress{expression: expression}, rest, err
	}
	digits := len(script) - len(strings.TrimLeft(script, "0123456789"))
	if digits == 0 {
		return nil, script, nil
	}
	number, err := strconv.Atoi(script[:digits])
	return &sedAddress{number: number}, script[digits:], err
}

// substitution takes /expression/replacement/flags, with any delimiter.
func (parser sedParser) substitution(s *sedCommand, script string) (rest string, err error) {
	if script == "" {
		return "", fmt.Errorf("s: missing delimiter")
	}
	delimiter := script[0]
	pattern, script, ok := until(script[1:], delimiter)
	if !ok {
		return "", fmt.Errorf("s: unterminated expression")
	}
	replacement, script, ok := until(script, delimiter)
	if !ok {
		return "", fmt.Errorf("s: unterminated replacement")
	}
	prefix := ""
	for script != "" && strings.ContainsRune("gipI", rune(script[0])) {
		switch script[0] {
		case 'g':
			s.all = true
		case 'p':
			s.print = true
		default:
			prefix = "(?i)"
		}
		script = script[1:]
	}
	s.replacement = goReplacement(replacement)
	s.expression, err = regexp.Compile(prefix + parser.translate(pattern))
	return script, err
}

// until splits at the first delimiter that is not escaped.
func until(s string, delimiter byte) (before, after string, found bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == delimiter:
			i++
			b.WriteByte(delimiter)
		case s[i] == '\\' && i+1 < len(s):
			b.WriteString(s[i : i+2])
			i++
		case s[i] == delimiter:
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// goReplacement turns sed's & and \1 into regexp's ${0} and ${1}.
func goReplacement(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			switch {
			case s[i] >= '0' && s[i] <= '9':
				fmt.Fprintf(&b, "${%c}", s[i])
			case s[i] == 'n':
				b.WriteByte('\n')
			default:
				b.WriteByte(s[i])
			}
		case s[i] == '&':
			b.WriteString("${0}")
		case s[i] == '$':
			b.WriteString("$$")
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
