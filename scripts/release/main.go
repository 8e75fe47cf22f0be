// Command release builds dibber for all systems it is released for, packs each binary with the documents into an archive, and writes
// the hashes of the archives.
//
//	go run ./scripts/release [-out DIR] [-only OS/ARCH,…] [-check [-fresh]]
//
// Whoever builds the same commit with the same version of Go gets the same bytes: paths of the machine, build ids, symbol tables and C code
// are left out, and all files have the time of the commit. -check builds a second time, in a clone elsewhere, and compares; with
// -fresh nothing that was compiled before is used for that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

type options struct {
	out, only    string
	check, fresh bool
}

func main() {
	var o options
	flag.StringVar(&o.out, "out", "dist", "put archives and SHA256SUMS into `DIR`")
	flag.StringVar(&o.only, "only", "", "build for these `OS/ARCH,…` alone")
	flag.BoolVar(&o.check, "check", false, "build twice, the second time in another folder, and compare")
	flag.BoolVar(&o.fresh, "fresh", false, "have -check compile everything again")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	list, err := choose(o.only)
	if err != nil {
		return err
	}
	src, err := sourceIn(ctx, ".")
	if err != nil {
		return err
	}
	if src.changed {
		fmt.Fprintln(os.Stderr, "release: the work tree has changes: nobody else can build what is built now")
	}
	sums, err := src.release(ctx, list, o.out, "")
	if err != nil || !o.check {
		return err
	}
	return src.compare(ctx, list, sums, o.fresh)
}

// compare builds the commit once more.
func (s *source) compare(ctx context.Context, list []target, want []sum, fresh bool) (err error) {
	if s.changed {
		return errors.New("-check builds what is committed, and the work tree has changes")
	}
	tmp, err := os.MkdirTemp("", "dibber-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	again, err := s.clone(ctx, tmp)
	if err != nil {
		return err
	}
	cache := ""
	if fresh {
		cache = tmp + "/cache"
	}
	got, err := again.release(ctx, list, tmp+"/dist", cache)
	if err != nil {
		return err
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("not reproducible: %s has the hash %s, and %s when it is built again", want[i].name, want[i].hash, got[i].hash)
		}
	}
	fmt.Printf("built twice, the same: %d archives\n", len(want))
	return nil
}
