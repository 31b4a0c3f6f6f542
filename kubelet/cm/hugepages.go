package cm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	v1 "k8s.io/api/core/v1"
)

// SysHugePages is where the kernel tells of huge pages: a folder for each size.
const SysHugePages = "/sys/kernel/mm/hugepages"

// HugePages are the bytes that the machine has set aside for huge pages, by their size in bytes. A size of which it has none
// is there too. Elsewhere than on Linux there are none.
func HugePages(root string) map[int64]int64 {
	found := map[int64]int64{}
	folders, _ := filepath.Glob(filepath.Join(root, "hugepages-*kB"))
	for _, folder := range folders {
		var kib int64
		if _, err := fmt.Sscanf(filepath.Base(folder), "hugepages-%dkB", &kib); err != nil || kib <= 0 {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, "nr_hugepages"))
		if err != nil {
			continue
		}
		if pages, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			found[kib*1024] = pages * kib * 1024
		}
	}
	return found
}

// HugePageResource is the resource of pages of a size: hugepages-2Mi.
func HugePageResource(size int64) v1.ResourceName {
	return v1.ResourceName(v1.ResourceHugePagesPrefix + resource.NewQuantity(size, resource.BinarySI).String())
}

// HugePageUnit is a size as CRI and cgroups name it: 2MB, 1GB, 64KB.
func HugePageUnit(size int64) string {
	switch {
	case size >= 1<<30:
		return fmt.Sprintf("%dGB", size>>30)
	case size >= 1<<20:
		return fmt.Sprintf("%dMB", size>>20)
	}
	return fmt.Sprintf("%dKB", size>>10)
}
