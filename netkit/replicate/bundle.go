package replicate

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/wire"
)

// A bundle is a store, or some logs of it, as a file or on a link that leads one way only. After its magic come frames as those of the
// protocol: for each log, those of grants first, its head, then its runs from the first entry on, each followed by the files it names
// (get, file, fileEnd); the proofs of forks, and the count of all entries at the end (fin).
const bundleMagic = "dibber logs 1\n"

// ErrBundle is returned for what is not a whole bundle.
var ErrBundle = errors.New("malformed bundle")

// BundleReport is what was written to, or read from, a bundle.
type BundleReport struct {
	Logs    int    `json:"logs"`
	Entries int    `json:"entries"` // in the bundle
	Bytes   uint64 `json:"bytes"`   // of their payloads
	Added   int    `json:"added"`   // entries that were new here
	Refused int    `json:"refused"` // logs
	Forks   []Fork `json:"forks"`   // that were found
	// Reason is why the first log was refused.
	Reason string `json:"-"`
}

// Export writes all logs, or those of some authors, to a bundle.
func (r *Replica) Export(ctx context.Context, dst io.Writer, authors []bamboo.Author) (report BundleReport, err error) {
	v, err := r.Store.View()
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	w := bufio.NewWriterSize(dst, partFrame)
	if _, err := w.WriteString(bundleMagic); err != nil {
		return report, err
	}
	e := exporter{s: session{replica: r, view: v}, w: w, report: &report}
	wanted := func(a bamboo.Author) bool { return authors == nil || slices.Contains(authors, a) }
	logs := func(grants bool) error {
		return v.Heads(func(h logstore.Head) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if h.Height == 0 || !wanted(h.Author) {
				return nil
			}
			if of, err := ofGrants(v, &h); err != nil || of != grants {
				return err
			}
			return e.log(headOf(&h))
		})
	}
	// Grants first: who reads the bundle takes what they let write only when they are there.
	if err = logs(true); err == nil {
		err = logs(false)
	}
	if err == nil {
		err = v.Forks(func(f logstore.Fork) error {
			if !wanted(f.Author) {
				return nil
			}
			return e.frame(encodeProof(f.Kept.Raw, f.Other.Raw))
		})
	}
	if err == nil {
		err = e.frame(encodeNumber(kindFin, uint64(report.Entries)))
	}
	if err == nil {
		err = w.Flush()
	}
	return report, err
}

// exporter writes a bundle.
type exporter struct {
	s      session
	w      *bufio.Writer
	report *BundleReport
}

func (e *exporter) frame(frame []byte) error { return wire.WriteFrame(e.w, frame, maxFrame) }

func (e *exporter) log(h head) error {
	if err := e.frame(encodeHeads([]head{h}, goesOn)); err != nil {
		return err
	}
	e.report.Logs++
	e.report.Bytes += h.bytes
	for run := (sending{logID: h.logID, next: 1, to: h.height}); run.next <= run.to; {
		records, err := e.s.collect(&run)
		if errors.Is(err, errUnprovable) {
			return fmt.Errorf("log %d by %s: entries from %d on: %w", h.log, h.author, run.next, err)
		}
		if err != nil {
			return err
		}
		if err := e.frame(encodeRun(0, records)); err != nil {
			return err
		}
		run.next += uint64(len(records))
		e.report.Entries += len(records)
		for _, f := range filesOf(records) {
			if err := e.file(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *exporter) file(f fileWant) error {
	if err := e.frame(f.encode()); err != nil {
		return err
	}
	if err := e.s.replica.Store.ReadPayload(partWriter{e}, f.hash); err != nil {
		return err
	}
	return e.frame([]byte{byte(kindFileEnd), 1})
}

// partWriter cuts a file into frames.
type partWriter struct{ e *exporter }

func (w partWriter) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, fileChunk) {
		if err := w.e.frame(append([]byte{byte(kindFile)}, part...)); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// filesOf are the files that entries name, each once.
func filesOf(records []logstore.Record) (out []fileWant) {
	for i := range records {
		if r := &records[i]; r.PayloadSize > logstore.InlineMax {
			out = append(out, fileWant{hash: r.PayloadHash, size: r.PayloadSize})
		}
	}
	// In one order everywhere, so that no two sessions wait for each other.
	slices.SortFunc(out, func(a, b fileWant) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	return slices.CompactFunc(out, func(a, b fileWant) bool { return a.hash == b.hash })
}
