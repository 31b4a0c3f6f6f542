package tools

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tarUsage is what `kubectl cp` needs: it runs tar inside the container.
var tarUsage = errors.New("usage: tar c|x [-mpv] [-f FILE] [-C DIR] [PATH…]")

// tarCall is what a tar was asked for.
type tarCall struct {
	*call
	mode  rune // c or x
	file  string
	dir   string
	now   bool // -m: the time of a file is that of its extraction
	paths []string
}

// tarTool packs (c) or unpacks (x) an archive; - or no file is the standard stream.
func tarTool(c *call) int {
	t := &tarCall{call: c, file: "-", dir: "."}
	if err := t.parse(); err != nil {
		return c.fail1(err)
	}
	run := t.extract
	if t.mode == 'c' {
		run = t.create
	}
	if err := run(); err != nil {
		return c.fail1(err)
	}
	return 0
}

// parse takes the letters in one word, with or without a dash, as tar does.
func (t *tarCall) parse() error {
	args := t.args
	next := func() (string, error) {
		if len(args) == 0 {
			return "", tarUsage
		}
		value := args[0]
		args = args[1:]
		return value, nil
	}
	for first := true; len(args) > 0; first = false {
		word, _ := next()
		if strings.HasPrefix(word, "--") {
			continue // --no-same-owner and the like: what we do anyway
		}
		letters, option := strings.CutPrefix(word, "-")
		if !option && !first {
			t.paths = append(t.paths, word)
			continue
		}
		for _, letter := range letters {
			var err error
			switch letter {
			case 'c', 'x':
				t.mode = letter
			case 'f':
				t.file, err = next()
			case 'C':
				t.dir, err = next()
			case 'm':
				t.now = true
			case 'p', 'v', 'o':
			default:
				err = tarUsage
			}
			if err != nil {
				return err
			}
		}
	}
	if t.mode == 0 {
		return tarUsage
	}
	return nil
}

func (t *tarCall) create() (err error) {
	out := t.out
	if t.file != "-" {
		file, err := os.Create(t.file)
		if err != nil {
			return err
		}
		defer file.Close()
		out = file
	}
	archive := tar.NewWriter(out)
	for _, path := range t.paths {
		err := filepath.WalkDir(filepath.Join(t.dir, path), func(name string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return t.pack(archive, name)
		})
		if err != nil {
			return err
		}
	}
	return archive.Close()
}

// pack adds one file under its name below the directory of -C.
func (t *tarCall) pack(archive *tar.Writer, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	if header.Name, err = filepath.Rel(t.dir, path); err != nil {
		header.Name = path
	}
	header.Name = strings.TrimPrefix(header.Name, "/")
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(archive, file)
	return err
}

func (t *tarCall) extract() error {
	in := t.in
	if t.file != "-" {
		file, err := os.Open(t.file)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	// A name that leads out of the directory, itself or through a link, is refused.
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for archive := tar.NewReader(in); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.unpack(root, header, archive); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

func (t *tarCall) unpack(root *os.Root, header *tar.Header, content io.Reader) error {
	name := filepath.Clean(strings.TrimPrefix(header.Name, "/"))
	mode := header.FileInfo().Mode().Perm()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode)
	case tar.TypeSymlink:
		root.Remove(name)
		return root.Symlink(header.Linkname, name)
	case tar.TypeReg:
	default:
		return nil // devices and the like are left out
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil || t.now {
		return err
	}
	return root.Chtimes(name, header.ModTime, header.ModTime)
}
