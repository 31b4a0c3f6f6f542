package cm

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestHugePages(t *testing.T) {
	root := t.TempDir()
	for folder, pages := range map[string]string{"hugepages-2048kB": "8\n", "hugepages-1048576kB": "0\n", "hugepages-64kB": "many\n", "hugepages-kB": "1\n", "other": "1\n"} {
		if err := os.Mkdir(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, folder, "nr_hugepages"), []byte(pages), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := HugePages(root), (map[int64]int64{2 << 20: 16 << 20, 1 << 30: 0}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := HugePages(filepath.Join(root, "none")); len(got) != 0 {
		t.Errorf("without any: %v", got)
	}
	for size, want := range map[int64][2]string{2 << 20: {"hugepages-2Mi", "2MB"}, 1 << 30: {"hugepages-1Gi", "1GB"}, 64 << 10: {"hugepages-64Ki", "64KB"}, 32 << 20: {"hugepages-32Mi", "32MB"}} {
		if got := [2]string{string(HugePageResource(size)), HugePageUnit(size)}; got != want {
			t.Errorf("%d: %q, want %q", size, got, want)
		}
	}
}
