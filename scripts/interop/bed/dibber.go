package bed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// dibberName is the program's name in the folder of programs.
const dibberName = "dibber"

// Node is a running dibber serve.
type Node struct {
	*Process
	Peer  string
	Addrs []string // with the peer id; QUIC before TCP
	// Address and Boot are the node's on the network of a ParallelChain; empty elsewhere.
	Address, Boot string
}

// Addr is the address of a transport, quic-v1 or tcp.
func (n *Node) Addr(transport string) string {
	for _, a := range n.Addrs {
		if strings.Contains(a, "/"+transport) {
			return a
		}
	}
	return ""
}

// Serve starts dibber serve on the address of a host and waits until it is ready.
func (s *Scene) Serve(ctx context.Context, host int, args ...string) (*Node, error) {
	return s.ServeAt(ctx, []string{"/ip4/" + s.IP(host) + "/udp/0/quic-v1", "/ip4/" + s.IP(host) + "/tcp/0"}, args...)
}

// ServeAt is Serve at chosen addresses.
func (s *Scene) ServeAt(ctx context.Context, listen []string, args ...string) (*Node, error) {
	return s.serve(ctx, nil, listen, args)
}

// serve is ServeAt by way of a command that runs its arguments, if there is one.
func (s *Scene) serve(ctx context.Context, by, listen, args []string) (*Node, error) {
	state, err := os.MkdirTemp(s.Dir, "state-")
	if err != nil {
		return nil, err
	}
	command := slices.Concat(by, []string{s.dibber(), "serve", "--ndjson", "--state-dir", state}, args)
	for _, a := range listen {
		command = append(command, "--listen", a)
	}
	p, err := s.Start(ctx, s.dibberEnv(), command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	n := &Node{Process: p}
	return n, n.Event(ctx, "ready", n)
}

func (s *Scene) dibber() string { return filepath.Join(s.at.work, dibberName) }

// dibberEnv keeps dibber from settings that the person has made.
func (s *Scene) dibberEnv() []string { return []string{"XDG_CONFIG_HOME=" + s.Dir} }

// Event waits for the next event of a name and decodes it; those before are passed over.
func (n *Node) Event(ctx context.Context, name string, into any) error {
	line, err := n.Line(ctx, `{"schema":"serve/1","event":"`+name+`",`)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte("{"+line), into)
}

// Reservation is the event of a reservation that a node of ours got.
type Reservation struct {
	Circuits  []string `json:"circuits"`
	DurationS *float64 `json:"duration_s"`
	Bytes     *int64   `json:"bytes"`
}

func (r Reservation) limits() Limits { return Limits{r.DurationS, r.Bytes} }

// Limits are those of a circuit; nil means none.
type Limits struct {
	DurationS *float64 `json:"duration_s"`
	Bytes     *int64   `json:"bytes"`
}

func (l Limits) String() string {
	if l.DurationS == nil || l.Bytes == nil {
		return "unlimited"
	}
	return fmt.Sprintf("%g s, %d bytes", *l.DurationS, *l.Bytes)
}

// Dialled is what dibber dial found out.
type Dialled struct {
	OK        bool    `json:"ok"`
	Path      *string `json:"path"`
	Limits    *Limits `json:"limits"`
	Addr      *string `json:"addr"`
	Transport *string `json:"transport"`
	Identify  *struct {
		Agent     string   `json:"agent"`
		Protocols []string `json:"protocols"`
	} `json:"identify"`
	Ping *struct {
		Sent     int `json:"sent"`
		Received int `json:"received"`
	} `json:"ping"`
	Upgrade *struct {
		OK     bool     `json:"ok"`
		MS     *float64 `json:"ms"`
		Reason *string  `json:"reason"`
	} `json:"upgrade"`
	Error *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// path is the path, as far as it is known.
func (d Dialled) path() string {
	if d.Path == nil {
		return "unknown"
	}
	return *d.Path
}

// Dial runs dibber dial from the address of the last host. That it did not reach the peer is no error.
func (s *Scene) Dial(ctx context.Context, args ...string) (d Dialled, err error) {
	listen := []string{"--listen", "/ip4/" + s.IP(hosts) + "/udp/0/quic-v1", "--listen", "/ip4/" + s.IP(hosts) + "/tcp/0"}
	return d, s.run(ctx, &d, append(append([]string{"dial"}, listen...), args...))
}

// Reach is Dial for those that must be reached, pinged and found on a path.
func (s *Scene) Reach(ctx context.Context, path string, args ...string) (Dialled, error) {
	d, err := s.Dial(ctx, args...)
	switch {
	case err != nil:
		return d, err
	case !d.OK || d.Identify == nil || d.Ping == nil:
		message := "no identify or ping"
		if d.Error != nil {
			message = d.Error.Message
		}
		return d, fmt.Errorf("dibber dial: %s", message)
	case d.path() != path:
		return d, fmt.Errorf("dibber dial: path %s, want %s", d.path(), path)
	case d.Ping.Received != d.Ping.Sent:
		return d, fmt.Errorf("dibber dial: %d of %d pings came back", d.Ping.Received, d.Ping.Sent)
	}
	return d, nil
}

// Found is a peer that dibber discover found.
type Found struct {
	Peer  string   `json:"peer"`
	Addrs []string `json:"addrs"`
	Found []struct {
		Record string `json:"record"`
	} `json:"found"`
}

// Discover runs dibber discover at a rendezvous point.
func (s *Scene) Discover(ctx context.Context, point, namespace string) ([]Found, error) {
	var doc struct {
		OK      bool    `json:"ok"`
		Peers   []Found `json:"peers"`
		Sources []struct {
			OK      bool    `json:"ok"`
			Error   *string `json:"error"`
			Skipped int     `json:"skipped"`
		} `json:"sources"`
	}
	if err := s.run(ctx, &doc, []string{"discover", "--rendezvous", point, "--namespace", namespace}); err != nil {
		return nil, err
	}
	for _, source := range doc.Sources {
		switch {
		case source.Error != nil:
			return nil, fmt.Errorf("dibber discover: %s", *source.Error)
		case source.Skipped > 0:
			return nil, fmt.Errorf("dibber discover could not read %d registrations", source.Skipped)
		}
	}
	return doc.Peers, nil
}

// Begin starts any other command of dibber, which talks in events.
func (s *Scene) Begin(ctx context.Context, args ...string) (*Process, error) {
	return s.Start(ctx, s.dibberEnv(), s.dibber(), append(args, "--ndjson")...)
}

// Dibber runs any other command of dibber to its end and decodes the document it prints.
func (s *Scene) Dibber(ctx context.Context, into any, args ...string) error {
	return s.run(ctx, into, args)
}

// run runs a command of dibber to its end and decodes the document it prints.
func (s *Scene) run(ctx context.Context, into any, args []string) error {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, s.dibber(), append(args, "--json")...)
	cmd.Env = append(os.Environ(), s.dibberEnv()...)
	cmd.Stdout = &out
	p, err := launch(cmd, s.Dir, &said)
	if err != nil {
		return err
	}
	err = p.wait(ctx)
	_ = os.WriteFile(s.logFile("dibber-"+args[0]), append(said.Bytes(), out.Bytes()...), 0o644) // for people; nothing reads it
	if failed := json.Unmarshal(out.Bytes(), into); failed != nil {
		return errors.Join(fmt.Errorf("dibber %s: %w: %.300s", args[0], failed, said.String()), err)
	}
	return nil
}
