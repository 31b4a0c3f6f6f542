package tools

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// wget: -q quiet, -O FILE ("-" prints), -S headers too, -T SECONDS; and the long options
// --header=, --post-data=, --method=, --no-check-certificate, --ca-certificate=, --timeout=, --spider.
func wget(c *call) int {
	w := &fetch{call: c, client: &http.Client{}, method: http.MethodGet, header: http.Header{}}
	if err := w.parse(); err != nil {
		return c.fail1(err)
	}
	for _, target := range w.targets {
		if err := w.one(target); err != nil {
			return c.fail1(err)
		}
	}
	return 0
}

type fetch struct {
	*call
	client  *http.Client
	method  string
	header  http.Header
	body    string
	output  string
	quiet   bool
	headers bool
	spider  bool
	targets []string
}

// parse sorts out the long options, then leaves the short ones to getopt.
func (w *fetch) parse() error {
	tlsConfig := &tls.Config{}
	var short []string
	for _, arg := range w.args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "--header":
			key, text, _ := strings.Cut(value, ":")
			w.header.Add(strings.TrimSpace(key), strings.TrimSpace(text))
		case "--post-data":
			w.method, w.body = http.MethodPost, value
		case "--method":
			w.method = value
		case "--no-check-certificate":
			tlsConfig.InsecureSkipVerify = true
		case "--ca-certificate":
			pem, err := os.ReadFile(value)
			if err != nil {
				return err
			}
			tlsConfig.RootCAs = x509.NewCertPool()
			tlsConfig.RootCAs.AppendCertsFromPEM(pem)
		case "--timeout":
			short = append(short, "-T", value)
		case "--spider":
			w.spider = true
		default:
			short = append(short, arg)
		}
	}
	w.args = short
	flags, targets, err := w.options("qO:ST:t:")
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return errors.New("usage: wget [-qS] [-O FILE] [-T SECONDS] URL…")
	}
	if seconds := flags['T']; seconds != "" {
		n, err := strconv.ParseFloat(seconds, 64)
		if err != nil {
			return fmt.Errorf("-T %s: must be seconds", seconds)
		}
		w.client.Timeout = time.Duration(n * float64(time.Second))
	}
	w.output, w.quiet, w.headers, w.targets = flags['O'], flags['q'] != "", flags['S'] != "", targets
	w.client.Transport = &http.Transport{TLSClientConfig: tlsConfig, Proxy: http.ProxyFromEnvironment}
	return nil
}

func (w *fetch) one(target string) error {
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	parsed, err := url.Parse(target)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(w.method, target, strings.NewReader(w.body))
	if err != nil {
		return err
	}
	request.Header = w.header.Clone()
	request.Host = request.Header.Get("Host")
	response, err := w.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if w.headers {
		fmt.Fprintf(w.err, "  HTTP/1.1 %s\n", response.Status)
		for key, values := range response.Header {
			fmt.Fprintf(w.err, "  %s: %s\n", key, strings.Join(values, ", "))
		}
	}
	if response.StatusCode >= 400 {
		return fmt.Errorf("server returned error: HTTP/1.1 %s", response.Status)
	}
	if w.spider {
		return nil
	}
	return w.save(parsed, response.Body)
}

func (w *fetch) save(from *url.URL, body io.Reader) error {
	if w.output == "-" {
		_, err := io.Copy(w.out, body)
		return err
	}
	name := w.output
	if name == "" {
		if name = filepath.Base(from.Path); name == "." || name == "/" {
			name = "index.html"
		}
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, body)
	if !w.quiet {
		fmt.Fprintf(w.err, "%s: %d bytes saved\n", name, n)
	}
	return errors.Join(err, f.Close())
}

