package serve

import "dibber/netkit/chain"

func (s *Server) startChain() error {
	if s.cfg.Chain == nil {
		return nil
	}
	cfg := *s.cfg.Chain
	cfg.On = func(e chain.Event) { s.tell(Event{Chain: &e}) }
	c, err := chain.New(s.n, cfg)
	if err != nil {
		return err
	}
	s.chain = c
	s.add(&s.forAll, RoleChain, c.Close)
	return nil
}
