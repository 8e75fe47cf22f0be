package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"dibber/netkit/bamboo"
	"dibber/netkit/replicate"
	"dibber/netkit/store"

	"github.com/urfave/cli/v2"
)

// exportOptions are the flags and arguments of replicate export.
type exportOptions struct {
	Store   storeOptions
	Authors []string
	File    string
}

// exportDoc says what was written.
type exportDoc struct {
	Logs    int    `json:"logs"`
	Entries int    `json:"entries"`
	Bytes   uint64 `json:"bytes"` // of payloads
}

// importDoc says what was read, and what of it was new.
type importDoc struct{ replicate.BundleReport }

func newReplicateExport(*env) spec {
	var o exportOptions
	return spec{
		name: "export", usage: "write the store to a bundle", args: "FILE|-",
		about: `A bundle holds logs with their payloads and is proven by whoever imports it, so it may go over any link: one that leads
one way only, a disk, a pipe. A FILE gets its name once it is whole. A store that replicate run or serve --replicate has open is
read through that process.`,
		examples: []string{"dibber replicate export logs.bundle", "dibber replicate export - | ssh home dibber replicate import -", "dibber replicate export mine.bundle --author cc1e16e77ee458ace078f964df4fc77a4dae3326cd2c7a3ab26f8fd1d593fc49"},
		flags: append([]cli.Flag{
			listFlag("", "author", "write only the logs of the author `KEY` (repeatable)", &o.Authors),
		}, storeFlags(&o.Store)...),
		options: &o, doc: exportDoc{},
		validate: func(args []string) error {
			if len(args) != 1 {
				return usagef("replicate export needs one FILE, or -")
			}
			o.File = args[0]
			_, err := parseAuthors("--author", o.Authors)
			return err
		},
		run: func(ctx context.Context, out *output) (any, error) { return o.export(ctx, out) },
	}
}

func parseAuthors(flag string, keys []string) (out []bamboo.Author, err error) {
	for _, k := range keys {
		a, err := bamboo.ParseAuthor(k)
		if err != nil {
			return nil, usagef("%s: %w", flag, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func (o *exportOptions) export(ctx context.Context, out *output) (doc any, err error) {
	authors, err := parseAuthors("--author", o.Authors)
	if err != nil {
		return nil, err
	}
	var dst io.Writer
	finish := func(failed error) error { return failed }
	if o.File == "-" {
		if dst, err = out.stdout(); err != nil {
			return nil, err
		}
	} else if dst, finish, err = newFile(o.File); err != nil {
		return nil, err
	}
	var report replicate.BundleReport
	err = o.Store.book(ctx, out, func(b logbook) (err error) {
		report, err = b.export(ctx, dst, authors)
		return err
	})
	if err = finish(err); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return exportDoc{Logs: report.Logs, Entries: report.Entries, Bytes: report.Bytes}, nil
}

// newFile makes a file that gets its name when finish is called without an error, and is removed otherwise.
func newFile(name string) (dst io.Writer, finish func(error) error, err error) {
	f, err := os.OpenFile(name+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, func(failed error) error {
		if failed == nil {
			failed = f.Sync()
		}
		if err := errors.Join(failed, f.Close()); err != nil {
			return errors.Join(err, os.Remove(f.Name()))
		}
		return os.Rename(f.Name(), name)
	}, nil
}

func (d exportDoc) renderText(t *text) {
	t.line("logs %d  entries %d  payload %s", d.Logs, d.Entries, sizeText(d.Bytes))
}

func (d exportDoc) quiet() string { return fmt.Sprint(d.Entries) }

// importOptions are the flags and arguments of replicate import.
type importOptions struct {
	Store storeOptions
	Admit admitOptions
	File  string
}

func newReplicateImport(*env) spec {
	var o importOptions
	return spec{
		name: "import", usage: "take what is in a bundle", args: "FILE|-",
		about: `Everything is proven before it is stored. What was taken before a bundle breaks off stays; import it again to go on.
A store that replicate run or serve --replicate has open takes it through that process, by the rules that this was given. The exit
code is 10 if the bundle shows a fork, 6 if logs were refused.`,
		examples: []string{"dibber replicate import logs.bundle", "dibber replicate import - --json", "dibber replicate import logs.bundle --allow-author @authors.txt"},
		flags:    append(storeFlags(&o.Store), admitFlags(&o.Admit)...),
		options:  &o, doc: importDoc{},
		validate: func(args []string) error {
			if len(args) != 1 {
				return usagef("replicate import needs one FILE, or -")
			}
			o.File = args[0]
			return o.Admit.validate()
		},
		run: func(ctx context.Context, out *output) (any, error) { return o.take(ctx, out) },
	}
}

func (o *importOptions) take(ctx context.Context, out *output) (doc any, err error) {
	src := out.stdin()
	if o.File != "-" {
		f, err := os.Open(o.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		src = f
	}
	report, err := o.read(ctx, out, src)
	switch {
	case err != nil:
		return importDoc{report}, fmt.Errorf("import: %w", err)
	case len(report.Forks) > 0:
		f := report.Forks[0]
		return importDoc{report}, &failure{
			Exit: exitFalse, Code: "forked", Hint: "dibber replicate forks",
			Err: fmt.Errorf("log %s/%d is forked at entry %d; logs forked: %d", f.Author, f.Log, f.Seq, len(report.Forks)),
		}
	case report.Refused > 0:
		return importDoc{report}, &failure{
			Exit: exitRefused, Err: &replicate.RefusedError{Logs: report.Refused, Reason: report.Reason},
			Hint: "--allow-author, --accept-any and --quota-… say what is taken",
		}
	}
	return importDoc{report}, nil
}

// read takes a bundle into the store, by way of the process that has it open if there is one.
func (o *importOptions) read(ctx context.Context, out *output, src io.Reader) (report replicate.BundleReport, err error) {
	report.Forks = []replicate.Fork{}
	cfg, rules, err := o.Admit.rules(out, &o.Store, false)
	if err != nil {
		return report, err
	}
	s, far, err := openOrReach(ctx, cfg)
	switch {
	case err != nil:
		return report, err
	case far == nil:
		defer closing(&err, s.Close)
		return replicate.NewReplica(s, rules).Import(ctx, src)
	case o.Admit.given():
		return report, &failure{
			Code: "locked", Phase: "open", Err: &store.LockedError{Dir: cfg.Dir, PID: far.pid},
			Hint: "what is taken is then up to that process: give --allow-author, --accept-any and --quota-… to it, or end it first",
		}
	}
	return far.take(ctx, src)
}

func (d importDoc) renderText(t *text) {
	t.line("logs %d  entries %d, new %d  payload %s", d.Logs, d.Entries, d.Added, sizeText(d.Bytes))
	for _, f := range d.Forks {
		t.line("forked  %s/%d at entry %d", f.Author, f.Log, f.Seq)
	}
	if d.Refused > 0 {
		t.line("refused  logs %d: %s", d.Refused, d.Reason)
	}
}

func (d importDoc) quiet() string { return fmt.Sprint(d.Added) }
