package commands

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"dibber/netkit/bamboo"
	"dibber/netkit/control"
	"dibber/netkit/replicate"
	"dibber/netkit/wire"
)

// bundlePart is how much of a bundle one frame carries on its way out of the process that has the store open. An empty frame ends the
// bundle; the one after it says what was in it.
const bundlePart = 64 << 10

// streamExport writes a bundle in frames.
func (b *ownBook) streamExport(ctx context.Context, c control.Call, _ io.Reader, w io.Writer) error {
	var authors []bamboo.Author
	if text := c.Value("authors"); text != "" {
		var err error
		if authors, err = parseAuthors("authors", strings.Split(text, ",")); err != nil {
			return refusalOf(err)
		}
	}
	report, err := b.export(ctx, frameWriter{w}, authors)
	if err != nil {
		return refusalOf(err)
	}
	if err := wire.WriteFrame(w, nil, bundlePart); err != nil {
		return err
	}
	data, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return wire.WriteFrame(w, data, bundlePart)
}

// frameWriter writes in frames.
type frameWriter struct{ w io.Writer }

func (f frameWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k := min(len(p)-n, bundlePart)
		if err := wire.WriteFrame(f.w, p[n:n+k], bundlePart); err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

func (b *farBook) export(ctx context.Context, w io.Writer, authors []bamboo.Author) (report replicate.BundleReport, err error) {
	path := "/bundle"
	if len(authors) > 0 {
		var keys []string
		for _, a := range authors {
			keys = append(keys, a.String())
		}
		path += "?" + url.Values{"authors": {strings.Join(keys, ",")}}.Encode()
	}
	got, err := b.c.Stream(ctx, http.MethodGet, path, nil)
	if err != nil {
		return report, err
	}
	defer got.Close()
	frames := wire.NewReader(bufio.NewReaderSize(got, bundlePart), bundlePart)
	for {
		frame, err := frames.Next()
		if err != nil {
			return report, b.lost(ctx, err)
		}
		if len(frame) == 0 {
			break
		}
		if _, err := w.Write(frame); err != nil {
			return report, err
		}
		frames.Recycle(frame)
	}
	frame, err := frames.Next()
	if err == nil {
		err = json.Unmarshal(frame, &report)
	}
	if err != nil {
		return report, b.lost(ctx, err)
	}
	return report, nil
}

// importAnswer is what became of a bundle.
type importAnswer struct {
	Report replicate.BundleReport `json:"report"`
	Reason string                 `json:"reason"` // see BundleReport
	// What went wrong, and its class as that of [control.Error]; nil if nothing did.
	Error  *control.Error `json:"error"`
	Status int            `json:"status"`
}

// streamImport takes a bundle by the rules of this process.
func streamImport(ctx context.Context, r *replicate.Replica, body io.Reader, w io.Writer) error {
	report, err := r.Import(ctx, body)
	answer := importAnswer{Report: report, Reason: report.Reason}
	if refused := new(control.Error); errors.As(refusalOf(err), &refused) {
		answer.Error, answer.Status = refused, refused.Status
	}
	return json.NewEncoder(w).Encode(answer)
}

// take has a bundle taken.
func (b *farBook) take(ctx context.Context, src io.Reader) (report replicate.BundleReport, err error) {
	report.Forks = []replicate.Fork{}
	got, err := b.c.Stream(ctx, http.MethodPost, "/bundle", src)
	if err != nil {
		return report, err
	}
	defer got.Close()
	var answer importAnswer
	if err := json.NewDecoder(got).Decode(&answer); err != nil {
		return report, b.lost(ctx, err)
	}
	answer.Report.Reason = answer.Reason
	if answer.Error != nil {
		answer.Error.Status = answer.Status
		return answer.Report, fmt.Errorf("process %d: %w", b.pid, answer.Error)
	}
	return answer.Report, nil
}
