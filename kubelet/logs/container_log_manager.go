package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// ContainerLog is the log file of a running container.
type ContainerLog struct {
	ID   string
	Path string
}

// RotationConfig of a ContainerLogManager.
type RotationConfig struct {
	// MaxSize is how many bytes a log grows to before it is rotated; MaxFiles how
	// many files a container may have, the current one included, at least 2.
	MaxSize  int64
	MaxFiles int
	// Period is the time between two looks at all logs.
	Period time.Duration
	// Running lists the logs that are written to, and Reopen has the runtime write
	// to a new file from now on.
	Running func(ctx context.Context) ([]ContainerLog, error)
	Reopen  func(ctx context.Context, id string) error
	Clock   clock.WithTicker
}

// ContainerLogManager keeps containers that talk a lot from filling the disk:
//
//	0.log  0.log.20260102-030405  0.log.20260102-020304.gz  …
//
// The newest of the rotated files stays as it is, since who follows the log may
// still read it; older ones are compressed, the oldest removed.
type ContainerLogManager struct{ RotationConfig }

// Run looks at the logs again and again until ctx ends.
func (m *ContainerLogManager) Run(ctx context.Context) {
	ticker := m.Clock.NewTicker(m.Period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		if err := m.RotateLogs(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Rotating the logs of containers")
		}
	}
}

// RotateLogs is one turn. A log that cannot be rotated does not keep others from it.
func (m *ContainerLogManager) RotateLogs(ctx context.Context) error {
	running, err := m.Running(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, log := range running {
		info, err := os.Stat(log.Path)
		if errors.Is(err, os.ErrNotExist) {
			// A kubelet that was killed between renaming and reopening: the container
			// writes to a file without its name.
			err = m.Reopen(ctx, log.ID)
		} else if err == nil && info.Size() >= m.MaxSize {
			klog.FromContext(ctx).V(2).Info("Rotating a container's log", "containerID", log.ID, "bytes", info.Size())
			err = m.rotate(ctx, log)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("log of container %s: %w", log.ID, err))
		}
	}
	return errors.Join(errs...)
}

// suffixes of rotated files.
const (
	timestampFormat = "20060102-150405"
	compressed      = ".gz"
	temporary       = ".tmp"
)

func (m *ContainerLogManager) rotate(ctx context.Context, log ContainerLog) error {
	files, err := filepath.Glob(log.Path + ".*")
	if err != nil {
		return err
	}
	remove, compress := plan(files, m.MaxFiles-2)
	for _, file := range remove {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	for _, file := range compress {
		if err := compressFile(file); err != nil {
			return fmt.Errorf("compressing %s: %w", file, err)
		}
	}
	rotated := log.Path + "." + m.Clock.Now().UTC().Format(timestampFormat)
	if err := os.Rename(log.Path, rotated); err != nil {
		return err
	}
	if err := m.Reopen(ctx, log.ID); err != nil {
		// The container goes on writing to the old file: it shall have its name back.
		return errors.Join(fmt.Errorf("reopening it: %w", err), os.Rename(rotated, log.Path))
	}
	return nil
}

// plan says which rotated files go and which are to be compressed so that keep are
// left, the newest ones. It is pure.
func plan(files []string, keep int) (remove, compress []string) {
	have := map[string]bool{}
	for _, file := range files {
		have[file] = true
	}
	var rotated []string
	for _, file := range files {
		if strings.HasSuffix(file, temporary) || have[file+compressed] {
			remove = append(remove, file) // left by a compression that was cut short, or done
			continue
		}
		rotated = append(rotated, file)
	}
	sort.Strings(rotated) // their names are their times
	excess := max(len(rotated)-max(keep, 0), 0)
	remove = append(remove, rotated[:excess]...)
	for _, file := range rotated[excess:] {
		if !strings.HasSuffix(file, compressed) {
			compress = append(compress, file)
		}
	}
	return remove, compress
}

// compressFile replaces a file by its compressed self: under another name until it
// is whole.
func compressFile(path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(to.Name())
		}
	}()
	packed := gzip.NewWriter(to)
	_, err = io.Copy(packed, from)
	if err = errors.Join(err, packed.Close(), to.Close()); err != nil {
		return err
	}
	if err := os.Rename(to.Name(), path+compressed); err != nil {
		return err
	}
	return os.Remove(path)
}
