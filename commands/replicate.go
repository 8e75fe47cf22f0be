package commands

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"dibber/netkit/bamboo"
	"dibber/netkit/identity"
	"dibber/netkit/logstore"

	"github.com/urfave/cli/v2"
)

// storeOptions say where the store of logs is.
type storeOptions struct {
	Dir      string // empty means replicate in the state folder
	StateDir string // empty means dibber in $XDG_STATE_HOME
}

// storeFlags declares the flags of every command that opens a store of logs.
func storeFlags(o *storeOptions) []cli.Flag {
	return []cli.Flag{
		storeFlag(o),
		&cli.StringFlag{
			Category: groupStore, Name: "state-dir", Destination: &o.StateDir,
			Usage: "keep what guards the store in `DIR`, outside of it (default: dibber in $XDG_STATE_HOME)",
		},
	}
}

// storeFlag is that of commands whose state folder is that of their host.
func storeFlag(o *storeOptions) cli.Flag {
	return &cli.StringFlag{
		Category: groupStore, Name: "store", Destination: &o.Dir,
		Usage: "the store of logs in `DIR` (default: replicate in the state folder)",
	}
}

func newReplicate(e *env) spec {
	return spec{
		name: "replicate", usage: "keep signed append-only logs in step between peers",
		about: `A log is one author's sequence of entries, each signed and tied to those before it, so that nobody can change or
reorder what was said. Entries are Bamboo entries as p2panda writes them. The store has a key of its own with which it signs.`,
		examples: []string{"dibber replicate init", "dibber replicate log append notes 'hello'", "dibber replicate verify --repair"},
		subcommands: []spec{
			newReplicateInit(e), newReplicateLog(e), newReplicateSync(e), newReplicateRun(e),
			newReplicateExport(e), newReplicateImport(e), newReplicateVerify(e), newReplicateForks(e), newReplicateRecover(e), newReplicateGrant(e), newReplicateStats(e),
		},
	}
}

// dir is the folder of the store.
func (o *storeOptions) dir(e *env) string {
	if o.Dir != "" {
		return o.Dir
	}
	return filepath.Join(o.stateDir(e), "replicate")
}

func (o *storeOptions) stateDir(e *env) string {
	return (&hostOptions{StateDir: o.StateDir}).stateDir(e)
}

// config says where the store and its guard are. The guard lies in the state folder under a name that the place of the store gives
// it: a copy of the store elsewhere is another store, which must not sign as if it were this one.
func (o *storeOptions) config(e *env) (logstore.Config, error) {
	return o.place(e, false)
}

// place is config for a command that makes the state folder if create is set.
func (o *storeOptions) place(e *env, create bool) (logstore.Config, error) {
	state, err := (&hostOptions{StateDir: o.StateDir}).openState(e, create)
	if err != nil {
		return logstore.Config{}, err
	}
	dir, err := filepath.Abs(o.dir(e))
	if err != nil {
		return logstore.Config{}, err
	}
	place := bamboo.HashOf([]byte(dir))
	return logstore.Config{
		Dir: dir, Existing: true,
		Guard: filepath.Join(state, "guard", hex.EncodeToString(place[:8]), "own-heads"),
	}, nil
}

// with opens a store that is there for the time of a function.
func (o *storeOptions) with(ctx context.Context, e *env, fn func(*logstore.Store) error) (err error) {
	cfg, err := o.config(e)
	if err != nil {
		return err
	}
	s, err := openStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer closing(&err, s.Close)
	return fn(s)
}

// authorKey is the file of the key that the store signs with.
func (o *storeOptions) authorKey(e *env) string { return filepath.Join(o.dir(e), "author.key") }

// author reads the key that the store signs with, and makes it if create is set.
func (o *storeOptions) author(e *env, create bool) (key ed25519.PrivateKey, created bool, err error) {
	load := func(path string) (k interface{ Raw() ([]byte, error) }, err error) {
		if create {
			k, created, err = identity.LoadOrCreate(path)
			return k, err
		}
		return identity.Load(path)
	}
	k, err := load(o.authorKey(e))
	if err != nil {
		return nil, false, fmt.Errorf("author key: %w", err)
	}
	raw, err := k.Raw()
	if err != nil {
		return nil, false, fmt.Errorf("author key: %w", err)
	}
	if len(raw) != ed25519.PrivateKeySize {
		return nil, false, fmt.Errorf("author key %s: %w: logs are signed with ed25519", o.authorKey(e), identity.ErrType)
	}
	return raw, created, nil
}

