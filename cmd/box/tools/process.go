package tools

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ps lists all processes that /proc shows; options are accepted and change nothing.
func ps(c *call) int {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return c.fail1(err)
	}
	type process struct {
		pid       int
		user, cmd string
	}
	var all []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		info, err := os.Stat(entry)
		if err != nil {
			continue // ended meanwhile
		}
		uid, _, _ := owner(info)
		command, _ := os.ReadFile(entry + "/cmdline")
		text := strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))
		if text == "" {
			name, _ := os.ReadFile(entry + "/comm")
			text = "[" + strings.TrimSpace(string(name)) + "]"
		}
		all = append(all, process{pid, userName(uid), text})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].pid < all[j].pid })
	fmt.Fprintf(c.out, "%5s %-8s %s\n", "PID", "USER", "COMMAND")
	for _, p := range all {
		fmt.Fprintf(c.out, "%5d %-8s %s\n", p.pid, p.user, p.cmd)
	}
	return 0
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

var signalNames = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1,
	"USR2": syscall.SIGUSR2, "TERM": syscall.SIGTERM, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "0": 0,
}

// kill: [-SIGNAL | -s SIGNAL] PID…, by name or number.
func kill(c *call) int {
	sig, args := "TERM", c.args
	if len(args) > 1 && args[0] == "-s" {
		sig, args = args[1], args[2:]
	} else if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		sig, args = args[0][1:], args[1:]
	}
	signal, known := signalNames[strings.TrimPrefix(strings.ToUpper(sig), "SIG")]
	if number, err := strconv.Atoi(sig); err == nil {
		signal, known = syscall.Signal(number), true
	}
	if !known || len(args) == 0 {
		return c.fail1(errors.New("usage: kill [-SIGNAL] PID…"))
	}
	status := 0
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		if err == nil {
			err = syscall.Kill(pid, signal)
		}
		if err != nil {
			status = c.fail1(fmt.Errorf("%s: %w", arg, err))
		}
	}
	return status
}

// id: -u, -g, -G for one number or list; -n for names.
func id(c *call) int {
	flags, _, err := c.options("ugGn")
	if err != nil {
		return c.fail1(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	groups, err := os.Getgroups()
	if err != nil {
		return c.fail1(err)
	}
	name := func(id int, lookup func(int) string) string {
		if flags['n'] != "" {
			return lookup(id)
		}
		return strconv.Itoa(id)
	}
	switch {
	case flags['u'] != "":
		fmt.Fprintln(c.out, name(uid, userName))
	case flags['g'] != "":
		fmt.Fprintln(c.out, name(gid, groupName))
	case flags['G'] != "":
		var all []string
		for _, group := range withPrimary(gid, groups) {
			all = append(all, name(group, groupName))
		}
		fmt.Fprintln(c.out, strings.Join(all, " "))
	default:
		var all []string
		for _, group := range withPrimary(gid, groups) {
			all = append(all, labelled(group, groupName))
		}
		fmt.Fprintf(c.out, "uid=%s gid=%s groups=%s\n", labelled(uid, userName), labelled(gid, groupName), strings.Join(all, ","))
	}
	return 0
}

func withPrimary(gid int, groups []int) []int {
	out := []int{gid}
	for _, group := range groups {
		if group != gid {
			out = append(out, group)
		}
	}
	return out
}

func labelled(id int, lookup func(int) string) string {
	if name := lookup(id); name != strconv.Itoa(id) {
		return fmt.Sprintf("%d(%s)", id, name)
	}
	return strconv.Itoa(id)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

// pause is the first process of a sandbox, for runtimes that need one to hold its
// namespaces. It lets the kernel reap who loses its parent, and ends when it is told to.
func pause(*call) int {
	signal.Ignore(syscall.SIGCHLD)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	return 0
}

// sleep takes seconds (fractions too), or a duration such as 2m, or "infinity".
func sleep(c *call) int {
	var total time.Duration
	for _, arg := range c.args {
		if arg == "infinity" || arg == "inf" {
			select {}
		}
		seconds, err := strconv.ParseFloat(arg, 64)
		pause := time.Duration(seconds * float64(time.Second))
		if err != nil {
			if days, isDays := strings.CutSuffix(arg, "d"); isDays {
				arg = days + "h"
				pause, err = time.ParseDuration(arg)
				pause *= 24
			} else {
				pause, err = time.ParseDuration(arg)
			}
		}
		if err != nil {
			return c.fail1(fmt.Errorf("invalid time interval %q", arg))
		}
		total += pause
	}
	if len(c.args) == 0 {
		return c.fail1(errors.New("missing operand"))
	}
	time.Sleep(total)
	return 0
}

var dateFormats = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'a': "Mon", 'b': "Jan", 'Z': "MST", 'z': "-0700",
	'F': "2006-01-02", 'T': "15:04:05", 'N': "000000000", 'j': "002", 'y': "06",
}

// date: [-u] [+FORMAT].
func date(c *call) int {
	flags, operands, err := c.options("u")
	if err != nil {
		return c.fail1(err)
	}
	now := time.Now()
	if flags['u'] != "" {
		now = now.UTC()
	}
	if len(operands) == 0 {
		fmt.Fprintln(c.out, now.Format("Mon Jan _2 15:04:05 MST 2006"))
		return 0
	}
	format, ok := strings.CutPrefix(operands[0], "+")
	if !ok {
		return c.fail1(errors.New("usage: date [-u] [+FORMAT]"))
	}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		switch layout, known := dateFormats[format[i]]; {
		case format[i] == '%':
			out.WriteByte('%')
		case format[i] == 's':
			fmt.Fprint(&out, now.Unix())
		case format[i] == 'N':
			fmt.Fprintf(&out, "%09d", now.Nanosecond())
		case known:
			out.WriteString(now.Format(layout))
		default:
			out.WriteString(format[i-1 : i+1])
		}
	}
	fmt.Fprintln(c.out, out.String())
	return 0
}

// hostname: -f for the full name, -i for the addresses.
func hostname(c *call) int {
	flags, operands, err := c.options("fis")
	if err != nil {
		return c.fail1(err)
	}
	if len(operands) > 0 {
		return c.fail1(errors.New("the name of a pod cannot be changed from within"))
	}
	name, err := os.Hostname()
	if err != nil {
		return c.fail1(err)
	}
	switch {
	case flags['f'] != "":
		name = fullName(name)
	case flags['i'] != "":
		addresses, err := lookupHost(name)
		if err != nil {
			return c.fail1(err)
		}
		name = strings.Join(addresses, " ")
	}
	fmt.Fprintln(c.out, name)
	return 0
}
