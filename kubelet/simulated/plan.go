package simulated

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
)

// plan is a container's imagined life.
type plan struct {
	forever  bool
	duration time.Duration
	code     int32
	output   []string
}

// planOf reads it from the command, and from the pod's annotations, which win.
func planOf(c *container) plan {
	return planWith(append(append([]string{}, c.config.Command...), c.config.Args...), c.sandbox.config.GetAnnotations())
}

// Life is how long a container would run, by its command and its pod's annotations, and with which code it would end;
// for pods that have no runtime at all (package fakenodes).
func Life(c *v1.Container, annotations map[string]string) (duration time.Duration, code int32, forever bool) {
	p := planWith(append(append([]string{}, c.Command...), c.Args...), annotations)
	return p.duration, p.code, p.forever
}

func planWith(words []string, annotations map[string]string) plan {
	p := planOfCommand(words)
	if text, ok := annotations[RunForAnnotation]; ok {
		if d, err := time.ParseDuration(text); err == nil {
			p.duration, p.forever = d, false
		}
	}
	if text, ok := annotations[ExitCodeAnnotation]; ok {
		if code, err := strconv.ParseInt(text, 10, 32); err == nil {
			p.code, p.forever = int32(code), false
		}
	}
	return p
}

// planOfCommand understands the few commands that examples are made of. It is pure.
func planOfCommand(words []string) plan {
	if len(words) == 0 {
		return plan{forever: true}
	}
	if len(words) == 3 && (strings.HasSuffix(words[0], "sh")) && strings.HasSuffix(words[1], "c") {
		return planOfScript(words[2])
	}
	p := plan{}
	if !p.add(words) {
		p.forever = true
	}
	return p
}

func planOfScript(script string) plan {
	p := plan{}
	script = strings.NewReplacer("&&", ";", "\n", ";").Replace(script)
	for _, command := range strings.Split(script, ";") {
		words := strings.Fields(command)
		if len(words) == 0 {
			continue
		}
		if !p.add(words) {
			p.forever = true // a server, a loop: it goes on
			return p
		}
		if words[0] == "exit" {
			return p
		}
	}
	return p
}

// add takes one command into the plan; false if it is not known.
func (p *plan) add(words []string) bool {
	p.code = 0
	switch words[0] {
	case "true", ":":
	case "false":
		p.code = 1
	case "exit":
		if len(words) > 1 {
			code, err := strconv.ParseInt(words[1], 10, 32)
			if err != nil {
				return false
			}
			p.code = int32(code)
		}
	case "echo":
		p.output = append(p.output, strings.Trim(strings.Join(words[1:], " "), `"'`))
	case "sleep":
		if len(words) < 2 {
			return false
		}
		d, err := time.ParseDuration(words[1])
		if err != nil {
			seconds, err := strconv.ParseFloat(words[1], 64)
			if err != nil || seconds > 1e9 {
				return false // sleep infinity, which is a number too
			}
			d = time.Duration(seconds * float64(time.Second))
		}
		p.duration += d
	default:
		return false
	}
	return true
}

// addresses hands out the addresses of a network, lowest first.
type addresses struct {
	network *net.IPNet
	used    map[uint32]bool
	first   uint32
	last    uint32
	next    uint32
}

func newAddresses(cidr string) (*addresses, error) {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		return nil, fmt.Errorf("pod CIDR: %w", err)
	}
	ip := network.IP.To4()
	if ip == nil {
		return nil, fmt.Errorf("pod CIDR %s: the simulated runtime knows IPv4 only", cidr)
	}
	ones, bits := network.Mask.Size()
	base := binary.BigEndian.Uint32(ip)
	size := uint32(1) << (bits - ones)
	if size < 4 {
		return nil, fmt.Errorf("pod CIDR %s has no room for pods", cidr)
	}
	return &addresses{network: network, used: map[uint32]bool{}, first: base + 2, last: base + size - 2, next: base + 2}, nil // .1 is the gateway's, on real nodes
}

func (a *addresses) take() (net.IP, error) {
	for range a.last - a.first + 1 {
		candidate := a.next
		if a.next++; a.next > a.last {
			a.next = a.first
		}
		if !a.used[candidate] {
			a.used[candidate] = true
			return binary.BigEndian.AppendUint32(nil, candidate), nil
		}
	}
	return nil, fmt.Errorf("no address left in %s", a.network)
}

func (a *addresses) free(ip net.IP) {
	if v4 := ip.To4(); v4 != nil {
		delete(a.used, binary.BigEndian.Uint32(v4))
	}
}

// pipeListener joins client and server within the process.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

var errClosed = errors.New("the simulated runtime has stopped")

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept, Close and Addr make it a net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, errClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "simulated" }
