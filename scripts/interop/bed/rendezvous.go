package bed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const namespace = "garden"

// AtOurPoint are the features of a rendezvous client.
func (g Small) AtOurPoint() []Feature {
	return []Feature{
		{Name: "registers and discovers at our rendezvous", Run: func(ctx context.Context, s *Scene) (string, error) {
			point, err := s.Serve(ctx, 1, "--rendezvous")
			if err != nil {
				return "", err
			}
			return g.meet(ctx, s, point.Addrs[0])
		}},
		{Name: "reads its flavour where both are registered", Run: g.mixed},
	}
}

// TheirPoint are the features of a rendezvous point.
func (g Small) TheirPoint() []Feature {
	return []Feature{{Name: "we register and discover at its rendezvous", Run: func(ctx context.Context, s *Scene) (string, error) {
		point, err := g.serve(ctx, s, "")
		if err != nil {
			return "", err
		}
		return g.meet(ctx, s, point)
	}}}
}

// meet registers one of ours and one of theirs at a point, has both kinds look, and withdraws ours.
func (g Small) meet(ctx context.Context, s *Scene, point string) (string, error) {
	ours, err := s.registered(ctx, point, "auto")
	if err != nil {
		return "", err
	}
	theirs, err := g.word(ctx, s, "registered ", "register", point, namespace)
	if err != nil {
		return "", err
	}
	want := slices.Sorted(slices.Values([]string{ours.Peer, theirs[0]}))
	found, err := s.Discover(ctx, point, namespace)
	if err != nil {
		return "", err
	}
	if got := ids(found); !slices.Equal(got, want) {
		return "", fmt.Errorf("we found %v, want %v", got, want)
	}
	for _, f := range found {
		if len(f.Addrs) == 0 {
			return "", fmt.Errorf("we found %s without addresses", f.Peer)
		}
	}
	if got, err := g.discover(ctx, s, point); err != nil || !slices.Equal(got, want) {
		return "", errors.Join(fmt.Errorf("it found %v, want %v", got, want), err)
	}
	ours.Stop()
	if found, err = s.Discover(ctx, point, namespace); err != nil {
		return "", err
	}
	if got := ids(found); !slices.Equal(got, theirs) {
		return "", fmt.Errorf("after ours unregistered we found %v, want %v", got, theirs)
	}
	return "both found by both; ours withdrawn", nil
}

// mixed has it look where there is one record of each flavour alone: what it cannot read must not cost it the rest.
func (g Small) mixed(ctx context.Context, s *Scene) (string, error) {
	point, err := s.Serve(ctx, 1, "--rendezvous")
	if err != nil {
		return "", err
	}
	flavours := make(map[string]string)
	for _, format := range []string{"standard", "legacy"} {
		n, err := s.registered(ctx, point.Addrs[0], format)
		if err != nil {
			return "", err
		}
		flavours[n.Peer] = format
	}
	got, err := g.discover(ctx, s, point.Addrs[0])
	if err != nil || len(got) != 1 || flavours[got[0]] == "" {
		return "", errors.Join(fmt.Errorf("it found %v, want one of %v", got, flavours), err)
	}
	return flavours[got[0]], nil
}

// registered starts a node of ours that is registered.
func (s *Scene) registered(ctx context.Context, point, format string) (*Node, error) {
	n, err := s.Serve(ctx, 4, "--register", point, "--namespace", namespace, "--record-format", format)
	if err != nil {
		return nil, err
	}
	return n, n.Event(ctx, "registration.registered", &struct{}{})
}

// discover returns the peers that a client of theirs finds, sorted.
func (g Small) discover(ctx context.Context, s *Scene, point string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	p, err := g.Start(ctx, s, 5, "discover", point, namespace)
	if err != nil {
		return nil, err
	}
	var found []string
	for {
		line, err := p.Line(ctx, "")
		switch id, isPeer := strings.CutPrefix(line, "found "); {
		case err != nil:
			return found, err
		case isPeer:
			found = append(found, id)
		case line == "done":
			slices.Sort(found)
			return found, nil
		}
	}
}

func ids(found []Found) []string {
	var out []string
	for _, f := range found {
		out = append(out, f.Peer)
	}
	slices.Sort(out)
	return out
}
