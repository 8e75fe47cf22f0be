package commands

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"dibber/netkit/addr"

	ma "github.com/multiformats/go-multiaddr"
)

// socksd is a SOCKS5 server, which writes its address into the file that its first argument names. With "-real" as the second one
// it is microsocks, on a port that was free a moment ago; else one that knows any name to be at the address of the second argument,
// as Tor knows where an onion service is, and prints what it is asked for.
func socksd() {
	if os.Args[2] == "-real" {
		realSOCKS(os.Args[1])
		return
	}
	service, err := ma.NewMultiaddr(os.Args[2])
	must(err)
	to, ok := addr.TCP(service)
	if !ok {
		must(fmt.Errorf("%s is not on TCP", service))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	writeAddr(os.Args[1], l.Addr().String())
	for {
		c, err := l.Accept()
		must(err)
		go oneSOCKS(c, to.String())
	}
}

// writeAddr writes an address into a file, at once.
func writeAddr(file, at string) {
	temporary := filepath.Join(filepath.Dir(file), "."+filepath.Base(file))
	must(os.WriteFile(temporary, []byte(at+"\n"), 0o600))
	must(os.Rename(temporary, file))
}

func realSOCKS(file string) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		at := l.Addr().String()
		must(l.Close())
		_, port, err := net.SplitHostPort(at)
		must(err)
		ctx, cancel := context.WithCancel(context.Background())
		server := exec.CommandContext(ctx, "microsocks", "-i", "127.0.0.1", "-p", port)
		must(server.Start())
		go func() { _ = server.Wait(); cancel() }()
		for ctx.Err() == nil {
			if c, err := net.Dial("tcp", at); err == nil {
				_ = c.Close()
				writeAddr(file, at)
				<-ctx.Done()
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// oneSOCKS answers one client (RFC 1928).
func oneSOCKS(c net.Conn, to string) {
	defer c.Close()
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	read(int(read(2)[1]))
	_, _ = c.Write([]byte{5, 0})
	var where string
	switch read(4)[3] {
	case 1:
		where = net.IP(read(4)).String()
	case 4:
		where = net.IP(read(16)).String()
	case 3:
		where = string(read(int(read(1)[0])))
	}
	port := read(2)
	fmt.Println(net.JoinHostPort(where, strconv.Itoa(int(port[0])<<8|int(port[1]))))
	if net.ParseIP(where) != nil {
		to = net.JoinHostPort(where, strconv.Itoa(int(port[0])<<8|int(port[1])))
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		_, _ = c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	defer out.Close()
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	go func() {
		_, _ = io.Copy(out, c)
		_ = out.Close()
	}()
	_, _ = io.Copy(c, out)
}
