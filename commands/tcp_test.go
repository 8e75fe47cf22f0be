package commands

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// tcpEcho is a program that sends back what each TCP connection brings. It writes its
// address into the file that its argument names.
func tcpEcho() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	temporary := filepath.Join(filepath.Dir(os.Args[1]), ".echo")
	must(os.WriteFile(temporary, []byte(l.Addr().String()+"\n"), 0o600))
	must(os.Rename(temporary, os.Args[1]))
	for {
		c, err := l.Accept()
		must(err)
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// tcpSend is a program that sends a file to an address and prints what comes back.
func tcpSend() {
	c, err := net.Dial("tcp", os.Args[1])
	must(err)
	data, err := os.ReadFile(os.Args[2])
	must(err)
	_, err = c.Write(data)
	must(err)
	must(c.(*net.TCPConn).CloseWrite())
	_, err = io.Copy(os.Stdout, c)
	must(err)
}

// must ends a test program at an error.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
