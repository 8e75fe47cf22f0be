package bed

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
)

// Main is the whole of a command that runs the features of peers and prints them as a table. It returns the exit code: 1 if
// something failed.
func Main(peers []Peer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := run(ctx, peers, os.Args[1:])
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interop: interrupted")
	case err != nil:
		fmt.Fprintln(os.Stderr, "interop:", err)
	}
	if failed || err != nil {
		return 1
	}
	return 0
}

func run(ctx context.Context, peers []Peer, args []string) (failed bool, err error) {
	if len(args) > 0 && args[0] == stage {
		return false, runStage(ctx, peers, args[1:])
	}
	flags := flag.NewFlagSet("interop", flag.ExitOnError)
	only := flags.String("only", "", "run these `PEERS` alone, separated by commas")
	asJSON := flags.Bool("json", false, "print one JSON document instead of the table")
	work := flags.String("work", "", "keep programs and logs in `DIR`; default: dibber-interop in the user's cache folder")
	_ = flags.Parse(args) // it exits
	if flags.NArg() > 0 {
		return false, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	chosen, err := choose(peers, *only)
	if err != nil {
		return false, err
	}
	if *work == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return false, err
		}
		*work = filepath.Join(cache, "dibber-interop")
	}
	dir, err := filepath.Abs(*work)
	if err != nil {
		return false, err
	}
	rows, err := matrix(ctx, chosen, dir)
	if err != nil {
		return false, err
	}
	if *asJSON {
		err = json.NewEncoder(os.Stdout).Encode(rows)
	} else {
		err = table(os.Stdout, rows)
	}
	return slices.ContainsFunc(rows, func(r Row) bool { return r.Result == Fail }), err
}

// choose picks the peers that -only names.
func choose(all []Peer, only string) ([]Peer, error) {
	if only == "" {
		return all, nil
	}
	var out []Peer
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(p Peer) bool { return p.Name == name })
		if i < 0 {
			var names []string
			for _, p := range all {
				names = append(names, p.Name)
			}
			return nil, fmt.Errorf("-only: no peer %q; there are %s", name, strings.Join(names, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

func table(to io.Writer, rows []Row) error {
	// A tabwriter keeps its first error and tells it at Flush.
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PEER\tFEATURE\tRESULT\tS\tSEEN, OR WHY NOT")
	counts := make(map[Result]int)
	for _, r := range rows {
		seconds := "–"
		if r.MS > 0 {
			seconds = fmt.Sprintf("%.1f", r.MS/1000)
		}
		_, _ = fmt.Fprintf(w, "%s (%s)\t%s\t%s\t%s\t%s\n", r.Peer, r.Version, r.Feature, r.Result, seconds, r.Text)
		counts[r.Result]++
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to, "\n%d passed, %d failed, %d skipped\n", counts[Pass], counts[Fail], counts[Skipped])
	return err
}
