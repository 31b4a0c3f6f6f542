package volume

import (
	"fmt"
	"path/filepath"
	"strings"
)

// noMounts serves the simulated runtime and systems other than Linux.
type noMounts struct{}

func (noMounts) tmpfs(string, int64) error     { return nil }
func (noMounts) hugetlbfs(string, int64) error { return nil }
func (noMounts) grow(_, _ string) error        { return nil }
func (noMounts) unmountUnder(string) error     { return nil }

func (noMounts) device(source, _, _ string, _ []string) error {
	return fmt.Errorf("mounting %s: this kubelet does not mount", source)
}

// bindBeneath resolves instead of mounting. A container that swaps a directory
// for a symlink in between could win a race; a simulated one runs nothing.
func (noMounts) bindBeneath(root, sub, _ string) (string, error) {
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	path, err := filepath.EvalSymlinks(filepath.Join(realRoot, sub))
	if err != nil {
		return "", err
	}
	if path != realRoot && !strings.HasPrefix(path, realRoot+string(filepath.Separator)) {
		return "", fmt.Errorf("subpath %q not within volume path %q", sub, root)
	}
	return path, nil
}
