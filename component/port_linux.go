package component

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PortHolder says which process listens on a TCP port of this network namespace, as "pid 123 (nginx)"; "" when none does, or when it may not be
// known: of others' processes only root sees the open files.
func PortHolder(port int) string {
	inodes := map[string]bool{}
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		listeners(file, port, inodes)
	}
	if len(inodes) == 0 {
		return ""
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !inodes[target] {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		return fmt.Sprintf("pid %s (%s)", pid, strings.TrimSpace(string(name)))
	}
	return ""
}

// listeners enters the sockets that listen on port, as the links of /proc/PID/fd name them. The kernel's table has, a line each: number, local
// address:port in hexadecimal, remote address, state (0A: listening), and the inode as the tenth field.
func listeners(file string, port int, inodes map[string]bool) {
	table, err := os.Open(file)
	if err != nil {
		return
	}
	defer table.Close()
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != "0A" {
			continue
		}
		_, text, _ := strings.Cut(fields[1], ":")
		if number, err := strconv.ParseUint(text, 16, 16); err == nil && int(number) == port {
			inodes["socket:["+fields[9]+"]"] = true
		}
	}
}