// authorOf is the author whose key it is.
func authorOf(key ed25519.PrivateKey) bamboo.Author { return bamboo.Author(key[ed25519.SeedSize:]) }

// findLog returns the log that a name stands for: one of one's own by the name it was created with, any by AUTHOR/NUMBER.
func findLog(v *logstore.View, name string) (logstore.Head, error) {
	if key, number, ok := strings.Cut(name, "/"); ok {
		author, err := bamboo.ParseAuthor(key)
		if err == nil {
			log, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				return logstore.Head{}, usagef("log %q: the number of a log is no %q", name, number)
			}
			h, err := v.Head(author, log)
			return h, noLog(name, err)
		}
	}
	var found *logstore.Head
	err := v.Heads(func(h logstore.Head) error {
		if h.Mine && h.Name == name {
			found = &h
		}
		return nil
	})
	if err != nil {
		return logstore.Head{}, err
	}
	if found == nil {
		return logstore.Head{}, noLog(name, logstore.ErrNotFound)
	}
	return *found, nil
}

func noLog(name string, err error) error {
	if !errors.Is(err, logstore.ErrNotFound) {
		return err
	}
	return &failure{Exit: exitNotFound, Err: fmt.Errorf("log %q: %w", name, err), Hint: "dibber replicate log ls"}
}

// replicateFailure gives the errors of stores of logs their class.
func replicateFailure(err error) (failure, bool) {
	var lost *logstore.LostError
	var rotten *logstore.CorruptError
	switch {
	case errors.As(err, &lost):
		return failure{Exit: exitIdentity, Code: "lost", Phase: "open", Hint: "dibber replicate recover PEER… takes it back from peers; --accept-loss goes on with what is left"}, true
	case errors.As(err, &rotten):
		return failure{Exit: exitIdentity, Code: "damaged", Hint: "dibber replicate verify --repair"}, true
	case errors.Is(err, logstore.ErrGuard):
		return failure{Exit: exitFalse, Code: "guard", Hint: "dibber replicate recover PEER… takes the log back from peers who have it"}, true
	case errors.Is(err, logstore.ErrForked):
		return failure{Exit: exitFalse, Code: "forked", Hint: "dibber replicate forks"}, true
	case errors.Is(err, logstore.ErrEnded):
		return failure{Exit: exitRefused, Code: "ended"}, true
	case errors.Is(err, logstore.ErrDiskFull):
		return failure{Exit: exitRefused, Code: "disk_full", Hint: "free space on the disk of the store", Retryable: true}, true
	case errors.Is(err, logstore.ErrExists):
		return failure{Exit: exitRefused, Code: "exists"}, true
	case errors.Is(err, logstore.ErrNoStore):
		return failure{Exit: exitNotFound, Code: "no_store", Hint: "dibber replicate init"}, true
	case errors.Is(err, logstore.ErrNotFound):
		return failure{Exit: exitNotFound}, true
	}
	return failure{}, false
}

// initDoc says what was made.
type initDoc struct {
	Store   string `json:"store"`
	Author  string `json:"author"`  // public key, in hexadecimal digits
	Created bool   `json:"created"` // false if the key was there already
}

func newReplicateInit(e *env) spec {
	var o struct{ Store storeOptions }
	return spec{
		name: "init", usage: "make a store of logs and the key it signs with",
		about:    "A store that is there is left as it is.",
		examples: []string{"dibber replicate init", "dibber replicate init --store logs", "dibber replicate init -q"},
		flags:    storeFlags(&o.Store), options: &o, doc: initDoc{},
		run: func(ctx context.Context, _ *output) (doc any, err error) {
			cfg, err := o.Store.place(e, true)
			if err != nil {
				return nil, err
			}
			cfg.Existing = false
			s, err := openStore(ctx, cfg)
			if err != nil {
				return nil, err
			}
			defer closing(&err, s.Close)
			key, created, err := o.Store.author(e, true)
			if err != nil {
				return nil, err
			}
			return initDoc{Store: o.Store.dir(e), Author: authorOf(key).String(), Created: created}, nil
		},
	}
}

func (d initDoc) quiet() string { return d.Author }

func (d initDoc) renderText(t *text) {
	t.field("store", "%s", d.Store)
	t.field("author", "%s", d.Author)
}
