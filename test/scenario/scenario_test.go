package scenario

import (
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	steps := Parse("Look:\n\n```console\n$ echo a\na\n$ cat <<E\n> b\n> E\n\n```\n\n```sh\n$ not this\n```\n```console wait\n$ date\n…\n```\n")
	want := []Step{
		{Line: 4, Command: "echo a", Want: []string{"a"}},
		{Line: 6, Command: "cat <<E\nb\nE", Want: []string{""}},
		{Line: 16, Command: "date", Want: []string{"…"}, Wait: true},
	}
	if !reflect.DeepEqual(steps, want) {
		t.Errorf("%+v\nwant %+v", steps, want)
	}
}

func TestMatches(t *testing.T) {
	tests := []struct {
		name   string
		want   []string
		output string
		match  bool
	}{
		{"nothing is asked", nil, "anything\n", true},
		{"the same", []string{"a", "b"}, "a\nb\n", true},
		{"a line more", []string{"a"}, "a\nb\n", false},
		{"a line less", []string{"a", "b"}, "a\n", false},
		{"widths of columns", []string{"NAME  READY"}, "NAME      READY   \n", true},
		{"any text", []string{"web-… 1/1 …"}, "web-5d9 1/1 Running\n", true},
		{"any text is in one line", []string{"a…b"}, "a\nb\n", false},
		{"any lines", []string{"…", "c"}, "a\nb\nc\n", true},
		{"no line is any lines", []string{"…", "c"}, "c\n", true},
		{"not after the end", []string{"…", "c"}, "a\nc\nb\n", false},
		{"dots are dots", []string{"a.b"}, "axb\n", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := (Step{Want: test.want}).Matches(test.output); got != test.match {
				t.Errorf("Matches = %v", got)
			}
		})
	}
}
