package tools

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTar packs and unpacks as `kubectl cp` asks for it.
func TestTar(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(from, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "a", "b", "file"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	archive, status := run(t, "", "tar", "cf", "-", "-C", from, "a")
	if status != 0 {
		t.Fatalf("packing: status %d", status)
	}
	if _, status := run(t, archive, "tar", "-xmf", "-", "--no-same-owner", "-C", to); status != 0 {
		t.Fatalf("unpacking: status %d", status)
	}
	file := filepath.Join(to, "a", "b", "file")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Fatalf("%v, %v", info, err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
	if _, status := run(t, "", "tar", "--what"); status == 0 {
		t.Error("a tar that is to do nothing succeeded")
	}
}
