package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/invite"
	"dibber/netkit/join"
	"dibber/netkit/retry"

	"github.com/libp2p/go-libp2p/core/peer"
)

// invitations is the book of a state folder.
func invitations(dir string) invite.Book { return invite.Book{Dir: filepath.Join(dir, "invites")} }

// token is the text of --join.
func (o *hostOptions) token() (string, error) {
	name, ok := strings.CutPrefix(o.Join, "@")
	if !ok {
		return o.Join, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", usagef("--join: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2*invite.MaxToken))
	if err != nil {
		return "", usagef("--join: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// invitation reads --join; nil without it.
func (o *hostOptions) invitation() (*invite.Token, error) {
	if o.Join == "" {
		return nil, nil
	}
	text, err := o.token()
	if err != nil {
		return nil, err
	}
	t, err := invite.Parse(text)
	if err == nil {
		err = t.InTime(time.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("--join: %w", err)
	}
	return &t, nil
}

// joinNetwork takes the key of the private network from --join, unless another one was named.
func (o *hostOptions) joinNetwork(out *output, cfg *host.Config) error {
	t, err := o.invitation()
	if t == nil || err != nil {
		return err
	}
	if t.PSK != nil && cfg.PSK == nil {
		cfg.PSK = t.PSK
		out.notice("private network of the join token: quic, webtransport and webrtc are off")
	}
	return nil
}

// present shows the token of --join to the node that made it.
func (o *hostOptions) present(ctx context.Context, out *output, n *host.Node) error {
	if o.Join == "" {
		return nil
	}
	text, err := o.token()
	if err != nil {
		return err
	}
	r, err := join.Do(ctx, n, text)
	if err != nil {
		return fmt.Errorf("--join: %w", err)
	}
	out.notice("let in by %s until %s", r.Peer, r.Until.Local().Format(time.DateTime))
	return nil
}

// keepPresenting shows the token of --join to the node that made it, and again until that is there: a node that runs for long outlasts
// the times in which the other one does not.
func (o *hostOptions) keepPresenting(ctx context.Context, out *output, n *host.Node, open *closers) error {
	err := o.present(ctx, out, n)
	if !notThere(err) {
		return err
	}
	out.warn("%s; the token is shown again until that node answers", oneLine(err.Error()))
	run, cancel := context.WithCancel(ctx)
	var showing sync.WaitGroup
	showing.Go(func() {
		for s := (retry.Schedule{}); ; {
			host.Pause(run, time.Until(s.Failed(time.Now())))
			s.Begin(time.Now())
			err := o.present(run, out, n)
			if run.Err() != nil || err == nil {
				return
			}
			if !notThere(err) {
				out.warn("%s; the token is shown no more", oneLine(err.Error()))
				return
			}
		}
	})
	open.add(func() error {
		cancel()
		showing.Wait()
		return nil
	})
	return nil
}

// notThere reports whether the node to which a token is shown does not answer, which may change.
func notThere(err error) bool {
	return errors.Is(err, join.ErrUnreachable) || errors.Is(err, join.ErrBusy)
}

// joined is what a token fills in, as flags have it.
type joined struct {
	inviter   []string // addresses
	relays    []string
	namespace string
}

// joined is what --join fills in; nothing without it, or with one that does not read: that is an error of the run, with a document.
func (o *hostOptions) joined() (j joined, ok bool) {
	t, err := o.invitation()
	if t == nil || err != nil {
		return j, false
	}
	j.namespace = t.Namespace
	for _, a := range t.Addrs {
		j.inviter = append(j.inviter, addr.WithPeer(a, t.Peer).String())
	}
	for _, r := range t.Relays {
		j.relays = append(j.relays, r.String())
	}
	return j, true
}

// joiner are the options of a command in which --join fills in what no flag named.
type joiner interface{ join() }

// otherwise is the list that flags named, or else the other one.
func otherwise(named, other []string) []string {
	if len(named) > 0 {
		return named
	}
	return slices.Clone(other)
}

// join fills in where peers are looked up.
func (o *sourceOptions) join(h *hostOptions) {
	j, ok := h.joined()
	if !ok || j.namespace == "" || h.NoDiscovery {
		return
	}
	o.Rendezvous = otherwise(o.Rendezvous, j.inviter)
	if o.Namespace == "" {
		o.Namespace = j.namespace
	}
}

func (o *serveOptions) join() {
	j, ok := o.Host.joined()
	if !ok || o.Host.NoDiscovery || o.Chain.on() {
		return
	}
	o.UseRelays = otherwise(o.UseRelays, j.relays)
	if j.namespace != "" && len(o.Namespaces) == 0 {
		o.Register, o.Namespaces = otherwise(o.Register, j.inviter), []string{j.namespace}
	}
	if len(o.UseRelays) == 0 && len(o.Register) == 0 {
		o.Peers = otherwise(o.Peers, j.inviter)
	}
}

func (o *runOptions) join() {
	j, ok := o.Host.joined()
	if !ok || o.Host.NoDiscovery {
		return
	}
	o.Relays = otherwise(o.Relays, j.relays)
	if j.namespace != "" && len(o.Namespaces) == 0 {
		o.Register, o.Namespaces = otherwise(o.Register, j.inviter), []string{j.namespace}
	}
	if len(o.Relays) == 0 && len(o.Register) == 0 {
		o.Peers = otherwise(o.Peers, j.inviter)
	}
}

// joinRelays fills in the relays of commands that wait for others.
func joinRelays(h *hostOptions, relays *[]string) {
	if j, ok := h.joined(); ok && !h.NoDiscovery {
		*relays = otherwise(*relays, j.relays)
	}
}

func (o *discoverOptions) join()   { o.Sources.join(&o.Host) }
func (o *dialOptions) join()       { o.Sources.join(&o.Host) }
func (o *pingOptions) join()       { o.Sources.join(&o.Host) }
func (o *perfOptions) join()       { o.Sources.join(&o.Host) }
func (o *idOptions) join()         { o.Sources.join(&o.Host) }
func (o *pipeOptions) join()       { o.Sources.join(&o.Host) }
func (o *pipeListenOptions) join() { joinRelays(&o.Host, &o.Relays) }
func (o *listenOptions) join()     { joinRelays(&o.Host, &o.Relays) }
func (o *subOptions) join()        { o.Sources.join(&o.Host); joinRelays(&o.Host, &o.Relays) }

// joinFailure gives the errors of join tokens their class.
func joinFailure(err error) (failure, bool) {
	const another = "ask for another one: dibber key invite"
	switch {
	case errors.Is(err, invite.ErrFormat), errors.Is(err, invite.ErrKey):
		return failure{Exit: exitUsage}, true
	case errors.Is(err, invite.ErrSignature):
		return failure{Exit: exitIdentity, Code: "token_tampered", Phase: "join", Hint: another}, true
	case errors.Is(err, join.ErrForeign):
		return failure{Exit: exitIdentity, Code: "token_foreign", Phase: "join", Hint: another}, true
	case errors.Is(err, invite.ErrExpired):
		return failure{Exit: exitRefused, Code: "token_expired", Phase: "join", Hint: another}, true
	case errors.Is(err, invite.ErrRevoked):
		return failure{Exit: exitRefused, Code: "token_revoked", Phase: "join", Hint: another}, true
	case errors.Is(err, invite.ErrUnknown):
		return failure{Exit: exitRefused, Code: "token_unknown", Phase: "join", Hint: "it was made in another state folder than the node's"}, true
	case errors.Is(err, invite.ErrFull):
		return failure{Exit: exitRefused, Code: "token_full", Phase: "join", Hint: another}, true
	case errors.Is(err, join.ErrBusy), errors.Is(err, join.ErrRefused):
		return failure{Exit: exitRefused, Phase: "join", Retryable: true}, true
	case errors.Is(err, join.ErrUnreachable):
		return failure{Exit: exitUnreachable, Phase: "join", Retryable: true, Hint: "is the node that made the token running, and where the token says?"}, true
	case errors.Is(err, join.ErrUnsupported):
		return failure{Exit: exitProtocol, Phase: "join", Hint: "tokens are taken by dibber serve"}, true
	}
	return failure{}, false
}

// guestLine is a join token that a peer showed to this node.
type guestLine struct {
	Peer   peer.ID    `json:"peer"`
	ID     *invite.ID `json:"id"`    // null: it could not be read
	Until  *time.Time `json:"until"` // null: the peer was not let in
	Reason *string    `json:"reason"`
}

func (l guestLine) line() string {
	if l.Until == nil {
		return fmt.Sprintf("guest refused  %s: %s", l.Peer, plainText(*l.Reason))
	}
	return fmt.Sprintf("guest let in  %s until %s, by invitation %s", l.Peer, l.Until.Local().Format(time.DateTime), l.ID)
}

func tellGuest(out *output, e join.Event) {
	l := guestLine{Peer: e.Peer, ID: e.ID, Reason: errorText(e.Err)}
	if e.Err != nil {
		out.event("guest.refused", l)
		return
	}
	l.Until = &e.Until
	out.event("guest.joined", l)
}
