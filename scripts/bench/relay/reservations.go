package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"
)

// reservations is what holding many costs.
type reservations struct {
	Count int `json:"count"`
	// PerSecond is how many new ones a second were made, by the first two thousand
	// and by the last; CPU is the relay's share of each, in ms, connection included.
	PerSecondFirst float64 `json:"per_second_first"`
	PerSecondLast  float64 `json:"per_second_last"`
	CPUFirst       float64 `json:"cpu_ms_first"`
	CPULast        float64 `json:"cpu_ms_last"`
	// Flat is CPULast, without what keeping the others alive takes meanwhile, over
	// CPUFirst.
	Flat        float64 `json:"flat"`
	HoldSeconds float64 `json:"hold_s"`
	IdleCPU     float64 `json:"idle_cpu"` // share of one core while they are held
	RSS         float64 `json:"rss_mib"`  // at the end of that
	// Lost counts connections that ended meanwhile, by the error; Retries how often
	// a peer had to try again before it had joined.
	Lost    map[string]int `json:"lost"`
	Retries int            `json:"retries"`
}

func (r reservations) String() string {
	return fmt.Sprintf("reservations      %d: %.0f/s and %.1f ms CPU each at first, %.0f/s and %.1f ms at last (ratio %.2f); held %.0f s: %.0f %% of a core, %.0f MiB, lost %v, %d retries",
		r.Count, r.PerSecondFirst, r.CPUFirst, r.PerSecondLast, r.CPULast, r.Flat, r.HoldSeconds, 100*r.IdleCPU, r.RSS, r.Lost, r.Retries)
}

// step is how many reservations are timed together: the first ones around the
// thousandth, and enough for the collector of garbage to have its usual share.
const step = 2000

func measureReservations(ctx context.Context, o options) (r reservations, err error) {
	relay, err := start(ctx, "-role", "relay", "-kind", "full", "-transport", "quic", "-reservations", strconv.Itoa(o.reservations))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, relay.close()) }()
	crowd, err := start(ctx, "-role", "crowd")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, crowd.close()) }()
	var at peer.AddrInfo
	if err := relay.ask("info", nil, &at); err != nil {
		return r, err
	}
	for r.Count < o.reservations {
		n := min(step, o.reservations-r.Count)
		var before, after usage
		var seconds float64
		err := errors.Join(relay.ask("usage", nil, &before), crowd.ask("join", crowdArgs{at, n}, &seconds), relay.ask("usage", nil, &after))
		if err != nil {
			return r, err
		}
		r.PerSecondLast, r.CPULast = float64(n)/seconds, 1000*(after.CPU-before.CPU)/float64(n)
		if r.Count == 0 {
			r.PerSecondFirst, r.CPUFirst = r.PerSecondLast, r.CPULast
		}
		r.Count += n
	}
	if err := held(ctx, o, relay, crowd, &r); err != nil {
		return r, err
	}
	r.Flat = (r.CPULast - 1000*r.IdleCPU/r.PerSecondLast) / r.CPUFirst
	return r, nil
}

// held measures what it costs to keep them.
func held(ctx context.Context, o options, relay, crowd *child, r *reservations) error {
	// What the handshakes left behind is not part of it.
	if err := pause(ctx, settle); err != nil {
		return err
	}
	var before, after usage
	var lost lostReply
	err := errors.Join(relay.ask("usage", nil, &before), pause(ctx, o.hold), relay.ask("usage", nil, &after), crowd.ask("lost", nil, &lost))
	r.Lost, r.Retries = lost.Lost, lost.Retries
	r.HoldSeconds, r.RSS = o.hold.Seconds(), after.RSS
	r.IdleCPU = (after.CPU - before.CPU) / o.hold.Seconds()
	return err
}
