package commands

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"dibber/netkit/punch"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
)

// serveEvents are the lines of --ndjson before the summary.
func serveEvents() []event {
	list := append([]event{{"ready", readyDoc{}}, {"config.reloaded", reloadedLine{}}, {"config.failed", reloadFailed{}}, {"limits.changed", limitsChanged{}}, {"ban.added", banAdded{}}, {"ban.removed", banRemoved{}}}, slices.Concat(reservationEvents(), registrationEvents())...)
	for _, kind := range []rendezvous.EventKind{
		rendezvous.EventRegister, rendezvous.EventRefresh, rendezvous.EventUnregister,
		rendezvous.EventExpire, rendezvous.EventEvict, rendezvous.EventDiscover, rendezvous.EventRefused,
	} {
		list = append(list, event{"rendezvous." + string(kind), rendezvousLine{}})
	}
	list = append(list, event{"registry.lost", registryLine{}}, event{"registry.back", registryLine{}})
	for _, kind := range []relay.EventKind{
		relay.EventReservationOpened, relay.EventReservationRenewed, relay.EventReservationExpired, relay.EventReservationClosed,
		relay.EventReservationRefused, relay.EventCircuitOpened, relay.EventCircuitClosed, relay.EventCircuitRefused, relay.EventOfferCarried, relay.EventRefused,
	} {
		list = append(list, event{"relay." + string(kind), relayedLine{}})
	}
	list = append(list, event{"punch.ended", punchLine{}}, event{"session", sessionEvent{}}, event{"live", liveEvent{}}, event{"blocks.corrupt", corruptLine{}}, event{"blocks.provided", providedLine{}})
	list = append(list, routeEvents()...)
	for _, kind := range peeringKinds() {
		list = append(list, event{"peer." + string(kind), peerLine{}})
	}
	list = append(list, event{"guest.joined", guestLine{}}, event{"guest.refused", guestLine{}})
	return slices.Concat(list, pubsubEvents(), chainEvents(true), fullEvents())
}

// registrationEvents are those of registrations that a command keeps.
func registrationEvents() (list []event) {
	for _, kind := range []rendezvous.RegistrarEventKind{
		rendezvous.RegistrarRegistered, rendezvous.RegistrarRefreshed, rendezvous.RegistrarLost, rendezvous.RegistrarWaiting,
		rendezvous.RegistrarFailed, rendezvous.RegistrarUnregistered,
	} {
		list = append(list, event{"registration." + string(kind), registrationLine{}})
	}
	return list
}

// reservationEvents are those of reservations that a command keeps.
func reservationEvents() (list []event) {
	for _, kind := range []string{"reserved", "renewed", "lost", "failed"} {
		list = append(list, event{"reservation." + kind, reservationLine{}})
	}
	return list
}

// tellServe turns what happened into an event.
func tellServe(out *output, e serve.Event) {
	switch {
	case e.Relay != nil:
		tellReservation(out, *e.Relay)
	case e.Registration != nil:
		tellRegistration(out, *e.Registration)
	case e.Relayed != nil:
		out.event("relay."+string(e.Relayed.Kind), relayedOf(*e.Relayed))
	case e.Rendezvous != nil && (e.Rendezvous.Kind == rendezvous.EventAway || e.Rendezvous.Kind == rendezvous.EventBack):
		tellRegistry(out, *e.Rendezvous)
	case e.Rendezvous != nil:
		out.event("rendezvous."+string(e.Rendezvous.Kind), rendezvousOf(*e.Rendezvous))
	case e.Punch != nil:
		if e.Punch.Report != nil {
			out.event("punch.ended", punchLine{*e.Punch.Report})
		}
	case e.Peer != nil:
		out.recurring("peer "+e.Peer.Peer.String(), e.Peer.Err, "peer."+e.Peer.Kind, peerLine{
			Peer: e.Peer.Peer, Path: known(e.Peer.Path), Addr: known(e.Peer.Addr), Error: errorText(e.Peer.Err), kind: e.Peer.Kind,
		})
	case e.Joined != nil:
		tellGuest(out, *e.Joined)
	case e.Replicated != nil:
		tellSession(out, *e.Replicated)
	case e.Provided != nil:
		tellProvided(out, e.Provided)
	case e.Corrupt != nil:
		tellCorrupt(out, e.Corrupt)
	case e.Routed != nil:
		tellRoute(out, *e.Routed)
	case e.Gossip != nil:
		tellGossip(out, *e.Gossip)
	case e.Lived != nil:
		tellLive(out, *e.Lived)
	case e.Chain != nil:
		tellChain(out, *e.Chain, true)
	case e.Found != nil:
		out.event("peer."+string(e.Found.Kind), foundLine(*e.Found))
	default:
		tellFull(out, e)
	}
}

// errorText is an error in a document; nil for none.
func errorText(err error) *string {
	if err == nil {
		return nil
	}
	s := oneLine(err.Error())
	return &s
}

