package envvars

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// ParseEnv finds the value of key in a file of variables (KEP-3721), a small part of what a shell reads:
//
//	# a comment
//	NAME='taken as it stands, over
//	several lines if need be' # another
//	EMPTY= 'what follows a space is nothing'
//
// The first line that sets key counts; what stands behind it is not looked at. A key that is not there is "", which is also
// what one that was set to nothing gives. Upstream's errors, word by word.
func ParseEnv(file io.Reader, key string) (string, error) {
	lines := &envLines{scanner: bufio.NewScanner(file)}
	for lines.next() {
		line := strings.TrimLeft(lines.text, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, err := lines.assignment(line)
		if err != nil {
			return "", err
		}
		if name == key {
			return value, nil
		}
	}
	return "", lines.scanner.Err()
}

// envLines counts the lines it reads.
type envLines struct {
	scanner *bufio.Scanner
	text    string
	number  int
}

func (l *envLines) next() bool {
	if !l.scanner.Scan() {
		return false
	}
	l.text, l.number = l.scanner.Text(), l.number+1
	return true
}

func (l *envLines) wrong(what string) error {
	return fmt.Errorf("invalid environment variable format at line %d: %s", l.number, what)
}

// assignment reads NAME='value' that begins on this line.
func (l *envLines) assignment(line string) (name, value string, err error) {
	name, rest, ok := strings.Cut(line, "=")
	switch {
	case !ok:
		return "", "", l.wrong("missing '='")
	case strings.TrimRight(name, " \t") == "":
		return "", "", l.wrong("empty variable name")
	case strings.TrimRight(name, " \t") != name:
		return "", "", l.wrong("whitespace before '=' is not allowed")
	case strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t"):
		return name, "", nil // a shell would take the rest for a command
	case !strings.HasPrefix(rest, "'"):
		return "", "", l.wrong("value must be enclosed in single quotes")
	}
	begin := l.number
	value, rest, ok = strings.Cut(rest[1:], "'")
	for !ok {
		if !l.next() {
			if err := l.scanner.Err(); err != nil {
				return "", "", err
			}
			return "", "", fmt.Errorf("invalid environment variable format starting at line %d: unclosed single quote", begin)
		}
		var more string
		more, rest, ok = strings.Cut(l.text, "'")
		value += "\n" + more
	}
	if rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != '#' {
		return "", "", l.wrong("unexpected content after closing quote")
	}
	return name, value, nil
}

// FileValue is ParseEnv of a file in a pod's volume. The pod writes there: a link that leads out of the volume is not
// followed, and what is no plain file (a pipe would never end) not opened. A file that is missing is fs.ErrNotExist.
func FileValue(volume, path, key string) (string, error) {
	dir, err := os.OpenRoot(volume)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	file, err := dir.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("failed to open environment variable file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("environment variable file is not a regular file: " + fs.FileMode(info.Mode()).String())
	}
	value, err := ParseEnv(file, key)
	if err != nil {
		return "", fmt.Errorf("environment variable file %s: %w", path, err)
	}
	return value, nil
}
