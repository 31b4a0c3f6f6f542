// Command pack puts the module's Go files into the archive that the binary carries
// (`hyperkube source`). It writes only what has changed, so that the build cache holds.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"os"
	"slices"

	"hyperkube"
)

func main() {
	if err := pack(".", "sources/source.tar.gz"); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// pack makes the same bytes of the same files: no times, in the order of their names.
func pack(dir, target string) error {
	files, err := hyperkube.ReadTree(dir)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return err
		}
		if _, err := archive.Write(files[name]); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := zipped.Close(); err != nil {
		return err
	}
	if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, out.Bytes()) {
		return nil
	}
	return os.WriteFile(target, out.Bytes(), 0o644)
}
