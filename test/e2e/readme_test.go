package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmeFirstLesson runs the commands of README's first lesson, as they stand
// there, one after the other: what a newcomer types works.
func TestReadmeFirstLesson(t *testing.T) {
	c := shared(t)
	commands := lessonCommands(t, "## The first lesson")
	if len(commands) < 8 {
		t.Fatalf("only %d commands found in README's first lesson", len(commands))
	}
	t.Cleanup(func() {
		c.try("delete", "service,deployment", "web")
		c.try("delete", "pod", "one", "--wait=false")
	})
	for _, command := range commands {
		if strings.HasPrefix(command, "curl") {
			if _, err := exec.LookPath("curl"); err != nil {
				t.Logf("skipped, there is no curl here: %s", command)
				continue
			}
			// What a person takes a moment for, a script does at once.
			eventually(t, command, func() error {
				_, err := c.shell(command)
				return err
			})
			continue
		}
		endless := strings.Contains(command, "watch")
		if endless {
			command = "timeout 2 " + command
		}
		out, err := c.shell(command)
		if endless && exitCode(err) == 124 {
			err = nil // it was still watching
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
}

// lessonCommands are the indented lines of a section of the README.
func lessonCommands(t *testing.T, title string) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), title+"\n")
	if !found {
		t.Fatalf("README has no section %q", title)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for _, line := range strings.Split(section, "\n") {
		if command, indented := strings.CutPrefix(line, "    "); indented {
			commands = append(commands, strings.TrimSpace(strings.SplitN(command, "  #", 2)[0]))
		}
	}
	return commands
}

// shell runs a command line in the repository's root, on this cluster.
func (c *cluster) shell(command string) (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "HYPERKUBE_DATA_DIR="+c.dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func exitCode(err error) int {
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return 0
	}
	return exit.ExitCode()
}
