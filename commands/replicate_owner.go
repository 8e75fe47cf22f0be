package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"dibber/netkit/bamboo"
	"dibber/netkit/control"
	"dibber/netkit/host"
	"dibber/netkit/replicate"
)

// openingDoc answers whose store is behind a socket.
type openingDoc struct {
	Store string `json:"store"`
	PID   int    `json:"pid"`
}

// socket lets the commands of other processes into a store that this one has open, at a control socket in the folder of the store.
func (o *storeOptions) socket(ctx context.Context, out *output, n *host.Node, r *replicate.Replica) (*control.Service, error) {
	dir := o.dir(out.e)
	runtime, _ := out.e.lookup("XDG_RUNTIME_DIR")
	b := &ownBook{e: out.e, store: o, s: r.Store, add: r.Append}
	verbs := append(b.verbs(dir), control.Verb{Pattern: "POST /bundle", Stream: func(ctx context.Context, _ control.Call, body io.Reader, w io.Writer) error {
		return streamImport(ctx, r, body, w)
	}}, (&lending{n: n, replica: r, logs: dir}).verb())
	return control.New(ctx, control.Config{Dir: dir, Runtime: runtime, Verbs: verbs})
}

// verbs are what can be asked of the store.
func (b *ownBook) verbs(dir string) []control.Verb {
	verb := func(pattern string, do func(ctx context.Context, c control.Call) (any, error), query ...string) control.Verb {
		return control.Verb{Pattern: pattern, Query: query, Do: func(ctx context.Context, c control.Call) ([]byte, error) {
			doc, err := do(ctx, c)
			if err != nil {
				return nil, refusalOf(err)
			}
			return encode(doc)
		}}
	}
	return []control.Verb{
		verb("GET /store", func(_ context.Context, c control.Call) (any, error) { return b.opening(dir, c.Value("dir")) }, "dir"),
		verb("GET /logs", func(ctx context.Context, _ control.Call) (any, error) { return b.logs(ctx) }),
		verb("POST /logs", func(ctx context.Context, c control.Call) (any, error) { return b.create(ctx, c.Value("name")) }, "name"),
		verb("GET /stats", func(ctx context.Context, _ control.Call) (any, error) { return b.stats(ctx) }),
		verb("GET /verification", func(ctx context.Context, _ control.Call) (any, error) { return b.verify(ctx, nil) }),
		verb("GET /forks", func(ctx context.Context, _ control.Call) (any, error) { return b.forks(ctx) }),
		{Pattern: "POST /entries", Query: []string{"log", "lines"}, Stream: b.streamAppend},
		{Pattern: "GET /entries", Query: []string{"log", "from", "to", "last", "follow"}, Stream: b.streamEntries},
		{Pattern: "GET /bundle", Query: []string{"authors"}, Stream: b.streamExport},
		{Pattern: "GET /payloads/{hash}", Stream: func(ctx context.Context, c control.Call, _ io.Reader, w io.Writer) error {
			hash, err := bamboo.ParseHash(c.Value("hash"))
			if err != nil {
				return refusalOf(usagef("%w", err))
			}
			return refusalOf(b.payload(ctx, hash, w))
		}},
	}
}

// opening tells who has the store open, to those who mean this one: a copy of its folder may have a copy of the way to the socket.
func (b *ownBook) opening(dir, meant string) (openingDoc, error) {
	doc := openingDoc{Store: dir, PID: os.Getpid()}
	if meant == "" {
		return doc, nil
	}
	own, err := os.Stat(dir)
	if err != nil {
		return doc, err
	}
	other, err := os.Stat(meant)
	if err != nil || !os.SameFile(own, other) {
		return doc, &failure{Exit: exitNotFound, Code: "other_store", Phase: "control", Err: fmt.Errorf("the store here is %s, not %s", dir, meant)}
	}
	return doc, nil
}

// streamAppend adds the body as an entry, or each of its lines.
func (b *ownBook) streamAppend(ctx context.Context, c control.Call, body io.Reader, w io.Writer) error {
	var doc appendDoc
	var err error
	if c.Value("lines") == "" {
		doc, err = b.append(ctx, c.Value("log"), body)
	} else {
		// What does not fit is more than a caller that knows when something is durable sends at once.
		doc, err = b.appendBody(ctx, c.Value("log"), io.LimitReader(body, bytesAtOnce+maxLine))
	}
	if err != nil {
		return refusalOf(err)
	}
	data, err := encode(doc)
	if err == nil {
		_, err = w.Write(append(data, '\n'))
	}
	return err
}

func (b *ownBook) appendBody(ctx context.Context, name string, body io.Reader) (appendDoc, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return appendDoc{}, err
	}
	if len(data) == bytesAtOnce+maxLine {
		return appendDoc{}, usagef("lines of %d bytes and more together: send fewer at once", len(data))
	}
	var lines [][]byte
	if len(data) > 0 {
		lines = bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	}
	return b.appendLines(ctx, name, lines)
}

// streamEntries writes the log, then its entries, then an end, each as JSON on a line.
func (b *ownBook) streamEntries(ctx context.Context, c control.Call, _ io.Reader, w io.Writer) error {
	q := entryQuery{Name: c.Value("log"), Follow: c.Value("follow") != ""}
	for name, dest := range map[string]*uint64{"from": &q.From, "to": &q.To, "last": &q.Last} {
		n, err := strconv.ParseUint(c.Value(name), 10, 64)
		if err != nil {
			return refusalOf(usagef("%s: %q is no number", name, c.Value(name)))
		}
		*dest = n
	}
	write := func(doc any) error {
		line, err := json.Marshal(doc)
		if err == nil {
			_, err = w.Write(append(line, '\n'))
		}
		return err
	}
	err := b.read(ctx, q, func(d logDoc) error { return write(streamLine{Log: &d}) }, func(l entryLine) error { return write(streamLine{Entry: &l}) })
	if err != nil {
		return refusalOf(err)
	}
	return write(streamLine{End: true})
}

// streamLine is a line of streamEntries. Exactly one field is set.
type streamLine struct {
	Log   *logDoc    `json:"log,omitempty"`
	Entry *entryLine `json:"entry,omitempty"`
	End   bool       `json:"end,omitempty"`
}
