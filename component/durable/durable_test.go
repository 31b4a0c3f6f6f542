package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// power is a disk that forgets: what was not synced is there until the power is cut after cutAfter operations.
type power struct {
	cutAfter int
	done     int
	// Contents by inode, names by path: as programs see them, and as they are on the platter.
	content, onDisk  map[int]string
	names, namesDisk map[string]int
	inodes           int
}

var errCut = errors.New("the power is gone")

func newPower(cutAfter int, old string) *power {
	p := &power{cutAfter: cutAfter, content: map[int]string{}, onDisk: map[int]string{}, names: map[string]int{}, namesDisk: map[string]int{}}
	if old != "" {
		p.content[0], p.onDisk[0] = old, old
		p.names["/d/f"], p.namesDisk["/d/f"] = 0, 0
	}
	return p
}

func (p *power) step() error {
	if p.done == p.cutAfter {
		return errCut
	}
	p.done++
	return nil
}

func (p *power) create(path string, _ fs.FileMode) (file, error) {
	if err := p.step(); err != nil {
		return nil, err
	}
	p.inodes++
	name := path + ".new"
	p.names[name], p.content[p.inodes] = p.inodes, ""
	return &inode{p, p.inodes, name}, nil
}

func (p *power) rename(from, to string) error {
	if err := p.step(); err != nil {
		return err
	}
	p.names[to] = p.names[from]
	delete(p.names, from)
	return nil
}

func (p *power) syncDir(string) error {
	if err := p.step(); err != nil {
		return err
	}
	p.namesDisk = map[string]int{}
	for name, inode := range p.names {
		p.namesDisk[name] = inode
	}
	return nil
}

func (p *power) remove(name string) {}

type inode struct {
	p    *power
	n    int
	name string
}

func (i *inode) Name() string { return i.name }
func (i *inode) Close() error { return nil }

func (i *inode) Write(data []byte) (int, error) {
	if err := i.p.step(); err != nil {
		return 0, err
	}
	i.p.content[i.n] += string(data)
	return len(data), nil
}

func (i *inode) Sync() error {
	if err := i.p.step(); err != nil {
		return err
	}
	i.p.onDisk[i.n] = i.p.content[i.n]
	return nil
}

// after is what the file at path may hold when the power is back: names and contents each come to disk as they like, unless they
// were synced.
func (p *power) after(path string) []string {
	var found []string
	for _, names := range []map[string]int{p.names, p.namesDisk} {
		n, there := names[path]
		if !there {
			found = append(found, "none")
			continue
		}
		found = append(found, p.content[n], p.onDisk[n])
	}
	return found
}

// DESIGN.md section 6: at whatever moment the power is cut, there is the old content or the new; once WriteFile has answered, the new.
func TestPowerCutAtEveryStep(t *testing.T) {
	for _, old := range []string{"", "old"} {
		finished := false
		for cut := 0; !finished; cut++ {
			p := newPower(cut, old)
			err := write(p, "/d/f", []byte("new"), 0o600)
			finished = err == nil
			for _, content := range p.after("/d/f") {
				was := old
				if was == "" {
					was = "none"
				}
				if content != "new" && (finished || content != was) {
					t.Errorf("cut after %d operations (%v): %q is there", cut, err, content)
				}
			}
			if cut > 10 {
				t.Fatal("it never ends")
			}
		}
	}
}

// The real disk: content, mode, nothing left beside it, and a directory that does not exist is an error.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for i, mode := range []fs.FileMode{0o600, 0o644} {
		if err := WriteFile(name, []byte(fmt.Sprint(i)), mode); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(name)
		info, statErr := os.Stat(name)
		if err != nil || statErr != nil || string(data) != fmt.Sprint(i) || info.Mode() != mode {
			t.Errorf("%q %v %v %v", data, info.Mode(), err, statErr)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
	if err := WriteFile(filepath.Join(dir, "none", "f"), nil, 0o600); err == nil {
		t.Error("it was written nowhere")
	}
}
