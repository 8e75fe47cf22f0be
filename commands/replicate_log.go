package commands

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"dibber/netkit/logstore"

	"github.com/urfave/cli/v2"
)

// logOptions are the flags and arguments of the log commands.
type logOptions struct {
	Store storeOptions
	Name  string
	Text  *string // nil means that the payload is in a file or on stdin
	File  string
	Lines bool
	From  uint64
	To    uint64
	Raw   bool

	Last   uint64
	Follow bool
}

// logDoc is what a store knows of a log.
type logDoc struct {
	Author string  `json:"author"`
	Log    uint64  `json:"log"`
	Name   *string `json:"name"` // null for the logs of others
	Mine   bool    `json:"mine"`
	Height uint64  `json:"height"` // number of the last entry; 0 when there is none
	Head   *string `json:"head"`   // its id
	Bytes  uint64  `json:"bytes"`  // of all payloads
	Ended  bool    `json:"ended"`
	Fork   *uint64 `json:"fork"` // the lowest number that two entries have; null when no fork is known
}

func describeLog(h logstore.Head) logDoc {
	d := logDoc{Author: h.Author.String(), Log: h.Log, Name: known(h.Name), Mine: h.Mine, Height: h.Height, Bytes: h.Bytes, Ended: h.Ended}
	if h.Height > 0 {
		d.Head = known(h.ID.String())
	}
	if h.Fork > 0 {
		d.Fork = &h.Fork
	}
	return d
}

func (d logDoc) quiet() string { return d.Author + "/" + strconv.FormatUint(d.Log, 10) }

func (d logDoc) renderText(t *text) {
	t.field("log", "%s", d.quiet())
	if d.Name != nil {
		t.field("name", "%s", *d.Name)
	}
}

func newReplicateLog(*env) spec {
	return spec{
		name: "log", usage: "write and read logs",
		about: `A log of one's own goes by the name it was created with, any log by AUTHOR/NUMBER. While dibber replicate run or dibber
serve --replicate has the store open, these commands go through its control socket in the folder of the store.`,
		examples:    []string{"dibber replicate log create notes", "dibber replicate log append notes 'hello'", "dibber replicate log tail notes --follow"},
		subcommands: []spec{newLogCreate(), newLogLs(), newLogAppend(), newLogCat(), newLogTail()},
	}
}

func newLogCreate() spec {
	var o logOptions
	return spec{
		name: "create", usage: "begin a log", args: "NAME",
		examples: []string{"dibber replicate log create notes", "dibber replicate log create notes --store logs", "dibber replicate log create notes -q"},
		flags:    storeFlags(&o.Store), options: &o, doc: logDoc{},
		validate: func(args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("replicate log create needs one NAME")
			}
			o.Name = args[0]
			return nil
		},
		run: func(ctx context.Context, out *output) (any, error) {
			var doc any
			err := o.Store.book(ctx, out, func(b logbook) error {
				d, err := b.create(ctx, o.Name)
				if err == nil {
					doc = d
				}
				return err
			})
			return doc, err
		},
	}
}

// logsDoc lists the logs of a store.
type logsDoc struct {
	Logs []logDoc `json:"logs"`
}

func newLogLs() spec {
	var o logOptions
	return spec{
		name: "ls", usage: "list the logs of the store",
		examples: []string{"dibber replicate log ls", "dibber replicate log ls --json", "dibber replicate log ls --store logs"},
		flags:    storeFlags(&o.Store), options: &o, doc: logsDoc{},
		run: func(ctx context.Context, out *output) (any, error) {
			var doc any
			err := o.Store.book(ctx, out, func(b logbook) error {
				d, err := b.logs(ctx)
				if err == nil {
					doc = d
				}
				return err
			})
			return doc, err
		},
	}
}

func (d logsDoc) quiet() string { return strconv.Itoa(len(d.Logs)) }

func (d logsDoc) renderText(t *text) {
	if len(d.Logs) == 0 {
		t.line("no logs")
		return
	}
	var rows [][]string
	for _, l := range d.Logs {
		name, state := "–", ""
		if l.Name != nil {
			name = *l.Name
		}
		if l.Ended {
			state = "ended"
		}
		if l.Fork != nil {
			state = fmt.Sprintf("forked at %d", *l.Fork)
		}
		rows = append(rows, []string{name, strconv.FormatUint(l.Height, 10), sizeText(l.Bytes), l.quiet(), state})
	}
	t.table([]string{"NAME", "ENTRIES", "BYTES", "LOG", "STATE"}, rows)
}

// appendDoc says what was added to a log.
type appendDoc struct {
	Author string  `json:"author"`
	Log    uint64  `json:"log"`
	Count  int     `json:"count"`
	First  *uint64 `json:"first"` // number of the first entry added; null if there was none
	Last   *uint64 `json:"last"`
	Head   *string `json:"head"` // id of the last one
	Bytes  uint64  `json:"bytes"`
}

