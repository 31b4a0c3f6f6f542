package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyperkube/test/scenario"
)

const labs = "../../docs/labs"

// TestLabs runs every lab of docs/labs: what a learner is told to type works, and prints
// what the lab shows. Each lab has a cluster of its own, since it may stop and hold parts.
func TestLabs(t *testing.T) {
	files, err := filepath.Glob(labs + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".ja.md") {
			continue // the same commands: TestTranslationsHaveTheSameCommands
		}
		steps := stepsOf(t, file)
		if len(steps) == 0 {
			continue // a text, no lab
		}
		ran++
		t.Run(strings.TrimSuffix(filepath.Base(file), ".md"), func(t *testing.T) {
			c := startOwn(t)
			if err := c.waitReady(); err != nil {
				t.Fatal(err)
			}
			for _, step := range steps {
				c.follow(t, file, step)
			}
		})
	}
	if ran == 0 {
		t.Errorf("no lab was found in %s", labs)
	}
}

func stepsOf(t *testing.T, file string) []scenario.Step {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return scenario.Parse(string(text))
}

// follow does one step of a lab and compares what it prints.
func (c *cluster) follow(t *testing.T, file string, step scenario.Step) {
	t.Helper()
	where := fmt.Sprintf("%s:%d: $ %s", filepath.Base(file), step.Line, step.Command)
	once := func() error {
		out, err := c.lesson(step.Command)
		if err != nil && len(step.Want) == 0 {
			return fmt.Errorf("%w\n%s", err, out)
		}
		if !step.Matches(out) {
			return fmt.Errorf("it prints\n%s\nthe lab says\n%s", out, strings.Join(step.Want, "\n"))
		}
		return nil
	}
	if step.Wait {
		eventually(t, where, once)
		return
	}
	if err := once(); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
}

// lesson runs a command line as the labs ask for: in the repository's root, with bin/ in the PATH.
func (c *cluster) lesson(command string) (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "HYPERKUBE_DATA_DIR="+c.dir, "KUBECONFIG="+filepath.Join(c.dir, "admin.kubeconfig"), "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestTranslationsHaveTheSameCommands holds that LAB.ja.md tells its reader to type what
// LAB.md does, and shows the same output.
func TestTranslationsHaveTheSameCommands(t *testing.T) {
	files, err := filepath.Glob(labs + "/*.ja.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		original := strings.TrimSuffix(file, ".ja.md") + ".md"
		same := slices.EqualFunc(stepsOf(t, original), stepsOf(t, file), func(a, b scenario.Step) bool {
			return a.Command == b.Command && a.Wait == b.Wait && slices.Equal(a.Want, b.Want)
		})
		if !same {
			t.Errorf("the console blocks of %s and %s differ", original, file)
		}
	}
}
