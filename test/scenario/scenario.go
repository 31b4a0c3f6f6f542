// Package scenario reads lessons that are tests: a Markdown file whose console blocks
// hold commands and what they print.
//
//	```console
//	$ kubectl get pods -l app=web
//	NAME   READY   STATUS    RESTARTS   AGE
//	web-…  0/1     Pending   0          …
//	```
//
// A line that begins with "$ " is a command, lines that begin with "> " go on with it, and
// what follows is what it prints, both streams together. In it "…" stands for any text
// within a line, a line of nothing but "…" for any number of lines, and runs of blanks are
// equal. A command with nothing below it may print what it likes. The word `wait` behind
// `console` means: type it again until this comes out, as a person would.
//
// The commands run in one test in the order of the file. A translation of the lesson must
// have the same blocks, so that to run one language is to run them all.
//
// Read first: `test/scenario/scenario.go:Parse`, `test/scenario/scenario.go:Step.Matches`.
//
// # In Kubernetes
//
// Nothing has this job: the tutorials of kubernetes.io are text, and rot as text does.
package scenario

import (
	"regexp"
	"strings"
)

// Step is one command of a lesson.
type Step struct {
	// Line is where the command stands in the file, from 1.
	Line int
	// Command is for a POSIX shell.
	Command string
	// Want are the lines that it prints; none: whatever it likes.
	Want []string
	// Wait says that the command is repeated until it prints what is wanted.
	Wait bool
}

// Parse returns the steps of a lesson, in the order of the file.
func Parse(markdown string) []Step {
	var steps []Step
	inside, wait := false, false
	for i, line := range strings.Split(markdown, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && inside:
			inside = false
		case isFence:
			words := strings.Fields(fence)
			inside = len(words) > 0 && words[0] == "console"
			wait = inside && len(words) > 1 && words[1] == "wait"
		case !inside:
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, Step{Line: i + 1, Command: line[2:], Wait: wait})
		case strings.HasPrefix(line, "> ") && len(steps) > 0:
			steps[len(steps)-1].Command += "\n" + line[2:]
		case len(steps) > 0:
			last := &steps[len(steps)-1]
			last.Want = append(last.Want, line)
		}
	}
	return steps
}

// Matches says whether output is what the lesson shows.
func (s Step) Matches(output string) bool {
	if len(s.Want) == 0 {
		return true
	}
	return matchLines(trim(s.Want), trim(strings.Split(output, "\n")))
}

// trim leaves out empty lines at the end, and blanks at the ends of lines.
func trim(lines []string) []string {
	var trimmed []string
	for _, line := range lines {
		trimmed = append(trimmed, strings.TrimRight(line, " \t\r"))
	}
	for len(trimmed) > 0 && trimmed[len(trimmed)-1] == "" {
		trimmed = trimmed[:len(trimmed)-1]
	}
	return trimmed
}

// matchLines matches line by line; a wanted line "…" takes as many as the rest leaves it.
func matchLines(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if strings.TrimSpace(want[0]) == "…" {
		for skipped := range len(got) + 1 {
			if matchLines(want[1:], got[skipped:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && matchLine(want[0], got[0]) && matchLines(want[1:], got[1:])
}

var blanks = regexp.MustCompile(`[ \t]+`)

func matchLine(want, got string) bool {
	pattern := regexp.QuoteMeta(blanks.ReplaceAllString(want, " "))
	return regexp.MustCompile("^" + strings.ReplaceAll(pattern, "…", ".*") + "$").MatchString(blanks.ReplaceAllString(got, " "))
}