// appendedEvent says that entries are on disk.
type appendedEvent struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Head  string `json:"head"`
}

func newLogAppend() spec {
	var o logOptions
	return spec{
		name: "append", usage: "sign entries and add them to a log", args: "NAME [TEXT|-]",
		about: "The payload is TEXT, or stdin, or a file, as one entry or as one a line. What is reported, also by each event of --ndjson, is on disk.",
		examples: []string{
			"dibber replicate log append notes 'hello'", "dibber replicate log append notes --file photo.jpg",
			"dibber replicate log append notes - --lines",
		},
		flags: append([]cli.Flag{
			&cli.StringFlag{Name: "file", Usage: "take the payload from `FILE`", Destination: &o.File},
			&cli.BoolFlag{Name: "lines", Usage: "make one entry of each line", Destination: &o.Lines},
		}, storeFlags(&o.Store)...),
		options: &o, doc: appendDoc{}, events: []event{{"appended", appendedEvent{}}},
		validate: func(args []string) error {
			switch {
			case len(args) == 0 || len(args) > 2:
				return usagef("replicate log append needs a NAME, and TEXT, - or --file")
			case (len(args) == 2) == (o.File != ""):
				return usagef("replicate log append needs one of TEXT, - and --file")
			}
			if o.Name = args[0]; len(args) == 2 && args[1] != "-" {
				o.Text = &args[1]
			}
			return nil
		},
		run: func(ctx context.Context, out *output) (any, error) {
			var doc *appendDoc
			err := o.Store.book(ctx, out, func(b logbook) (err error) {
				doc, err = o.append(ctx, out, b)
				return err
			})
			if _, behind := errors.AsType[*logstore.LostError](err); behind {
				f, _ := replicateFailure(err)
				f.Exit, f.Err = exitFalse, err // whether it may sign is the question here, and the answer is no, as for every store behind its guard
				err = &f
			}
			if doc == nil || err != nil && doc.Count == 0 {
				return nil, err
			}
			return *doc, err
		},
	}
}

// append adds the payloads. What was added before an error is in the document.
func (o *logOptions) append(ctx context.Context, out *output, b logbook) (doc *appendDoc, err error) {
	src := out.stdin()
	switch {
	case o.Text != nil:
		src = bytes.NewReader([]byte(*o.Text))
	case o.File != "":
		f, err := os.Open(o.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		src = f
	}
	add := func(added appendDoc, err error) error {
		if doc == nil && err == nil {
			doc = &appendDoc{Author: added.Author, Log: added.Log}
		}
		if added.Count == 0 {
			return err
		}
		if doc.First == nil {
			doc.First = added.First
		}
		doc.Last, doc.Head = added.Last, added.Head
		doc.Count += added.Count
		doc.Bytes += added.Bytes
		out.event("appended", appendedEvent{First: *added.First, Last: *added.Last, Head: *added.Head})
		return err
	}
	if !o.Lines {
		return doc, add(b.append(ctx, o.Name, src))
	}
	if err := add(b.appendLines(ctx, o.Name, nil)); err != nil { // tells before anything is read whether it can be done
		return doc, err
	}
	return doc, eachBatch(ctx, src, func(lines [][]byte) error { return add(b.appendLines(ctx, o.Name, lines)) })
}

const (
	// maxLine is the longest line in bytes that --lines takes.
	maxLine = 1 << 20
	// linesAtOnce is how many lines become durable together when they come faster than the disk, and bytesAtOnce from how many bytes on
	// there are no more of them.
	linesAtOnce = 512
	bytesAtOnce = 1 << 20
)

// eachBatch hands lines on: all those that are there already together, and the last one as soon as it is there.
func eachBatch(ctx context.Context, src io.Reader, add func(lines [][]byte) error) error {
	r := bufio.NewReaderSize(src, maxLine)
	var lines [][]byte
	size := 0
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return errors.Join(add(lines), usagef("a line is longer than %d bytes", maxLine))
		}
		if len(line) > 0 {
			lines = append(lines, bytes.Clone(bytes.TrimSuffix(line, []byte("\n"))))
			size += len(line)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(add(lines), fmt.Errorf("read lines: %w", err))
		}
		if len(lines) > 0 && (len(lines) == linesAtOnce || size >= bytesAtOnce || r.Buffered() == 0 || err != nil) {
			if err := add(lines); err != nil {
				return err
			}
			lines, size = nil, 0
		}
		if err != nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(add(lines), context.Cause(ctx))
		}
	}
}

func (d appendDoc) quiet() string {
	if d.Head == nil {
		return ""
	}
	return *d.Head
}

func (d appendDoc) renderText(t *text) {
	switch {
	case d.Count == 0:
		t.line("nothing added")
	case d.Count == 1:
		t.line("entry %d  %s  %s", *d.Last, sizeText(d.Bytes), *d.Head)
	default:
		t.line("entries %d to %d  %s  %s", *d.First, *d.Last, sizeText(d.Bytes), *d.Head)
	}
}
