package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"dibber/netkit/rendezvous"
)

const (
	scaleRequests = 150 // of each load at each server in each round
	settleFor     = 3 * time.Second
)

// scalePart compares a large registry with one of a thousand.
type scalePart struct {
	Registrations  int     `json:"registrations"`
	ResidentMB     float64 `json:"resident_mb"` // 10⁶ bytes, after the fill
	PeakMB         float64 `json:"peak_mb"`     // over the process's life, the loads too
	RestartS       float64 `json:"restart_s"`   // from SIGKILL's successor's start until it serves
	LoadMS         float64 `json:"load_ms"`     // of that, opening the database and reading it
	RestartCPUS    float64 `json:"restart_cpu_s"`
	Restored       int     `json:"restored"`
	RestartMB      float64 `json:"restart_resident_mb"`
	DiscoverP50MS  float64 `json:"discover_p50_ms"`
	DiscoverSmall  float64 `json:"discover_p50_small_ms"`
	DiscoverRatio  float64 `json:"discover_p50_ratio"`
	RefreshP50MS   float64 `json:"refresh_p50_ms"`
	RefreshSmall   float64 `json:"refresh_p50_small_ms"`
	RefreshRatio   float64 `json:"refresh_p50_ratio"`
	FillPerS       float64 `json:"fill_per_s"`
	smallP, largeP *process
}

func measureScale(ctx context.Context, o options, r *result) (err error) {
	dir, err := os.MkdirTemp("", "dibber-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &scalePart{Registrations: o.registrations}
	if s.smallP, err = startServer(ctx, dir+"/small", false); err != nil {
		return err
	}
	defer s.smallP.kill()
	if s.largeP, err = startServer(ctx, dir+"/large", false); err != nil {
		return err
	}
	defer func() { s.largeP.kill() }()
	if err := s.fill(o.registrations); err != nil {
		return err
	}
	if err := s.latencies(ctx, o.rounds); err != nil {
		return err
	}
	if s.PeakMB, err = s.largeP.megabytes("VmHWM"); err != nil {
		return err
	}
	s.largeP.kill()
	if s.largeP, err = startServer(ctx, dir+"/large", false); err != nil {
		return err
	}
	if s.RestartCPUS, err = s.largeP.ownCPU(); err != nil {
		return err
	}
	s.RestartS, s.LoadMS, s.Restored = s.largeP.tookS, s.largeP.ready.LoadMS, s.largeP.ready.Registrations
	if s.RestartMB, err = s.largeP.megabytes("VmHWM"); err != nil {
		return err
	}
	r.Scale = s
	s.report(r)
	return nil
}

func (p *process) megabytes(field string) (float64, error) {
	mib, err := p.memory(field)
	return mib * (1 << 20) / 1e6, err
}

func (s *scalePart) fill(n int) error {
	if _, err := s.smallP.tell(fmt.Sprint(smallRegistry)); err != nil {
		return err
	}
	begun := time.Now()
	if _, err := s.largeP.tell(fmt.Sprint(n)); err != nil {
		return err
	}
	s.FillPerS = float64(n) / time.Since(begun).Seconds()
	time.Sleep(settleFor)
	var err error
	s.ResidentMB, err = s.largeP.megabytes("VmHWM")
	return err
}

// latencies alternates between the two servers.
func (s *scalePart) latencies(ctx context.Context, rounds int) error {
	small, err := newClient(ctx, s.smallP.info)
	if err != nil {
		return err
	}
	defer small.Close()
	large, err := newClient(ctx, s.largeP.info)
	if err != nil {
		return err
	}
	defer large.Close()
	// Both registries have a namespace with a hundred more, so that the same is asked of both.
	const ns = "latency"
	for _, p := range []*process{s.smallP, s.largeP} {
		if _, err := p.tell("100 " + ns); err != nil {
			return err
		}
	}
	loads := []load{
		{"discover(100)", rendezvous.ProtocolID, func(*client, int, int) ([]byte, error) { return encodeDiscover(ns, 100, nil), nil }},
		{"refresh", rendezvous.ProtocolID, func(c *client, _, _ int) ([]byte, error) {
			return registerRequest(c.key, "own", "192.0.2.1", 1)
		}},
	}
	var p50 [2][2][]float64
	for round := range rounds + 1 {
		for i, l := range loads {
			for j, c := range []*client{small, large} {
				took, err := l.latencies(ctx, c, scaleRequests)
				if err != nil {
					return err
				}
				if round > 0 {
					p50[i][j] = append(p50[i][j], median(took))
				}
			}
		}
	}
	s.DiscoverSmall, s.DiscoverP50MS, s.DiscoverRatio = compare(p50[0])
	s.RefreshSmall, s.RefreshP50MS, s.RefreshRatio = compare(p50[1])
	return nil
}

func compare(p50 [2][]float64) (small, large, ratio float64) {
	var ratios []float64
	for i := range p50[0] {
		ratios = append(ratios, p50[1][i]/p50[0][i])
	}
	return median(p50[0]), median(p50[1]), median(ratios)
}

func (s *scalePart) report(r *result) {
	r.row("fill", "%d at %.0f/s", s.Registrations, s.FillPerS)
	r.hold(s.PeakMB <= maxResidentMB, "resident with them, at its peak", fmt.Sprintf("%.0f MB (filled %.0f)", s.PeakMB, s.ResidentMB), fmt.Sprintf("at most %d MB", maxResidentMB))
	r.hold(s.DiscoverRatio <= maxP50Ratio, "DISCOVER(100) p50 to that of 1000", fmt.Sprintf("%.2f/%.2f ms, × %.2f", s.DiscoverP50MS, s.DiscoverSmall, s.DiscoverRatio), fmt.Sprintf("at most × %.1f", maxP50Ratio))
	r.hold(s.RefreshRatio <= maxP50Ratio, "REGISTER refresh p50 to that of 1000", fmt.Sprintf("%.2f/%.2f ms, × %.2f", s.RefreshP50MS, s.RefreshSmall, s.RefreshRatio), fmt.Sprintf("at most × %.1f", maxP50Ratio))
	r.hold(s.RestartS < maxRestartS && s.Restored >= s.Registrations, "restart after SIGKILL", fmt.Sprintf("%.1f s (CPU %.1f s), %d restored", s.RestartS, s.RestartCPUS, s.Restored), fmt.Sprintf("below %d s", maxRestartS))
}