// reservationLine is a change of a kept reservation.
type reservationLine struct {
	Relay     peer.ID    `json:"relay"`
	Circuits  []string   `json:"circuits"` // addresses announced; none unless reserved
	Expires   *time.Time `json:"expires"`
	DurationS *float64   `json:"duration_s"` // limit of each circuit; 0 is none
	Bytes     *uint64    `json:"bytes"`
	NextMS    *float64   `json:"next_ms"` // until the next attempt, after a loss or failure; else null
	Error     *string    `json:"error"`

	kind string
}

// tellReservation tells of a kept reservation. A relay that is away fails every few seconds.
func tellReservation(out *output, e relay.ClientEvent) {
	out.recurring("reservation "+e.Relay.String(), e.Err, "reservation."+e.Kind, reservationOf(e))
}

func reservationOf(e relay.ClientEvent) reservationLine {
	l := reservationLine{Relay: e.Relay, Error: errorText(e.Err), kind: e.Kind}
	if e.Err != nil {
		l.NextMS = new(millis(e.Next))
	}
	if e.Err == nil {
		r := e.Reservation
		seconds := r.Duration.Seconds()
		l.Expires, l.DurationS, l.Bytes = &r.Expires, &seconds, &r.Bytes
		for _, c := range r.Circuits {
			l.Circuits = append(l.Circuits, c.String())
		}
	}
	return l
}

func (l reservationLine) line() string {
	if l.Error != nil {
		return fmt.Sprintf("reservation %s  %s: %s%s", l.kind, l.Relay, *l.Error, nextTry(l.NextMS))
	}
	return fmt.Sprintf("reservation %s  %s until %s", l.kind, l.Relay, l.Expires.Format(time.TimeOnly))
}

// registrationLine is a change of a kept registration.
type registrationLine struct {
	Server    peer.ID  `json:"server"`
	Namespace string   `json:"namespace"`
	Addrs     []string `json:"addrs"`
	TTLs      *float64 `json:"ttl_s"`   // granted; null when not registered
	NextMS    *float64 `json:"next_ms"` // until the next attempt; null when none is planned
	Error     *string  `json:"error"`

	kind string
}

// nextTry says when what was lost or failed is tried again.
func nextTry(ms *float64) string {
	if ms == nil {
		return ""
	}
	return fmt.Sprintf("; next try in %.0f s", max(1, *ms/1000))
}

// tellRegistration tells of a kept registration. A server that is away fails every few seconds.
func tellRegistration(out *output, e rendezvous.RegistrarEvent) {
	name, line := "registration."+string(e.Kind), registrationOf(e)
	if e.Kind == rendezvous.RegistrarUnregistered {
		out.event(name, line)
		return
	}
	out.recurring("registration "+e.Namespace+" "+e.Server.String(), e.Err, name, line)
}

func registrationOf(e rendezvous.RegistrarEvent) registrationLine {
	l := registrationLine{Server: e.Server, Namespace: e.Namespace, Error: errorText(e.Err), kind: string(e.Kind)}
	for _, a := range e.Addrs {
		l.Addrs = append(l.Addrs, a.String())
	}
	if e.TTL > 0 {
		s := e.TTL.Seconds()
		l.TTLs = &s
	}
	if e.Next > 0 {
		next := millis(e.Next)
		l.NextMS = &next
	}
	return l
}

func (l registrationLine) line() string {
	s := fmt.Sprintf("registration %s  %s at %s", l.kind, l.Namespace, l.Server)
	if l.TTLs != nil {
		s += fmt.Sprintf(" for %s with addresses: %d", durationText(time.Duration(*l.TTLs*float64(time.Second))), len(l.Addrs))
	}
	if l.Error != nil {
		s += ": " + *l.Error + nextTry(l.NextMS)
	}
	return s
}

// rendezvousLine is a request served.
type rendezvousLine struct {
	Peer      peer.ID  `json:"peer"`
	Namespace string   `json:"namespace"` // empty: all
	TTLs      *float64 `json:"ttl_s"`     // granted
	Count     *int     `json:"count"`     // registrations given out
	Status    *string  `json:"status"`    // of a refusal
	Error     *string  `json:"error"`
}

func rendezvousOf(e rendezvous.Event) rendezvousLine {
	l := rendezvousLine{Peer: e.Peer, Namespace: e.Namespace}
	switch e.Kind {
	case rendezvous.EventRegister, rendezvous.EventRefresh:
		s := e.TTL.Seconds()
		l.TTLs = &s
	case rendezvous.EventDiscover:
		l.Count = &e.Count
	case rendezvous.EventRefused:
		word := e.Status.String()
		l.Status, l.Error = &word, known(e.Text)
	default: // who and where is all
	}
	return l
}

