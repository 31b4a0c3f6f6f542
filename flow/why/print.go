package why

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// One screen.
const (
	screenLines = 40
	screenWidth = 100
)

var marks = map[Weight]string{Trouble: "✗", Waiting: "…", Note: "·"}

// Print writes an explanation on one screen: at most 40 lines of 100 columns. What does not
// fit is left out from the end of the longest findings, and counted; JSON has it all.
//
//	pod default/web: Pending, no node, created 12s ago
//	✗ No node takes it: 0 of 1 (attempt 2, 3s ago)
//	    n1: Insufficient cpu (NodeResourcesFit)
//	  → on n1: free 200m cpu: 1900m of 2 are requested
func (e *Explanation) Print(w io.Writer) {
	blocks := [][]string{wrap(fmt.Sprintf("%s: %s", e.Object, e.State), "", "  ")}
	for _, f := range e.Findings {
		blocks = append(blocks, f.lines())
	}
	for _, unread := range e.Unread {
		blocks = append(blocks, wrap("(not read: "+unread+")", "", "  "))
	}
	for _, block := range fit(blocks) {
		for _, line := range block {
			fmt.Fprintln(w, line)
		}
	}
}

func (f *Finding) lines() []string {
	lines := wrap(f.Title, marks[f.Weight]+" ", "  ")
	for _, evidence := range f.Evidence {
		lines = append(lines, wrap(evidence, "    ", "      ")...)
	}
	if f.Remedy != "" {
		for i, remedy := range strings.Split(f.Remedy, "\n") {
			head := "  → "
			if i > 0 {
				head = "    "
			}
			lines = append(lines, wrap(remedy, head, "    ")...)
		}
	}
	return lines
}

// wrap breaks a line at spaces; a word that is too long stays whole, for it is a name to copy.
func wrap(text, head, indent string) []string {
	if utf8.RuneCountInString(head+text) <= screenWidth {
		return []string{head + text} // as it is: a table's columns must stay
	}
	var lines []string
	line := head
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > screenWidth {
			lines = append(lines, line)
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	return append(lines, line)
}

// fit shortens the longest blocks, the last of equals first, until all fit on the screen.
// A shortened block keeps its last line: that may be the remedy.
func fit(blocks [][]string) [][]string {
	const shortest = 3
	keep, total := make([]int, len(blocks)), 0
	for i, block := range blocks {
		keep[i] = len(block)
		total += len(block)
	}
	for ; total > screenLines; total-- {
		longest := 0
		for i := range keep {
			if keep[i] >= keep[longest] {
				longest = i
			}
		}
		if keep[longest] <= shortest {
			break // so many findings: nobody reads them all
		}
		keep[longest]--
	}
	for i, block := range blocks {
		if n := keep[i]; n < len(block) {
			note := fmt.Sprintf("    and %d more lines: -o json", len(block)-n+1)
			blocks[i] = append(append([]string(nil), block[:n-2]...), note, block[len(block)-1])
		}
	}
	return blocks
}
