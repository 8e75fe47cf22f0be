package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"dibber/netkit/backup"
	"dibber/netkit/control"
	"dibber/netkit/serve"
	"dibber/netkit/store"

	"github.com/urfave/cli/v2"
)

// backupDoc is a backup, made or put back.
type backupDoc struct {
	File     string     `json:"file"`
	StateDir *string    `json:"state_dir,omitempty"` // of restore: where it was put
	Node     *string    `json:"node"`                // the peer id; null: it was not made
	Made     *time.Time `json:"made"`                // null: it was not
	Files    *int       `json:"files"`
	Bytes    *int64     `json:"bytes"` // of the files
	// Elsewhere is what the node keeps that is not in the file, and where: a shared registry, stores outside of the state folder.
	Elsewhere *[]string `json:"elsewhere"`
}

func (d *backupDoc) is(m backup.Manifest) {
	d.Node, d.Made, d.Files, d.Bytes = &m.Node, &m.Made, new(len(m.Files)), new(m.Bytes())
	elsewhere := append([]string{}, m.Elsewhere...)
	d.Elsewhere = &elsewhere
}

func newCtlBackup(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "backup", usage: "put all that the node keeps into a file, while it runs", args: "<FILE>", doc: backupDoc{}, timeout: time.Hour,
		about: `The file is a tar archive of the state folder with the node's key, its registrations, records, logs and blocks, each database as
it is at one moment, and is read again before it takes its name. Keep it as you keep the key. What is kept elsewhere than in the state
folder is not in it, which is shown: stores, and registrations in a registry that is shared (serve --registry), which is backed up where
it is. Nor is what the node notes of its own logs to not sign twice: after dibber restore, dibber replicate recover comes first.`,
		examples: []string{
			"dibber ctl backup dibber.tar", "dibber ctl backup /mnt/backups/$(date +%F).tar --state-dir /var/lib/dibber", "dibber ctl backup dibber.tar --json",
		},
	}, func(args []string) error {
		if len(args) != 1 {
			return usagef("ctl backup takes the name of one file, but got %d", len(args))
		}
		return nil
	}, func(ctx context.Context, out *output) (any, error) {
		doc := backupDoc{File: o.args[0]}
		m, err := o.backup(ctx, out)
		if err == nil {
			doc.is(m)
		}
		return doc, err
	})
}

// backup has the node write into a new file, which has its name when it is whole and on disk.
func (o *ctlOptions) backup(ctx context.Context, out *output) (m backup.Manifest, err error) {
	name := o.args[0]
	if _, err := os.Lstat(name); err == nil {
		return m, usagef("%s is already there; a backup is never overwritten", name)
	}
	socket, err := o.socket(out)
	if err != nil {
		return m, err
	}
	from, err := control.Client{Socket: socket}.Stream(ctx, http.MethodGet, "/backup", nil)
	if err != nil {
		return m, err
	}
	defer from.Close() // all was read, or the error is told
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.part")
	if err != nil {
		return m, fmt.Errorf("write backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, from)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		m, err = backup.Verify(f)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return m, fmt.Errorf("write backup: %w", err)
	}
	// A link, unlike a rename, replaces nothing.
	if err := os.Link(f.Name(), name); err != nil {
		return m, fmt.Errorf("write backup: %w", err)
	}
	return m, os.Remove(f.Name())
}

// keeps is what of the state folder this process has open.
type keeps struct {
	registry, records *store.DB // nil without
	shared            string    // where registrations are shared; empty: nowhere
	logs              *serve.Replicate
	logsDir           string
	blocks            *servedStore // nil without
}

// source describes the state folder to who backs it up.
func (k keeps) source(dir, node string) (src backup.Source, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return src, err
	}
	src = backup.Source{Dir: dir, Node: node, Open: make(map[string]func(string) error), Skip: []string{"guard"}}
	add := func(at string, copyTo func(string) error, skip ...string) error {
		at, err := filepath.Abs(at)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil || !filepath.IsLocal(rel) {
			src.Elsewhere = append(src.Elsewhere, at)
			return nil
		}
		src.Open[filepath.ToSlash(filepath.Join(rel, "db"))] = copyTo
		for _, s := range skip {
			src.Skip = append(src.Skip, filepath.ToSlash(filepath.Join(rel, s)))
		}
		return nil
	}
	if k.shared != "" {
		src.Elsewhere = append(src.Elsewhere, "registrations in "+k.shared)
	}
	if k.registry != nil {
		src.Open["registry"] = k.registry.Checkpoint
	}
	if k.records != nil {
		src.Open["dht"] = k.records.Checkpoint
	}
	if k.logs != nil {
		err = add(k.logsDir, k.logs.Replica.Store.Checkpoint, "payloads/part")
	}
	if k.blocks != nil {
		err = errors.Join(err, add(k.blocks.dir, k.blocks.Checkpoint, "files/part"))
	}
	return src, err
}

