package serve

import "dibber/netkit/blocks"

// Blocks says which store is served, and how. The Serve and Corrupt of its Config are ignored.
type Blocks struct {
	Store  *blocks.Store
	Config blocks.Config
}

func (s *Server) startBlocks() error {
	if s.cfg.Blocks == nil {
		return nil
	}
	cfg := s.cfg.Blocks.Config
	cfg.Serve = true
	cfg.Corrupt = func(e *blocks.CorruptError) { s.tell(Event{Corrupt: e}) }
	b, err := blocks.New(s.n, s.cfg.Blocks.Store, cfg)
	if err != nil {
		return err
	}
	s.blocks = b
	s.add(&s.forAll, RoleBlocks, b.Close)
	return nil
}

// Blocks is the exchange of blocks; nil without the role.
func (s *Server) Blocks() *blocks.Service { return s.blocks }
