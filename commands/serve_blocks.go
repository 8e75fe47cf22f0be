package commands

import (
	"fmt"

	"dibber/netkit/blocks"
	"dibber/netkit/serve"

	"github.com/urfave/cli/v2"
)

// serveBlocks are the options of the role that serves blocks.
type serveBlocks struct {
	On     bool
	Store  string // empty means blocks in the state folder
	Limits blocks.Limits
}

func blocksFlags(o *serveBlocks) []cli.Flag {
	count := func(name, usage string, dest *int) cli.Flag {
		return &cli.IntFlag{Name: name, Usage: usage, Destination: dest}
	}
	return []cli.Flag{
		&cli.BoolFlag{Name: "blocks", Usage: "serve the blocks of a store to connected peers (Bitswap)", Destination: &o.On},
		&cli.StringFlag{Name: "blocks-store", Usage: "the store of blocks in `DIR` (default: blocks in the state folder)", Destination: &o.Store},
		count("blocks-size", "serve no block of more than `N` bytes; 0 means 2097152", &o.Limits.Block),
		count("blocks-rate", "serve at most `N` bytes of blocks a second to all peers together; 0 means any", &o.Limits.Rate),
		count("blocks-pending", "have at most `N` bytes of blocks on their way to one peer; 0 means 1048576", &o.Limits.Pending),
		count("blocks-wants", "remember at most `N` wants of one peer; 0 means 1024", &o.Limits.WantList),
		&cli.Float64Flag{Name: "blocks-wants-per-second", Usage: "let one peer ask for at most `N` blocks a second; 0 means 5000", Destination: &o.Limits.Wants},
	}
}

// blocksKeys are the flags that do nothing without the role.
func blocksKeys() []string {
	return []string{"blocks-store", "blocks-size", "blocks-rate", "blocks-pending", "blocks-wants", "blocks-wants-per-second"}
}

func (o *serveBlocks) validate() error {
	l := o.Limits
	if l.Block < 0 || l.Rate < 0 || l.Pending < 0 || l.WantList < 0 || l.Wants < 0 {
		return usagef("--blocks-…: a limit must not be negative")
	}
	return nil
}

// servedStore is the store that a running node serves.
type servedStore struct {
	*blocks.Store
	dir string
}

// open opens the store that is served, and configures the role; nil without it.
func (o *serveBlocks) open(e *env, h *hostOptions, roles *serve.Config, opened *closers) (*servedStore, error) {
	if !o.On {
		return nil, nil
	}
	dir, err := blockDir(e, o.Store, h)
	if err != nil {
		return nil, err
	}
	s, err := blocks.OpenStore(blocks.StoreConfig{Dir: dir})
	if err != nil {
		return nil, err
	}
	opened.add(s.Close)
	roles.Blocks = &serve.Blocks{Store: s, Config: blocks.Config{Limits: o.Limits}}
	return &servedStore{s, dir}, nil
}

// blocksLimits are the limits of serving blocks.
type blocksLimits struct {
	Block          int     `json:"block"` // bytes
	Rate           *int    `json:"rate"`  // bytes a second to all peers; null: unlimited
	Pending        int     `json:"pending"`
	Wants          int     `json:"wants"`
	WantsPerSecond float64 `json:"wants_per_second"`
}

func blocksLimitsOf(l *blocks.Limits) *blocksLimits {
	if l == nil {
		return nil
	}
	return &blocksLimits{Block: l.Block, Rate: positive(l.Rate), Pending: l.Pending, Wants: l.WantList, WantsPerSecond: l.Wants}
}

func (l *blocksLimits) String() string {
	rate := ""
	if l.Rate != nil {
		rate = fmt.Sprintf(", %s a second to all", sizeText(uint64(*l.Rate)))
	}
	return fmt.Sprintf("blocks  up to %s each, %s on their way to one peer%s; %g wants a second of one peer, %d remembered",
		sizeText(uint64(l.Block)), sizeText(uint64(l.Pending)), rate, l.WantsPerSecond, l.Wants)
}

// corruptLine is a block that was taken out of the store.
type corruptLine struct {
	CID   string  `json:"cid"`
	Error *string `json:"error"`
}

func (l corruptLine) line() string {
	return fmt.Sprintf("block %s is corrupt and was taken out of the store: %s", l.CID, *l.Error)
}

// providedLine is a CID that the network of the hash table was told of.
type providedLine struct {
	CID   *string `json:"cid"`  // null: the store could not be read
	Kept  int     `json:"kept"` // how many peers keep it
	Error *string `json:"error"`
}

func (l providedLine) line() string {
	if l.Error != nil {
		return "blocks not provided  " + *l.Error
	}
	return fmt.Sprintf("block %s provided  kept by %d peers", *l.CID, l.Kept)
}

func tellProvided(out *output, e *serve.ProvideEvent) {
	l := providedLine{Kept: e.Kept, Error: errorText(e.Err)}
	if e.CID.Defined() {
		l.CID = new(e.CID.String())
	}
	out.recurring("blocks.provided", e.Err, "blocks.provided", l)
}

func tellCorrupt(out *output, e *blocks.CorruptError) {
	out.event("blocks.corrupt", corruptLine{CID: e.CID.String(), Error: errorText(e)})
}
