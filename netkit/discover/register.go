package discover

import (
	"errors"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/rendezvous"

	ma "github.com/multiformats/go-multiaddr"
)

// Registered is how this host's registration at a server stands.
type Registered struct {
	Server    string `json:"server"` // its address
	Namespace string `json:"namespace"`
	// State is registered, refreshed, lost, waiting (for an address worth announcing),
	// or failed, as it was before the end.
	State string   `json:"state"`
	TTL   *int64   `json:"ttl_s"` // granted, in seconds; null: not registered
	Addrs []string `json:"addrs"` // as registered, without the own id
	Error *string  `json:"error"` // null: no failure

	err error // a *SourceError
}

// errNoAddress is why a host is not registered that has nothing to register.
var errNoAddress = errors.New("this host has no address to register")

// register starts keeping the host registered at every server.
func (s *session) register() {
	for _, server := range s.cfg.Servers {
		r := &Registered{Server: serverText(server), Namespace: s.cfg.Namespace}
		s.registered = append(s.registered, r)
		keeper, err := rendezvous.NewRegistrar(s.n, rendezvous.RegistrarConfig{
			Server: server, Namespace: s.cfg.Namespace, TTL: s.cfg.TTL, Format: s.cfg.Format,
			Addrs: func() []ma.Multiaddr { return s.n.AddrsFor(server.ID) }, Timeout: s.cfg.Timeout, Debounce: rendezvous.QuickDebounce,
			On: func(e rendezvous.RegistrarEvent) { s.steps <- func() { s.tellRegistered(r, e) } },
		})
		if err != nil {
			s.tellRegistered(r, rendezvous.RegistrarEvent{
				Kind: rendezvous.RegistrarFailed, Server: server.ID, Namespace: s.cfg.Namespace, Err: err,
			})
			continue
		}
		s.registrars[server.ID] = keeper
		s.closers = append(s.closers, keeper.Close)
	}
}

// tellRegistered takes what happened to a registration. That it ends with the run
// is told, but the result has what became of it before.
func (s *session) tellRegistered(r *Registered, e rendezvous.RegistrarEvent) {
	s.cfg.On(Event{Kind: Registration, Registration: &e})
	if e.Kind == rendezvous.RegistrarUnregistered {
		return
	}
	err := e.Err
	if e.Kind == rendezvous.RegistrarWaiting {
		err = errNoAddress
	}
	r.State, r.TTL, r.Addrs, r.Error, r.err = string(e.Kind), nil, nil, nil, nil
	if err != nil {
		text := err.Error()
		r.Error = &text
		r.err = &SourceError{SourceRendezvous, r.Server, err}
	}
	if e.Kind == rendezvous.RegistrarRegistered || e.Kind == rendezvous.RegistrarRefreshed {
		ttl := int64(e.TTL.Seconds())
		r.TTL = &ttl
		sorted := slices.Clone(e.Addrs)
		addr.Sort(sorted)
		for _, a := range sorted {
			r.Addrs = append(r.Addrs, a.String())
		}
	}
}