// nc: HOST PORT connects, -l -p PORT listens once; -z only tries, -w SECONDS, -u UDP, -k listens again, -v says more.
func nc(c *call) int {
	flags, operands, err := c.options("lp:zw:ukvn")
	if err != nil {
		return c.fail1(err)
	}
	network := "tcp"
	if flags['u'] != "" {
		network = "udp"
	}
	var wait time.Duration
	if flags['w'] != "" {
		seconds, err := strconv.Atoi(flags['w'])
		if err != nil {
			return c.fail1(fmt.Errorf("-w %s: must be seconds", flags['w']))
		}
		wait = time.Duration(seconds) * time.Second
	}
	if flags['l'] != "" {
		port := flags['p']
		if port == "" && len(operands) > 0 {
			port = operands[len(operands)-1]
		}
		return c.ncListen(network, port, flags['k'] != "")
	}
	if len(operands) != 2 {
		return c.fail1(errors.New("usage: nc [-zuv] [-w SECONDS] HOST PORT | nc -l -p PORT"))
	}
	conn, err := net.DialTimeout(network, net.JoinHostPort(operands[0], operands[1]), wait)
	if err != nil {
		return c.fail1(err)
	}
	defer conn.Close()
	if flags['v'] != "" {
		fmt.Fprintf(c.err, "%s open\n", conn.RemoteAddr())
	}
	if flags['z'] != "" {
		return 0
	}
	if wait > 0 {
		conn.SetReadDeadline(time.Now().Add(wait))
	}
	c.pipe(conn)
	return 0
}

func (c *call) ncListen(network, port string, again bool) int {
	if network == "udp" {
		packets, err := net.ListenPacket(network, ":"+port)
		if err != nil {
			return c.fail1(err)
		}
		defer packets.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, _, err := packets.ReadFrom(buffer)
			if err != nil {
				return c.fail1(err)
			}
			c.out.Write(buffer[:n])
			if !again {
				return 0
			}
		}
	}
	listener, err := net.Listen(network, ":"+port)
	if err != nil {
		return c.fail1(err)
	}
	defer listener.Close()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return c.fail1(err)
		}
		c.pipe(conn)
		conn.Close()
		if !again {
			return 0
		}
	}
}

// pipe copies both ways until the other end has closed.
func (c *call) pipe(conn net.Conn) {
	var sending sync.WaitGroup
	sending.Add(1)
	go func() {
		defer sending.Done()
		io.Copy(conn, c.in)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}()
	io.Copy(c.out, conn)
}

// nslookup: NAME [SERVER], in the form that lessons show.
func nslookup(c *call) int {
	_, operands, err := c.options("")
	if err != nil || len(operands) == 0 {
		return c.fail1(errors.New("usage: nslookup NAME [SERVER]"))
	}
	server := firstNameserver()
	resolver := &net.Resolver{PreferGo: true}
	if len(operands) > 1 {
		server = operands[1]
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, net.JoinHostPort(server, "53"))
		}
	}
	fmt.Fprintf(c.out, "Server:    %s\nAddress:   %s:53\n\n", server, server)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	name := operands[0]
	if net.ParseIP(name) != nil {
		names, err := resolver.LookupAddr(ctx, name)
		if err != nil {
			return c.fail1(fmt.Errorf("can't resolve %q: %w", name, err))
		}
		for _, found := range names {
			fmt.Fprintf(c.out, "%s\tname = %s\n", name, found)
		}
		return 0
	}
	addresses, err := resolver.LookupHost(ctx, name)
	if err != nil {
		return c.fail1(fmt.Errorf("can't resolve %q: %w", name, err))
	}
	for _, address := range addresses {
		fmt.Fprintf(c.out, "Name:      %s\nAddress:   %s\n", name, address)
	}
	return 0
}

func firstNameserver() string {
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return "127.0.0.1"
	}
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" {
			return fields[1]
		}
	}
	return "127.0.0.1"
}

