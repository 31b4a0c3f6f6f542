package component

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
)

// R03: who occupies a port is named.
func TestListenErrorNamesTheHolder(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	_, err = net.Listen("tcp", address)
	if err == nil {
		t.Fatal("the port was given out twice")
	}
	text := ListenError(address, err).Error()
	want := []string{address, "address already in use", "choose another port"}
	if runtime.GOOS == "linux" {
		want = append(want, fmt.Sprintf("pid %d (", os.Getpid()))
	}
	for _, part := range want {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	if holder := PortHolder(port); holder != "" {
		t.Errorf("nobody listens any more, and yet it is %s", holder)
	}
}
