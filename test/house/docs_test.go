package house

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryPackageSaysWhatItIs: a package's comment exists, and a component's
// doc.go has 30 to 120 lines and ends with what Kubernetes does.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented, packages := map[string]bool{}, map[string]bool{}
	for _, s := range load(t) {
		if s.test || s.generated {
			continue
		}
		packages[s.dir()] = true
		if s.syntax.Doc != nil {
			documented[s.dir()] = true
		}
		if filepath.Base(s.path) != "doc.go" || !isComponent(s.dir()) {
			continue
		}
		if s.lines < 25 || s.lines > 125 {
			t.Errorf("%s has %d lines; a component's doc.go has 30 to 120", s.path, s.lines)
		}
		if !strings.Contains(s.syntax.Doc.Text(), "In Kubernetes") {
			t.Errorf("%s does not say what Kubernetes does (a section \"In Kubernetes\")", s.path)
		}
	}
	for dir := range packages {
		if !documented[dir] {
			t.Errorf("package %s has no package comment", dir)
		}
	}
	for _, dir := range append(components, ground...) {
		if _, err := os.Stat(filepath.Join(root, dir, "doc.go")); packages[dir] && err != nil {
			t.Errorf("%s has no doc.go", dir)
		}
	}
}

func isComponent(dir string) bool {
	for _, name := range append(components, ground...) {
		if dir == name {
			return true
		}
	}
	return false
}

// TestReadingOrder: docs/reading-order.txt names every hand-written file exactly
// once, by itself or by its folder (a line that ends in "/").
func TestReadingOrder(t *testing.T) {
	file, err := os.Open(filepath.Join(root, "docs/reading-order.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var lines []string
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	used := map[string]bool{}
	for _, s := range load(t) {
		if s.test || s.generated {
			continue
		}
		if line := readAt(lines, s.path); line != "" {
			used[line] = true
		} else {
			t.Errorf("%s has no place in docs/reading-order.txt", s.path)
		}
	}
	seen := map[string]bool{}
	for _, line := range lines {
		if !used[line] {
			t.Errorf("docs/reading-order.txt: %s covers no file", line)
		}
		if seen[line] {
			t.Errorf("docs/reading-order.txt: %s stands twice", line)
		}
		seen[line] = true
	}
}

// readAt returns the line that covers path: the file's own, else the longest folder's.
func readAt(lines []string, path string) string {
	best := ""
	for _, line := range lines {
		if line == path {
			return line
		}
		if strings.HasSuffix(line, "/") && strings.HasPrefix(path, line) && len(line) > len(best) {
			best = line
		}
	}
	return best
}

// TestDependenciesAreNamed: each direct requirement of go.mod stands in
// docs/dependencies.md with its reason, and all k8s.io modules that are released
// together are on one minor.
func TestDependenciesAreNamed(t *testing.T) {
	module, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(filepath.Join(root, "docs/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	minors := map[string]string{}
	for _, line := range strings.Split(string(module), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "v") || !strings.Contains(fields[0], ".") {
			continue
		}
		path, version := fields[0], fields[1]
		if strings.HasPrefix(path, "k8s.io/") && strings.HasPrefix(version, "v0.") && !strings.HasPrefix(version, "v0.0.") {
			minors[strings.Join(strings.Split(version, ".")[:2], ".")] = path
		}
		if strings.HasSuffix(line, "// indirect") {
			continue
		}
		named++
		if !strings.Contains(string(document), path+",") && !strings.Contains(string(document), path+" ") {
			t.Errorf("%s is required by go.mod and has no reason in docs/dependencies.md", path)
		}
	}
	if named < 20 {
		t.Errorf("only %d requirements found in go.mod: has its form changed?", named)
	}
	if len(minors) != 1 {
		t.Errorf("k8s.io modules are on several minors: %v", minors)
	}
}