// getent: hosts NAME…, ahosts NAME…, passwd NAME, group NAME.
func getent(c *call) int {
	if len(c.args) < 2 {
		return c.fail1(errors.New("usage: getent hosts|ahosts|passwd|group NAME…"))
	}
	for _, name := range c.args[1:] {
		switch c.args[0] {
		case "hosts", "ahosts":
			addresses, err := lookupHost(name)
			if err != nil {
				return 2
			}
			for _, address := range addresses {
				fmt.Fprintf(c.out, "%-15s %s\n", address, name)
			}
		case "passwd", "group":
			if !c.databaseLine("/etc/"+c.args[0], name) {
				return 2
			}
		default:
			return c.fail1(fmt.Errorf("unknown database %q", c.args[0]))
		}
	}
	return 0
}

func (c *call) databaseLine(file, name string) bool {
	found := false
	c.oneInput(file, func(_ string, r io.Reader) error {
		return lines(r, func(line string) bool {
			if fields := strings.Split(line, ":"); len(fields) > 2 && (fields[0] == name || fields[2] == name) {
				fmt.Fprintln(c.out, line)
				found = true
			}
			return !found
		})
	})
	return found
}

func lookupHost(name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return (&net.Resolver{PreferGo: true}).LookupHost(ctx, name)
}

// fullName is the name that /etc/hosts gives for a short one.
func fullName(short string) string {
	data, err := os.ReadFile("/etc/hosts")
	if err != nil {
		return short
	}
	for _, line := range strings.Split(string(data), "\n") {
		for _, name := range strings.Fields(line) {
			if strings.HasPrefix(name, short+".") {
				return name
			}
		}
	}
	return short
}

// ip: addr, link and route, to be looked at only.
func ip(c *call) int {
	what := "addr"
	for _, arg := range c.args {
		if !strings.HasPrefix(arg, "-") {
			what = arg
			break
		}
	}
	switch {
	case strings.HasPrefix("route", what):
		return c.ipRoute()
	case strings.HasPrefix("address", what), strings.HasPrefix("link", what):
		return c.ipAddr(strings.HasPrefix("address", what))
	}
	return c.fail1(fmt.Errorf("unknown object %q: addr, link or route", what))
}

func (c *call) ipAddr(addresses bool) int {
	links, err := net.Interfaces()
	if err != nil {
		return c.fail1(err)
	}
	for _, link := range links {
		fmt.Fprintf(c.out, "%d: %s: <%s> mtu %d\n", link.Index, link.Name, strings.ToUpper(strings.ReplaceAll(link.Flags.String(), "|", ",")), link.MTU)
		if len(link.HardwareAddr) > 0 {
			fmt.Fprintf(c.out, "    link/ether %s\n", link.HardwareAddr)
		}
		list, err := link.Addrs()
		if err != nil || !addresses {
			continue
		}
		for _, address := range list {
			family := "inet"
			if strings.Contains(address.String(), ":") {
				family = "inet6"
			}
			fmt.Fprintf(c.out, "    %s %s scope global %s\n", family, address, link.Name)
		}
	}
	return 0
}

// ipRoute reads /proc/net/route, whose addresses are little-endian hexadecimal.
func (c *call) ipRoute() int {
	status := c.eachInput([]string{"/proc/net/route"}, func(_ string, r io.Reader) error {
		return lines(r, func(line string) bool {
			f := strings.Fields(line)
			if len(f) < 8 || f[0] == "Iface" {
				return true
			}
			destination, mask := hexAddress(f[1]), net.IPMask(hexAddress(f[7]).To4())
			ones, _ := mask.Size()
			text := fmt.Sprintf("%s/%d", destination, ones)
			if ones == 0 {
				text = "default"
			}
			if gateway := hexAddress(f[2]); !gateway.IsUnspecified() {
				text += " via " + gateway.String()
			}
			fmt.Fprintf(c.out, "%s dev %s\n", text, f[0])
			return true
		})
	})
	return status
}

func hexAddress(text string) net.IP {
	n, err := strconv.ParseUint(text, 16, 32)
	if err != nil {
		return net.IPv4zero
	}
	return net.IPv4(byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}
