package commands

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/control"
	"dibber/netkit/logstore"
	"dibber/netkit/store"
)

const (
	// lockPatience is how long a store is waited for that a process has open which will soon be done with it.
	lockPatience = 5 * time.Second
	lockRetry    = 20 * time.Millisecond
)

// book calls fn with the store: opened here, or through the process that has it open and listens.
func (o *storeOptions) book(ctx context.Context, out *output, fn func(logbook) error) (err error) {
	cfg, err := o.config(out.e)
	if err != nil {
		return err
	}
	cfg.Readable = true // what is there can be read on any disk
	s, far, err := openOrReach(ctx, cfg)
	switch {
	case err != nil:
		return err
	case far != nil:
		return fn(far)
	}
	defer closing(&err, s.Close)
	return fn(&ownBook{e: out.e, store: o, s: s, add: s.Append})
}

// openOrReach opens a store, or finds who has it open.
func openOrReach(ctx context.Context, cfg logstore.Config) (*logstore.Store, *farBook, error) {
	ended := time.Now().Add(lockPatience)
	for {
		s, err := logstore.Open(cfg)
		if _, locked := errors.AsType[*store.LockedError](err); !locked {
			return s, nil, err
		}
		if far := ownerOf(ctx, cfg.Dir); far != nil {
			return nil, far, nil
		}
		if time.Now().After(ended) {
			return nil, nil, err
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// openStore opens a store that must be this process's own.
func openStore(ctx context.Context, cfg logstore.Config) (*logstore.Store, error) {
	s, far, err := openOrReach(ctx, cfg)
	if far != nil {
		return nil, &failure{
			Code: "locked", Phase: "open", Err: &store.LockedError{Dir: cfg.Dir, PID: far.pid},
			Hint: "end that process first; replicate log, export, import, sync, stats, forks and verify go through it",
		}
	}
	return s, err
}

// ownerOf returns the process that has a store open and listens; nil if there is none.
func ownerOf(ctx context.Context, dir string) *farBook {
	socket, err := control.Find(dir)
	if err != nil {
		return nil
	}
	b := &farBook{c: control.Client{Socket: socket}}
	var doc openingDoc
	ctx, cancel := context.WithTimeout(ctx, ctlTimeout)
	defer cancel()
	if err := b.c.Do(ctx, http.MethodGet, "/store?dir="+url.QueryEscape(dir), nil, &doc); err != nil {
		return nil // nobody's, or another store's
	}
	b.pid = doc.PID
	return b
}

// farBook is a store that another process has open.
type farBook struct {
	c   control.Client
	pid int
}

func (b *farBook) ask(ctx context.Context, method, path string, answer any) error {
	return b.c.Do(ctx, method, path, nil, answer)
}

func (b *farBook) logs(ctx context.Context) (doc logsDoc, err error) {
	return doc, b.ask(ctx, http.MethodGet, "/logs", &doc)
}

func (b *farBook) create(ctx context.Context, name string) (doc logDoc, err error) {
	return doc, b.ask(ctx, http.MethodPost, "/logs?name="+url.QueryEscape(name), &doc)
}

func (b *farBook) stats(ctx context.Context) (doc statsDoc, err error) {
	return doc, b.ask(ctx, http.MethodGet, "/stats", &doc)
}

func (b *farBook) forks(ctx context.Context) (doc forksDoc, err error) {
	return doc, b.ask(ctx, http.MethodGet, "/forks", &doc)
}

func (b *farBook) verify(ctx context.Context, _ func(int)) (doc verifyDoc, err error) {
	return doc, b.ask(ctx, http.MethodGet, "/verification", &doc)
}

func (b *farBook) append(ctx context.Context, name string, src io.Reader) (appendDoc, error) {
	// The other side waits for a body that has begun: what a person types comes as a whole.
	start, err := io.ReadAll(io.LimitReader(src, logstore.InlineMax+1))
	if err != nil {
		return appendDoc{}, fmt.Errorf("read payload: %w", err)
	}
	return b.post(ctx, "/entries?log="+url.QueryEscape(name), io.MultiReader(bytes.NewReader(start), src))
}

func (b *farBook) appendLines(ctx context.Context, name string, lines [][]byte) (appendDoc, error) {
	body := append(bytes.Join(lines, []byte("\n")), '\n')
	if len(lines) == 0 {
		body = nil
	}
	return b.post(ctx, "/entries?lines=1&log="+url.QueryEscape(name), bytes.NewReader(body))
}

func (b *farBook) post(ctx context.Context, path string, body io.Reader) (doc appendDoc, err error) {
	got, err := b.c.Stream(ctx, http.MethodPost, path, body)
	if err != nil {
		return doc, err
	}
	defer got.Close()
	if err := json.NewDecoder(got).Decode(&doc); err != nil {
		return doc, b.lost(ctx, err)
	}
	return doc, nil
}

func (b *farBook) read(ctx context.Context, q entryQuery, head func(logDoc) error, fn func(entryLine) error) error {
	query := url.Values{"log": {q.Name}}
	for name, n := range map[string]uint64{"from": q.From, "to": q.To, "last": q.Last} {
		query.Set(name, strconv.FormatUint(n, 10))
	}
	if q.Follow {
		query.Set("follow", "1")
	}
	got, err := b.c.Stream(ctx, http.MethodGet, "/entries?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer got.Close()
	lines := json.NewDecoder(bufio.NewReader(got))
	for {
		var line streamLine
		if err := lines.Decode(&line); err != nil {
			return b.lost(ctx, err)
		}
		switch {
		case line.End:
			return nil
		case line.Log != nil:
			err = head(*line.Log)
		case line.Entry != nil:
			err = fn(*line.Entry)
		}
		if err != nil {
			return err
		}
	}
}

func (b *farBook) payload(ctx context.Context, hash bamboo.Hash, w io.Writer) error {
	got, err := b.c.Stream(ctx, http.MethodGet, "/payloads/"+hash.String(), nil)
	if err != nil {
		return err
	}
	defer got.Close()
	if _, err := io.Copy(w, got); err != nil {
		return b.lost(ctx, err)
	}
	return nil
}

// errOwnerLost means that the process that had the store open has ended.
var errOwnerLost = errors.New("the process that had the store open has ended")

// lost says what an answer means that was cut.
func (b *farBook) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &failure{Exit: exitUnreachable, Code: "connection_lost", Phase: "control", Retryable: true, Err: fmt.Errorf("%w: process %d: %w", errOwnerLost, b.pid, err)}
}
