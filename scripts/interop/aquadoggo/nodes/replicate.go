package nodes

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"dibber/scripts/interop/bed"
)

// store is a store of logs of ours.
type store struct {
	scene *bed.Scene
	where []string // flags that say so
	logs  int
}

func newStore(ctx context.Context, s *bed.Scene) (*store, error) {
	o := &store{scene: s, where: []string{"--store", filepath.Join(s.Dir, "store"), "--state-dir", filepath.Join(s.Dir, "state")}}
	return o, o.run(ctx, &struct{}{}, "replicate", "init")
}

func (o *store) run(ctx context.Context, into any, args ...string) error {
	return o.scene.Dibber(ctx, into, append(args, o.where...)...)
}

// write makes a document, of a schema and fields, in a log of our own and returns its id. The operation comes from p2panda's own code,
// the entry from ours.
func (o *store) write(ctx context.Context, of ...string) (id string, err error) {
	made, err := create(ctx, o.scene, of)
	if err != nil {
		return "", err
	}
	operation, err := hex.DecodeString(made[1])
	if err != nil {
		return "", err
	}
	o.logs++
	name := fmt.Sprint("log", o.logs)
	file := filepath.Join(o.scene.Dir, name)
	if err := os.WriteFile(file, operation, 0o600); err != nil {
		return "", err
	}
	if err := o.run(ctx, &struct{}{}, "replicate", "log", "create", name); err != nil {
		return "", err
	}
	var doc struct {
		Head string `json:"head"`
	}
	err = o.run(ctx, &doc, "replicate", "log", "append", name, "--file", file)
	return doc.Head, err
}

// exchanged is what dibber replicate sync --p2panda prints.
type exchanged struct {
	OK      bool    `json:"ok"`
	Path    *string `json:"path"`
	P2panda *struct {
		Sent     int `json:"sent"`
		Received int `json:"received"`
		Sessions int `json:"sessions"`
	} `json:"p2panda"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// way is how a node is reached.
type way struct {
	path string
	at   string
	args []string // of our host
}

// sync exchanges entries with a node and compares how many were lacking. One may be sent twice where both sides have asked for a session.
func (o *store) sync(ctx context.Context, w way, sent, received int) error {
	var doc exchanged
	began := time.Now()
	if err := o.run(ctx, &doc, append([]string{"replicate", "sync", "--p2panda", w.at}, w.args...)...); err != nil {
		return err
	}
	switch {
	case doc.Error != nil:
		return fmt.Errorf("dibber replicate sync: %s", doc.Error.Message)
	case doc.P2panda == nil || doc.Path == nil || *doc.Path != w.path:
		return fmt.Errorf("dibber replicate sync: %+v", doc)
	case doc.P2panda.Sent < sent || doc.P2panda.Received != received:
		return fmt.Errorf("dibber replicate sync sent %d, received %d; want %d and %d", doc.P2panda.Sent, doc.P2panda.Received, sent, received)
	}
	o.scene.Say("ours sent %d, received %d, sessions %d, %s, in %s", doc.P2panda.Sent, received, doc.P2panda.Sessions, w.path, time.Since(began).Round(100*time.Millisecond))
	return nil
}

func exchange(ctx context.Context, s *bed.Scene) (string, error) {
	v, err := start(ctx, s, "node", 3, "relay")
	if err != nil {
		return "", err
	}
	return exchangeWith(ctx, s, v, way{
		path: "direct", at: fmt.Sprintf("/ip4/%s/udp/2123/quic-v1/p2p/%s", s.IP(2), v.id),
		args: []string{"--listen", "/ip4/" + s.IP(5) + "/udp/0/quic-v1"},
	})
}

func exchangeRelayed(ctx context.Context, s *bed.Scene) (string, error) {
	relay, err := server(ctx, s)
	if err != nil {
		return "", err
	}
	v, err := edge(ctx, s, "edge", 1, relay.Addrs[0])
	if err != nil {
		return "", err
	}
	// Nodes speak QUIC alone, so that over TCP no hole can be punched and the path stays relayed.
	return exchangeWith(ctx, s, v, way{
		path: "relayed", at: bed.Circuit(relay.Addr("tcp"), v.id),
		args: []string{"--transport", "tcp", "--listen", "/ip4/" + s.IP(5) + "/tcp/0"},
	})
}

// exchangeWith brings schemas and documents of both sides over, then one more document of each.
func exchangeWith(ctx context.Context, s *bed.Scene, v *node, w way) (string, error) {
	o, err := newStore(ctx, s)
	if err != nil {
		return "", err
	}
	theirs, err := v.define(ctx, s, "note")
	if err != nil {
		return "", err
	}
	field, err := o.write(ctx, fieldDefinition()...)
	if err != nil {
		return "", err
	}
	view, err := o.write(ctx, definition("task", field)...)
	if err != nil {
		return "", err
	}
	ours := "task_" + view
	for round, want := range []struct {
		text           string
		sent, received int
	}{{"first of all", 3, 3}, {"and then", 1, 1}} {
		if err := v.write(ctx, s, theirs, want.text); err != nil {
			return "", err
		}
		if _, err := o.write(ctx, ours, "text=str:"+want.text); err != nil {
			return "", err
		}
		if err := o.sync(ctx, w, want.sent, want.received); err != nil {
			return "", fmt.Errorf("round %d: %w", round+1, err)
		}
		if err := v.awaits(ctx, ours, want.text); err != nil {
			return "", fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	var verified struct {
		OK bool `json:"ok"`
	}
	if err := o.run(ctx, &verified, "replicate", "verify"); err != nil || !verified.OK {
		return "", fmt.Errorf("dibber replicate verify: %+v, %w", verified, err)
	}
	return "schemas and documents both ways, then one more each, " + w.path, nil
}
