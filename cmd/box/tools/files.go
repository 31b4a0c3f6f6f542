package tools

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ls: -l long, -a all, -1 one a line, -d the folder itself, -h sizes for people, -R into folders.
func ls(c *call) int {
	flags, paths, err := c.options("la1dhR")
	if err != nil {
		return c.fail1(err)
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	l := &listing{call: c, flags: flags, titles: len(paths) > 1 || flags['R'] != ""}
	status := 0
	for _, path := range paths {
		if err := l.path(path); err != nil {
			status = c.fail1(err)
		}
	}
	return status
}

type listing struct {
	*call
	flags  map[rune]string
	titles bool
}

func (l *listing) path(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if target, err := os.Stat(path); err == nil && target.IsDir() && (l.flags['l'] == "" || strings.HasSuffix(path, "/")) {
		info = target
	}
	if !info.IsDir() || l.flags['d'] != "" {
		return l.entry(path, path, info)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	if l.titles {
		fmt.Fprintf(l.out, "%s:\n", path)
	}
	var folders []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") && l.flags['a'] == "" {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue // removed between the two calls
		}
		if err := l.entry(entry.Name(), filepath.Join(path, entry.Name()), info); err != nil {
			return err
		}
		if entry.IsDir() {
			folders = append(folders, filepath.Join(path, entry.Name()))
		}
	}
	for _, folder := range folders {
		if l.flags['R'] != "" {
			fmt.Fprintln(l.out)
			if err := l.path(folder); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *listing) entry(name, path string, info fs.FileInfo) error {
	if l.flags['l'] == "" {
		_, err := fmt.Fprintln(l.out, name)
		return err
	}
	uid, gid, links := owner(info)
	if info.Mode()&os.ModeSymlink != 0 {
		if target, err := os.Readlink(path); err == nil {
			name += " -> " + target
		}
	}
	size := strconv.FormatInt(info.Size(), 10)
	if l.flags['h'] != "" {
		size = sizeForPeople(info.Size())
	}
	_, err := fmt.Fprintf(l.out, "%s %3d %-5d %-5d %8s %s %s\n", info.Mode(), links, uid, gid, size, info.ModTime().Format("Jan _2 15:04"), name)
	return err
}

func sizeForPeople(n int64) string {
	size := float64(n)
	for _, unit := range []string{"", "K", "M"} {
		if size < 1024 {
			return strconv.FormatFloat(size, 'f', btoi(unit != ""), 64) + unit
		}
		size /= 1024
	}
	return strconv.FormatFloat(size, 'f', 1, 64) + "G"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// stat: -c FORMAT with %n name, %s size, %a mode in octal, %u and %g owner, %Y time of change, %F kind.
func stat(c *call) int {
	flags, paths, err := c.options("c:L")
	if err != nil {
		return c.fail1(err)
	}
	format := flags['c']
	if format == "" {
		format = "%n: %F, %s bytes, mode %a, uid %u, gid %g"
	}
	look := os.Lstat
	if flags['L'] != "" {
		look = os.Stat
	}
	status := 0
	for _, path := range paths {
		info, err := look(path)
		if err != nil {
			status = c.fail1(err)
			continue
		}
		uid, gid, _ := owner(info)
		fmt.Fprintln(c.out, strings.NewReplacer(
			"%n", path, "%s", strconv.FormatInt(info.Size(), 10), "%a", strconv.FormatUint(uint64(unixMode(info)), 8),
			"%u", strconv.Itoa(uid), "%g", strconv.Itoa(gid), "%Y", strconv.FormatInt(info.ModTime().Unix(), 10), "%F", kind(info),
		).Replace(format))
	}
	return status
}

func kind(info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return "regular file"
	case mode.IsDir():
		return "directory"
	case mode&os.ModeSymlink != 0:
		return "symbolic link"
	case mode&os.ModeSocket != 0:
		return "socket"
	case mode&os.ModeNamedPipe != 0:
		return "fifo"
	}
	return "special file"
}

// unixMode is the mode as chmod takes it: permissions, set-id bits and the sticky bit.
func unixMode(info fs.FileInfo) uint32 {
	mode := uint32(info.Mode().Perm())
	for bit, value := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&bit != 0 {
			mode |= value
		}
	}
	return mode
}

// eachPath calls do for every operand and returns 1 if any failed.
func (c *call) eachPath(letters string, do func(path string, flags map[rune]string) error) int {
	flags, paths, err := c.options(letters)
	if err != nil {
		return c.fail1(err)
	}
	if len(paths) == 0 {
		return c.fail1(errors.New("missing operand"))
	}
	status := 0
	for _, path := range paths {
		if err := do(path, flags); err != nil {
			status = c.fail1(err)
		}
	}
	return status
}

func touch(c *call) int {
	return c.eachPath("", func(path string, _ map[rune]string) error {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
		now := time.Now()
		return os.Chtimes(path, now, now)
	})
}

func rm(c *call) int {
	return c.eachPath("rRf", func(path string, flags map[rune]string) error {
		remove := os.Remove
		if flags['r'] != "" || flags['R'] != "" {
			remove = os.RemoveAll
		}
		err := remove(path)
		if flags['f'] != "" && errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

func mkdir(c *call) int {
	return c.eachPath("p", func(path string, flags map[rune]string) error {
		if flags['p'] != "" {
			return os.MkdirAll(path, 0o777)
		}
		return os.Mkdir(path, 0o777)
	})
}

// chmod takes an octal mode, or letters for all: u+x, go-rwx, a=r.
func chmod(c *call) int {
	if len(c.args) < 2 {
		return c.fail1(errors.New("usage: chmod MODE FILE…"))
	}
	mode := c.args[0]
	c.args = append([]string{"--"}, c.args[1:]...)
	return c.eachPath("", func(path string, _ map[rune]string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		wanted, err := changedMode(mode, info.Mode().Perm())
		if err != nil {
			return err
		}
		return os.Chmod(path, wanted)
	})
}

func changedMode(change string, mode fs.FileMode) (fs.FileMode, error) {
	if octal, err := strconv.ParseUint(change, 8, 32); err == nil {
		return fs.FileMode(octal & 0o777), nil
	}
	for _, clause := range strings.Split(change, ",") {
		at := strings.IndexAny(clause, "+-=")
		if at < 0 {
			return 0, fmt.Errorf("mode %q: must be octal or like u+x", change)
		}
		var who, bits fs.FileMode
		for letter, mask := range map[string]fs.FileMode{"u": 0o700, "g": 0o070, "o": 0o007, "a": 0o777} {
			if strings.Contains(clause[:at], letter) || at == 0 {
				who |= mask
			}
		}
		for letter, mask := range map[string]fs.FileMode{"r": 0o444, "w": 0o222, "x": 0o111} {
			if strings.Contains(clause[at+1:], letter) {
				bits |= mask
			}
		}
		switch clause[at] {
		case '+':
			mode |= who & bits
		case '-':
			mode &^= who & bits
		default:
			mode = mode&^who | who&bits
		}
	}
	return mode, nil
}

// into returns where source lands: inside target when that is a folder.
func into(target, source string) string {
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		return filepath.Join(target, filepath.Base(source))
	}
	return target
}

// sourcesAndTarget calls do for every operand but the last, which is the target.
func (c *call) sourcesAndTarget(letters string, do func(source, target string, flags map[rune]string) error) int {
	flags, paths, err := c.options(letters)
	if err != nil {
		return c.fail1(err)
	}
	if len(paths) < 2 {
		return c.fail1(errors.New("needs a source and a target"))
	}
	status := 0
	for _, source := range paths[:len(paths)-1] {
		if err := do(source, into(paths[len(paths)-1], source), flags); err != nil {
			status = c.fail1(err)
		}
	}
	return status
}

func mv(c *call) int {
	return c.sourcesAndTarget("f", func(source, target string, _ map[rune]string) error {
		err := os.Rename(source, target)
		if err == nil || !isCrossDevice(err) {
			return err
		}
		// Another filesystem (a volume): copy, then remove.
		if err := copyTree(source, target); err != nil {
			return err
		}
		return os.RemoveAll(source)
	})
}

func cp(c *call) int {
	return c.sourcesAndTarget("rRap", func(source, target string, flags map[rune]string) error {
		info, err := os.Stat(source)
		if err == nil && info.IsDir() && flags['r'] == "" && flags['R'] == "" && flags['a'] == "" {
			return fmt.Errorf("%s is a directory (use -r)", source)
		}
		return copyTree(source, target)
	})
}

func ln(c *call) int {
	return c.sourcesAndTarget("sf", func(source, target string, flags map[rune]string) error {
		if flags['f'] != "" {
			if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if flags['s'] != "" {
			return os.Symlink(source, target)
		}
		return os.Link(source, target)
	})
}

func copyTree(source, target string) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		to := filepath.Join(target, relative)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(to, info.Mode().Perm())
		}
		return copyFile(path, to, info.Mode().Perm())
	})
}

func copyFile(source, target string, mode fs.FileMode) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// mount without arguments lists what is mounted; with -t TYPE [-o OPTIONS] SOURCE TARGET it mounts.
func mount(c *call) int {
	flags, operands, err := c.options("t:o:")
	if err != nil {
		return c.fail1(err)
	}
	if len(operands) == 2 {
		if err := mountFilesystem(operands[0], operands[1], flags['t'], flags['o']); err != nil {
			return c.fail1(fmt.Errorf("mounting %s on %s: %w", operands[0], operands[1], err))
		}
		return 0
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return c.fail1(err)
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		if field := strings.Fields(scanner.Text()); len(field) >= 4 {
			fmt.Fprintf(c.out, "%s on %s type %s (%s)\n", field[0], field[1], field[2], field[3])
		}
	}
	return 0
}
