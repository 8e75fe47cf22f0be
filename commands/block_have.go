package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dibber/netkit/blocks"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// blockHaveOptions are the flags and arguments of block have.
type blockHaveOptions struct {
	Host    hostOptions
	Sources sourceOptions
	From    fromOptions
	Wait    time.Duration
	CIDs    []cid.Cid
}

func (o *blockHaveOptions) peers() *blockPeers { return &blockPeers{o.From, &o.Host, &o.Sources} }

// haveAnswer is what one peer says of one block.
type haveAnswer struct {
	Peer   peer.ID  `json:"peer"`
	CID    string   `json:"cid"`
	Answer *string  `json:"answer"` // HAVE or DONT_HAVE; null: none came
	MS     *float64 `json:"ms"`
}

func (a haveAnswer) line() string {
	if a.Answer == nil {
		return fmt.Sprintf("no answer  %s  %s", a.CID, a.Peer)
	}
	return fmt.Sprintf("%-9s  %s  %s  %.1f ms", *a.Answer, a.CID, a.Peer, *a.MS)
}

// blockHaveDoc is the document of block have.
type blockHaveDoc struct {
	Answers []haveAnswer `json:"answers"`
	Peers   []blockPeer  `json:"peers"`
}

func newBlockHave(*env) spec {
	var o blockHaveOptions
	return spec{
		name: "have", usage: "ask peers whether they have blocks", args: "<cid>...",
		about: `Each peer is sent WANT-HAVE, and its HAVE or DONT_HAVE is printed; nothing is transferred, but that peers may send a small
block at once. The exit code is 9 if a block is with none of them, 124 if one might be but a peer did not answer.`,
		examples: []string{
			"dibber block have " + exampleCID + " --peer /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber block have " + exampleCID + " --peer @home,@work --peers @peers.txt",
			"dibber block have " + exampleCID + " --peer @home --peers @peers.txt --trace --json",
		},
		flags: slices.Concat([]cli.Flag{
			&cli.DurationFlag{Name: "wait", Value: 10 * time.Second, Usage: "wait for answers for `DURATION`", Destination: &o.Wait},
			ownHostFlag(&o.Host.OwnHost),
		}, blockPeerFlags(&o.From, &o.Sources, &o.Host)),
		lends:   o.peers().lends("wait"),
		options: &o, doc: blockHaveDoc{},
		events: append(reachEvents(), event{"path.changed", pathLine{}}, event{"message", blockMessage{}}, event{"answer", haveAnswer{}}),
		validate: func(args []string) error {
			switch {
			case len(args) == 0:
				return usagef("block have needs a CID")
			case o.Wait <= 0:
				return usagef("--wait: %s is no time", o.Wait)
			}
			for _, a := range args {
				c, err := parseCID(a)
				if err != nil {
					return err
				}
				o.CIDs = append(o.CIDs, c)
			}
			if !o.peers().named() {
				return usagef("block have needs somebody to ask: --peer, --rendezvous, --mdns or --dht")
			}
			return o.peers().validate()
		},
		run: func(ctx context.Context, out *output) (any, error) { return o.run(ctx, out) },
	}
}

func (o *blockHaveOptions) run(ctx context.Context, out *output) (doc any, err error) {
	d := blockHaveDoc{Answers: []haveAnswer{}, Peers: []blockPeer{}}
	x, err := o.peers().open(ctx, out, &keeper{Blockstore: blocks.Nothing{}}, o.CIDs[0])
	defer closing(&err, x.close)
	if err != nil {
		d.Peers = x.list()
		return d, err
	}
	waiting, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	peers := x.reached
	errs := make([]error, len(peers))
	said := make([][]blocks.Answer, len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() {
			said[i], errs[i] = x.s.Ask(waiting, p, o.CIDs)
			for _, a := range said[i] {
				out.event("answer", answerOf(p, a))
			}
		})
	}
	all.Wait()
	for i, p := range peers {
		for _, a := range said[i] {
			d.Answers = append(d.Answers, answerOf(p, a))
		}
	}
	d.Peers = x.list()
	if ctx.Err() != nil {
		return d, ctx.Err()
	}
	return d, o.verdict(said, errs)
}

func answerOf(p peer.ID, a blocks.Answer) haveAnswer {
	h := haveAnswer{Peer: p, CID: a.CID.String(), Answer: known(string(a.Kind))}
	if h.Answer != nil {
		h.MS = new(millis(a.Took))
	}
	return h
}

// verdict is the error of answers by which a block is with nobody.
func (o *blockHaveOptions) verdict(said [][]blocks.Answer, errs []error) error {
	for i, c := range o.CIDs {
		lacks, silent := 0, error(nil)
		has := false
		for j := range said {
			switch said[j][i].Kind {
			case blocks.Have:
				has = true
			case blocks.DontHave:
				lacks++
			default:
				silent = errs[j]
			}
		}
		switch {
		case has:
		case silent == nil:
			return &blocks.NotFoundError{CID: c, Asked: lacks}
		case errors.Is(silent, context.DeadlineExceeded):
			return &failure{Exit: exitTimeout, Phase: "have", Retryable: true, Err: fmt.Errorf("%w: no answer within %s", silent, o.Wait), Hint: "--wait waits longer"}
		default:
			return silent
		}
	}
	return nil
}