// relayedLine is something that happened at the relay.
type relayedLine struct {
	Peer        peer.ID    `json:"peer"`        // who asked, or where a circuit comes from
	Destination *peer.ID   `json:"destination"` // where it leads; null: no circuit
	Reason      *string    `json:"reason"`      // why refused or ended
	Status      *string    `json:"status"`      // the answer to what was refused
	Expires     *time.Time `json:"expires"`     // of a reservation
	Circuit     *uint64    `json:"circuit"`     // its number
	Sent        *int64     `json:"sent"`        // bytes carried from peer, of a circuit that closed
	Received    *int64     `json:"received"`
	AgeMS       *float64   `json:"age_ms"`
	TookMS      *float64   `json:"took_ms"` // until a circuit was open, or an offer answered
}

func relayedOf(e relay.Event) relayedLine {
	l := relayedLine{Peer: e.Peer, Reason: known(string(e.Reason))}
	if e.Destination != "" {
		l.Destination = &e.Destination
	}
	if e.Reason != "" && e.Status != 0 {
		l.Status = new(e.Status.String())
	}
	if !e.Expires.IsZero() {
		l.Expires = &e.Expires
	}
	if e.Circuit != 0 {
		l.Circuit = &e.Circuit
	}
	if e.Took > 0 {
		l.TookMS = new(millis(e.Took))
	}
	if e.Kind == relay.EventCircuitClosed {
		l.Sent, l.Received, l.AgeMS = &e.Sent, &e.Received, new(millis(e.Age))
	}
	return l
}

// peerLine is a change of the connection with a peer of --peer, or of one found.
type peerLine struct {
	Peer    peer.ID  `json:"peer"`
	Path    *string  `json:"path"` // null: not connected
	Addr    *string  `json:"addr"`
	Error   *string  `json:"error"`
	Sources []string `json:"sources"` // that know it; none: a peer of --peer, or gone from all
	Addrs   []string `json:"addrs"`   // of a peer just found
	Reason  *string  `json:"reason"`  // why it was lost or dropped: closed, left or not-required, or too-many: left out; null: not known

	kind string
}

func (l peerLine) line() string {
	switch {
	case l.Addr != nil:
		return fmt.Sprintf("peer %s  %s %s via %s", l.kind, l.Peer, *l.Path, *l.Addr)
	case l.Error != nil:
		return fmt.Sprintf("peer %s  %s: %s", l.kind, l.Peer, *l.Error)
	case l.Reason != nil:
		return fmt.Sprintf("peer %s  %s: %s", l.kind, l.Peer, *l.Reason)
	case l.Addrs != nil:
		return fmt.Sprintf("peer %s  %s by %s, addresses: %d", l.kind, l.Peer, strings.Join(l.Sources, " and "), len(l.Addrs))
	}
	return fmt.Sprintf("peer %s  %s", l.kind, l.Peer)
}

// punchLine is what became of a relayed connection that was to become direct.
type punchLine struct{ punch.Report }

func (l punchLine) line() string {
	if l.Outcome == punch.Failed {
		return fmt.Sprintf("punch failed  %s stays relayed: %s", l.Peer, punchReason(l.View))
	}
	if l.Outcome == punch.AlreadyDirect {
		return fmt.Sprintf("punch not needed  %s is connected directly", l.Peer)
	}
	return fmt.Sprintf("punch direct  %s via %s after %s", l.Peer, *l.Addr, millisText(l.DirectMS))
}

// reloadedLine counts the lists in force.
type reloadedLine struct {
	AllowPeers int `json:"allow_peers"`
	DenyPeers  int `json:"deny_peers"`
	AllowCIDRs int `json:"allow_cidrs"`
	DenyCIDRs  int `json:"deny_cidrs"`
	Table      int `json:"table"`
	// Limits are those of the roles for others, as they are now.
	Limits limitsDoc `json:"limits"`
	// Changed are the roles with other limits than before.
	Changed []string `json:"changed"`
}

func (l reloadedLine) line() string {
	lines := []string{fmt.Sprintf("lists reloaded  allow %d peers, %d ranges; deny %d peers, %d ranges; table of %d peers",
		l.AllowPeers, l.AllowCIDRs, l.DenyPeers, l.DenyCIDRs, l.Table)}
	for _, role := range l.Changed {
		lines = append(lines, "new limits      "+roleText(role, l.Limits))
	}
	return strings.Join(lines, "\n")
}

// reloadFailed is why nothing was reloaded: all is as it was.
type reloadFailed struct {
	Error string `json:"error"`
}

func (l reloadFailed) line() string { return "nothing reloaded  " + l.Error }

// changedLimits are the roles whose limits differ, of those whose limits can be changed.
func changedLimits(before, after limitsDoc) (roles []string) {
	if !reflect.DeepEqual(before.Relay, after.Relay) {
		roles = append(roles, serve.RoleRelay)
	}
	if !reflect.DeepEqual(before.Rendezvous, after.Rendezvous) {
		roles = append(roles, serve.RoleRendezvous)
	}
	return roles
}