// backup writes the state folder to who asked.
func (op *operator) backup(ctx context.Context, _ control.Call, _ io.Reader, w io.Writer) error {
	src, err := op.keeps.source(op.dir, op.n.ID().String())
	if err != nil {
		return refusalOf(err)
	}
	_, err = backup.Write(ctx, w, src, time.Now())
	if err == nil {
		op.out.log.Info("backed up")
	}
	return refusalOf(err)
}

// restoreOptions are the flags and arguments of restore.
type restoreOptions struct {
	Host hostOptions // of which only the state folder
	File string
}

func newRestore(*env) spec {
	o := new(restoreOptions)
	return spec{
		name: "restore", usage: "put back what dibber ctl backup made", args: "<FILE>", doc: backupDoc{},
		about: `The state folder must be empty, or not exist. It is there as a whole afterwards, or not at all: an archive that was cut or altered
is found out. The node has the key of the one that was backed up, so only one of them may run. Own logs are not signed before dibber
replicate recover has seen what others have of them.`,
		examples: []string{"dibber restore dibber.tar", "dibber restore dibber.tar --state-dir /var/lib/dibber", "dibber restore dibber.tar --state-dir copy --json"},
		flags:    []cli.Flag{stateDirFlag(&o.Host)},
		options:  o,
		validate: func(args []string) error {
			if len(args) != 1 {
				return usagef("restore takes the name of one file, but got %d", len(args))
			}
			o.File = args[0]
			return nil
		},
		run: func(_ context.Context, out *output) (any, error) {
			dir := o.Host.stateDir(out.e)
			doc := backupDoc{File: o.File, StateDir: &dir}
			f, err := os.Open(o.File)
			if err != nil {
				return doc, err
			}
			defer f.Close() // it was only read
			m, err := backup.Restore(f, dir)
			if err == nil {
				doc.is(m)
			}
			return doc, err
		},
	}
}

// backupFailure gives the errors of backups their class.
func backupFailure(err error) (failure, bool) {
	switch {
	case errors.Is(err, backup.ErrArchive):
		return failure{Exit: exitIdentity, Code: "bad_backup", Phase: "restore", Hint: "nothing was put in place; take another copy of the file"}, true
	case errors.Is(err, backup.ErrNewer):
		return failure{Exit: exitProtocol, Code: "newer_backup", Phase: "restore", Hint: "a newer dibber made it; restore it with that one"}, true
	case errors.Is(err, backup.ErrNotEmpty):
		return failure{Exit: exitUsage, Code: "not_empty", Phase: "restore", Hint: "choose another --state-dir, or move that one away"}, true
	case errors.Is(err, fs.ErrExist) && errors.As(err, new(*os.LinkError)):
		return failure{Exit: exitUsage, Code: "exists", Phase: "backup", Hint: "a backup is never overwritten"}, true
	}
	return failure{}, false
}

func (d backupDoc) renderText(t *text) {
	if d.Node == nil {
		return
	}
	t.line("node    %s", *d.Node)
	t.line("made    %s", d.Made.Local().Format(time.DateTime))
	t.line("files   %d, %s", *d.Files, sizeText(uint64(*d.Bytes)))
	for _, e := range *d.Elsewhere {
		t.line("not in  %s", plainText(e))
	}
	if d.StateDir == nil {
		t.line("file    %s", d.File)
		return
	}
	t.line("state   %s", *d.StateDir)
	t.line("next    dibber serve --state-dir %s; for own logs first dibber replicate recover", *d.StateDir)
}

func (d backupDoc) quiet() string {
	if d.Node == nil {
		return ""
	}
	return *d.Node
}
