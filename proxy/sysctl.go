package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// SysctlChange is a kernel setting that the proxy has changed.
type SysctlChange struct {
	Name string `json:"name"` // as in "net/ipv4/ip_forward"
	From string `json:"from"`
	To   string `json:"to"`
}

// sysctls sets kernel settings and remembers what they were (R53). A setting that
// is right already is not written, so that a read-only /proc/sys is no trouble on a
// host that is prepared.
type sysctls struct {
	root string // "/proc/sys"
	// stateFile keeps the changes for a `reset` after a crash; "" keeps them in memory.
	stateFile string

	mu      sync.Mutex
	changes []SysctlChange
}

// ensure gives a setting a value. The error says what will not work without.
func (s *sysctls) ensure(name, want, without string) error {
	path := filepath.Join(s.root, name)
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("sysctl %s cannot be read (%w): without it %s", name, err, without)
	}
	from := strings.TrimSpace(string(old))
	if from == want {
		return nil
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		return fmt.Errorf("sysctl %s is %s, and cannot be set to %s (%w): %s; set it on the host", name, from, want, err, without)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, SysctlChange{name, from, want})
	return s.save()
}

// restore sets back what was changed, last first, unless somebody else has changed
// it since.
func (s *sysctls) restore() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i := len(s.changes) - 1; i >= 0; i-- {
		c := s.changes[i]
		path := filepath.Join(s.root, c.Name)
		now, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(now)) == c.To {
			err = os.WriteFile(path, []byte(c.From), 0o644)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("setting sysctl %s back to %s: %w", c.Name, c.From, err))
		}
	}
	s.changes = nil
	return errors.Join(append(errs, s.save())...)
}

// load takes over the changes of a former run, which are still to be set back.
func (s *sysctls) load() error {
	if s.stateFile == "" {
		return nil
	}
	data, err := os.ReadFile(s.stateFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Unmarshal(data, &s.changes)
}

// save needs s.mu.
func (s *sysctls) save() error {
	if s.stateFile == "" {
		return nil
	}
	if len(s.changes) == 0 {
		if err := os.Remove(s.stateFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.MarshalIndent(s.changes, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.stateFile, append(data, '\n'), 0o600)
}

func (s *sysctls) list() []SysctlChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]SysctlChange(nil), s.changes...)
}
