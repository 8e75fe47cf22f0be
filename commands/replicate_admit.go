package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/replicate"

	"github.com/urfave/cli/v2"
)

// admitOptions say whose entries are taken, and how many.
type admitOptions struct {
	Authors      []string // keys, or @file
	Namespaces   []string // keys, or @file
	Any          bool
	PerAuthor    uint64 // bytes of payload; 0 means any number, as in the next three
	PerPeer      uint64
	PerNamespace uint64
	Total        uint64
	MinFree      uint64 // bytes; 0 leaves it to the store
}

// admitFlags declares the flags of every command that takes entries.
func admitFlags(o *admitOptions) []cli.Flag {
	bytes := func(name, usage string, dest *uint64) cli.Flag {
		return &cli.Uint64Flag{Category: groupStore, Name: name, Usage: usage, Destination: dest}
	}
	return []cli.Flag{
		listFlag(groupStore, "allow-author", "take entries of the author `KEY`, or of those in @FILE; the store's own author and those it has logs of are taken anyway (repeatable)", &o.Authors),
		listFlag(groupStore, "namespace-key", "take entries of the author `KEY`, and of those that it let write with replicate grant (repeatable, @FILE)", &o.Namespaces),
		&cli.BoolFlag{Category: groupStore, Name: "accept-any", Usage: "take entries of any author", Destination: &o.Any},
		bytes("quota-author", "take no more than `BYTES` of payload of one author; 0 means any", &o.PerAuthor),
		bytes("quota-peer", "take no more than `BYTES` of payload from one peer during the run; 0 means any", &o.PerPeer),
		bytes("quota-namespace", "take no more than `BYTES` of payload of all authors of one --namespace-key; 0 means any", &o.PerNamespace),
		bytes("quota-store", "let the store hold no more than `BYTES` of payload; 0 means any", &o.Total),
		bytes("min-free", "take nothing that leaves less than `BYTES` free on the disk; 0 means 67108864", &o.MinFree),
	}
}

func (o *admitOptions) validate() error {
	switch {
	case o.Any && len(o.Authors)+len(o.Namespaces) > 0:
		return usagef("--accept-any excludes --allow-author and --namespace-key")
	case o.PerNamespace > 0 && len(o.Namespaces) == 0:
		return usagef("--quota-namespace needs --namespace-key")
	}
	return errors.Join(checkAuthors("--allow-author", o.Authors), checkAuthors("--namespace-key", o.Namespaces))
}

// checkAuthors refuses values of a flag that are neither a key nor @file.
func checkAuthors(flag string, values []string) error {
	for _, a := range values {
		if strings.HasPrefix(a, "@") {
			continue
		}
		if _, err := bamboo.ParseAuthor(a); err != nil {
			return usagef("%s: %w", flag, err)
		}
	}
	return nil
}

// authorsOf reads the keys, and the files of keys, that a flag names.
func authorsOf(flag string, values []string) (map[bamboo.Author]bool, error) {
	out := make(map[bamboo.Author]bool)
	for _, a := range values {
		name, file := strings.CutPrefix(a, "@")
		if !file {
			key, err := bamboo.ParseAuthor(a)
			if err != nil {
				return nil, usagef("%s: %w", flag, err)
			}
			out[key] = true
			continue
		}
		if err := readAuthors(name, out); err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
	}
	return out, nil
}

// readAuthors reads a file with one key a line; blank lines and those that begin with # are skipped.
func readAuthors(name string, out map[bamboo.Author]bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := bamboo.ParseAuthor(line)
		if err != nil {
			return usagef("%s: %w", name, err)
		}
		out[key] = true
	}
	return lines.Err()
}

// given reports whether anything is said.
func (o *admitOptions) given() bool {
	return o.Any || len(o.Authors)+len(o.Namespaces) > 0 || o.PerAuthor|o.PerPeer|o.PerNamespace|o.Total|o.MinFree > 0
}

// replica opens the store and lets it take part by the rules.
func (o *admitOptions) replica(ctx context.Context, out *output, store *storeOptions, strict bool) (*replicate.Replica, func() error, error) {
	if lent := out.e.lent; lent != nil {
		r, err := lent.logsOf(store.dir(out.e))
		return r, func() error { return nil }, err
	}
	cfg, rules, err := o.rules(out, store, strict)
	if err != nil {
		return nil, nil, err
	}
	s, err := openStore(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	return replicate.NewReplica(s, rules), s.Close, nil
}

// rules are whose entries the store takes. Without a word about authors those unknown are refused where strict is set, and taken where
// it is not.
func (o *admitOptions) rules(out *output, store *storeOptions, strict bool) (cfg logstore.Config, rules replicate.Rules, err error) {
	if cfg, err = store.config(out.e); err != nil {
		return cfg, rules, err
	}
	cfg.MinFree = o.MinFree
	rules = replicate.Rules{PerAuthor: o.PerAuthor, PerPeer: o.PerPeer, PerNamespace: o.PerNamespace, Total: o.Total}
	if rules.Namespaces, err = authorsOf("--namespace-key", o.Namespaces); err != nil {
		return cfg, rules, err
	}
	if !o.Any && (strict || len(o.Authors)+len(o.Namespaces) > 0) {
		if rules.Authors, err = authorsOf("--allow-author", o.Authors); err != nil {
			return cfg, rules, err
		}
		key, _, err := store.author(out.e, false)
		if err == nil {
			rules.Authors[authorOf(key)] = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return cfg, rules, err
		}
	}
	return cfg, rules, nil
}
