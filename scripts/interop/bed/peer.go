// Package bed is the test bed of scripts/interop: it builds other implementations of libp2p, runs each as a process of its own
// against the program dibber, and says what works. Where it may, it does so in a network namespace that holds nothing but
// loopback, with addresses that look public: what libp2p does among public peers alone is done there, and no packet can leave.
package bed

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Peer is another implementation.
type Peer struct {
	Name    string   // a word, for -only
	Version string   // of the implementation
	Needs   []string // commands without which it cannot be built or run
	// Namespace is set if it may not run outside a network namespace: it listens on every interface, or reaches out by itself.
	Namespace bool
	// Build makes the peer's program in b.Dir, or finds that it is there. It is the only step that needs the package registries.
	Build    func(ctx context.Context, b *Builder) error
	Features []Feature
}

// Feature is a line of the table.
type Feature struct {
	Name string
	// Public is set if it works only between addresses that look public, which takes a namespace. Otherwise it runs on loopback.
	Public bool
	// Limit is how long it may take; 0 means a minute.
	Limit time.Duration
	// Run does it and tells in a few words what was seen. What it starts with s ends when it returns.
	Run func(ctx context.Context, s *Scene) (saw string, err error)
}

// Row is what became of a feature.
type Row struct {
	Peer    string  `json:"peer"`
	Version string  `json:"version"`
	Feature string  `json:"feature"`
	Result  Result  `json:"result"`
	Text    string  `json:"text"` // what was seen, or why not
	MS      float64 `json:"ms"`   // 0: not run
}

// Result is a word of the table.
type Result string

// The results.
const (
	Pass    Result = "pass"
	Fail    Result = "fail"
	Skipped Result = "skipped"
)

// Skip is the error of a feature that this machine, or this version of the peer, cannot show.
func Skip(format string, args ...any) error { return skipError(fmt.Sprintf(format, args...)) }

type skipError string

func (e skipError) Error() string { return string(e) }

// rows are one for each feature, all with the same result.
func (p Peer) rows(r Result, why string) []Row {
	var out []Row
	for _, f := range p.Features {
		out = append(out, Row{Peer: p.Name, Version: p.Version, Feature: f.Name, Result: r, Text: why})
	}
	return out
}

// run runs one feature within its limit.
func (p Peer) run(ctx context.Context, f Feature, at place) Row {
	row := Row{Peer: p.Name, Version: p.Version, Feature: f.Name}
	if why := at.noNamespace; why != "" && (f.Public || p.Namespace) {
		row.Result, row.Text = Skipped, why
		return row
	}
	limit := f.Limit
	if limit == 0 {
		limit = time.Minute
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := at.scene(p.Name, f)
	if err == nil {
		row.Text, err = f.Run(ctx, s)
		err = errors.Join(err, s.end())
	}
	row.MS = float64(time.Since(began).Milliseconds())
	var skip skipError
	switch {
	case errors.As(err, &skip):
		row.Result, row.Text = Skipped, skip.Error()
	case err != nil:
		row.Result, row.Text = Fail, err.Error()
	default:
		row.Result = Pass
	}
	return row
}
