package cockpit

import (
	"slices"

	"dibber/netkit/gossip"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/route"
	"dibber/netkit/serve"

	"github.com/prometheus/client_golang/prometheus"
)

// figure is one metric whose value stands in the node or its roles, and is read when it is asked for. Its name is stable.
type figure struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	read       func(r *reading, put put)
}

// put takes one value with the values of the labels.
type put func(value float64, labels ...string)

// reading is what is read once for all figures of a scrape. A role that the node has not is nil.
type reading struct {
	*view
	limits     serve.Limits
	relay      *relay.Stats
	rendezvous *rendezvous.Stats
	dht        *route.Stats
	topics     []gossip.Mesh
}

func (v *view) reading() *reading {
	r := &reading{view: v, limits: v.s.Limits(), relay: v.s.Relayed(), rendezvous: v.s.Stats()}
	if d := v.s.Route(); d != nil {
		r.dht = new(d.Stats())
	}
	r.topics, _ = v.s.Topics() // none without the role
	return r
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// figures are all of them.
func figures() []figure {
	return slices.Concat(nodeFigures(), relayFigures(), rendezvousFigures(), otherFigures())
}

func nodeFigures() []figure {
	return []figure{
		{"dibber_role", "1 for each role that the node has now.", gauge, []string{"role"}, func(r *reading, put put) {
			for _, role := range r.s.Roles() {
				put(1, role)
			}
		}},
		{"dibber_reachable", "1 for what a full node knows of itself: public, private, or unknown.", gauge, []string{"reachability"}, func(r *reading, put put) {
			if is := string(r.s.Reachability()); is != "" {
				put(1, is)
			}
		}},
		{"dibber_connections", "Connections with peers.", gauge, nil, func(r *reading, put put) { put(float64(r.s.Connections())) }},
		{"dibber_connections_limit", "How many connections there may be.", gauge, nil, func(r *reading, put put) { put(float64(r.n.Limits().Conns)) }},
		{"dibber_peers", "Peers that are connected.", gauge, nil, func(r *reading, put put) { put(float64(len(r.n.Network().Peers()))) }},
		{"dibber_disk_bytes", "Bytes on disk of the node's databases, by what they hold.", gauge, []string{"database"}, func(r *reading, put put) {
			for name, n := range r.s.DiskBytes() {
				put(float64(n), name)
			}
		}},
		{"dibber_autonat_requests_total", "Requests to be dialled back.", counter, nil, func(r *reading, put put) {
			if n := r.s.DialBacks(); n != nil {
				put(float64(*n))
			}
		}},
	}
}

func relayFigures() []figure {
	of := func(read func(s *relay.Stats) float64) func(*reading, put) {
		return func(r *reading, put put) {
			if r.relay != nil {
				put(read(r.relay))
			}
		}
	}
	limit := func(read func(l *relay.Limits) int) func(*reading, put) {
		return func(r *reading, put put) {
			if r.limits.Relay != nil {
				put(float64(read(r.limits.Relay)))
			}
		}
	}
	reasons := func(read func(s *relay.Stats) map[relay.Reason]uint64) func(*reading, put) {
		return func(r *reading, put put) {
			if r.relay != nil {
				for why, n := range read(r.relay) {
					put(float64(n), string(why))
				}
			}
		}
	}
	return []figure{
		{"dibber_relay_reservations", "Reservations that stand.", gauge, nil, of(func(s *relay.Stats) float64 { return float64(s.Reservations) })},
		{"dibber_relay_reservations_limit", "How many reservations there may be.", gauge, nil, limit(func(l *relay.Limits) int { return l.Reservations })},
		{"dibber_relay_circuits", "Circuits that are open or being opened.", gauge, nil, of(func(s *relay.Stats) float64 { return float64(s.Circuits) })},
		{"dibber_relay_circuits_limit", "How many circuits there may be.", gauge, nil, limit(func(l *relay.Limits) int { return l.Circuits })},
		{"dibber_relay_reservations_total", "Reservations given, renewals not counted.", counter, nil, of(func(s *relay.Stats) float64 { return float64(s.Reserved) })},
		{"dibber_relay_renewals_total", "Reservations renewed.", counter, nil, of(func(s *relay.Stats) float64 { return float64(s.Renewed) })},
		{"dibber_relay_circuits_total", "Circuits opened.", counter, nil, of(func(s *relay.Stats) float64 { return float64(s.Opened) })},
		{"dibber_relay_offers_total", "Offers to connect directly that were carried and answered.", counter, nil, of(func(s *relay.Stats) float64 { return float64(s.Offers) })},
		{"dibber_relay_bytes_total", "Bytes carried, both ways together.", counter, nil, of(func(s *relay.Stats) float64 { return float64(s.Bytes) })},
		{"dibber_relay_refused_total", "Requests refused, by reason.", counter, []string{"reason"}, reasons(func(s *relay.Stats) map[relay.Reason]uint64 { return s.Refused })},
		{"dibber_relay_closed_total", "Circuits that ended, by reason.", counter, []string{"reason"}, reasons(func(s *relay.Stats) map[relay.Reason]uint64 { return s.Closed })},
	}
}

func rendezvousFigures() []figure {
	of := func(read func(s *rendezvous.Stats) float64) func(*reading, put) {
		return func(r *reading, put put) {
			if r.rendezvous != nil {
				put(read(r.rendezvous))
			}
		}
	}
	return []figure{
		{"dibber_rendezvous_registrations", "Registrations that stand.", gauge, nil, of(func(s *rendezvous.Stats) float64 { return float64(s.Registrations) })},
		{"dibber_rendezvous_registrations_limit", "How many registrations there may be.", gauge, nil, func(r *reading, put put) {
			if r.limits.Rendezvous != nil {
				put(float64(r.limits.Rendezvous.Total))
			}
		}},
		{"dibber_rendezvous_registry_up", "1 when the registry shared with other servers can be used.", gauge, nil, func(r *reading, put put) {
			switch {
			case r.s.Sharing() == nil:
			case r.registryAway():
				put(0)
			default:
				put(1)
			}
		}},
		{"dibber_rendezvous_namespaces", "Namespaces with registrations.", gauge, nil, of(func(s *rendezvous.Stats) float64 { return float64(s.Namespaces) })},
		{"dibber_rendezvous_peers", "Peers with registrations.", gauge, nil, of(func(s *rendezvous.Stats) float64 { return float64(s.Peers) })},
		{"dibber_rendezvous_watchers", "Streams that watch.", gauge, nil, of(func(s *rendezvous.Stats) float64 { return float64(s.Watchers) })},
		{"dibber_rendezvous_requests_total", "Requests by type and by the status of the answer.", counter, []string{"type", "status"}, func(r *reading, put put) {
			if r.rendezvous == nil {
				return
			}
			for kind, statuses := range r.rendezvous.Requests {
				for status, n := range statuses {
					put(float64(n), kind, status)
				}
			}
		}},
		{"dibber_rendezvous_refused_total", "Requests refused, by reason.", counter, []string{"reason"}, func(r *reading, put put) {
			if r.rendezvous == nil {
				return
			}
			for why, n := range r.rendezvous.Refusals {
				put(float64(n), why)
			}
		}},
		{"dibber_rendezvous_expired_total", "Registrations whose time ran out.", counter, nil, of(func(s *rendezvous.Stats) float64 { return float64(s.Expired) })},
		{"dibber_rendezvous_evicted_total", "Registrations that had to make room.", counter, nil, of(func(s *rendezvous.Stats) float64 { return float64(s.Evicted) })},
		{"dibber_rendezvous_watch_messages_total", "Changes sent to those who watch.", counter, nil, of(func(s *rendezvous.Stats) float64 { return float64(s.WatchMessages) })},
		{"dibber_rendezvous_watch_resyncs_total", "Times that somebody who watches was too slow.", counter, nil, of(func(s *rendezvous.Stats) float64 { return float64(s.WatchResyncs) })},
	}
}

func otherFigures() []figure {
	dht := func(read func(s *route.Stats) float64) func(*reading, put) {
		return func(r *reading, put put) {
			if r.dht != nil {
				put(read(r.dht))
			}
		}
	}
	return []figure{
		{"dibber_dht_table_peers", "Peers in the routing table.", gauge, nil, dht(func(s *route.Stats) float64 { return float64(s.Table) })},
		{"dibber_dht_records", "Records kept for others.", gauge, nil, dht(func(s *route.Stats) float64 { return float64(s.Records) })},
		{"dibber_dht_providers", "Provider entries kept for others.", gauge, nil, dht(func(s *route.Stats) float64 { return float64(s.Providers) })},
		{"dibber_dht_requests_total", "Requests served, by kind.", counter, []string{"kind"}, func(r *reading, put put) {
			if r.dht == nil {
				return
			}
			for kind, n := range r.dht.Requests {
				put(float64(n), kind)
			}
		}},
		{"dibber_dht_refused_total", "Requests refused, by reason.", counter, []string{"reason"}, func(r *reading, put put) {
			if r.dht == nil {
				return
			}
			for why, n := range r.dht.Refused {
				put(float64(n), string(why))
			}
		}},
		{"dibber_gossip_topics", "Topics that the node or a neighbour is subscribed to.", gauge, nil, func(r *reading, put put) {
			if r.limits.Pubsub != nil {
				put(float64(len(r.topics)))
			}
		}},
		{"dibber_gossip_mesh_peers", "Places in the meshes of all topics that neighbours have.", gauge, nil, func(r *reading, put put) {
			if r.limits.Pubsub == nil {
				return
			}
			n := 0
			for _, t := range r.topics {
				n += t.Count(gossip.InMesh)
			}
			put(float64(n))
		}},
		{"dibber_blocks_total", "Blocks exchanged, by direction.", counter, []string{"direction"}, func(r *reading, put put) {
			if b := r.s.Blocks(); b != nil {
				put(float64(b.Counts().BlocksSent.Load()), "sent")
				put(float64(b.Counts().BlocksReceived.Load()), "received")
			}
		}},
		{"dibber_blocks_bytes_total", "Bytes of blocks exchanged, by direction.", counter, []string{"direction"}, func(r *reading, put put) {
			if b := r.s.Blocks(); b != nil {
				put(float64(b.Counts().BytesSent.Load()), "sent")
				put(float64(b.Counts().BytesReceived.Load()), "received")
			}
		}},
	}
}
