package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/bans"
	"dibber/netkit/control"
	"dibber/netkit/host"
	"dibber/netkit/serve"
)

// operator answers what a running serve is asked over its control socket.
type operator struct {
	out    *output
	n      *host.Node
	s      *serve.Server
	limits *liveLimits
	dir    string
	bans   *bans.Book
	keeps  keeps
	blocks *servedStore // nil without one
	web    dashboard

	socket   *control.Service
	drains   chan time.Duration // how long to drain; told once
	draining atomic.Bool
}

// open makes the control socket.
func (op *operator) open(ctx context.Context, socket string) error {
	runtime, _ := op.out.e.lookup("XDG_RUNTIME_DIR")
	s, err := control.New(ctx, control.Config{Dir: op.dir, Socket: socket, Runtime: runtime, Verbs: slices.Concat(op.verbs(), op.blockVerbs(), []control.Verb{(&lending{n: op.n, route: op.s.Route(), gossip: op.s.Gossip(), blocks: op.s.Blocks()}).verb()})})
	op.socket = s
	return err
}

// await returns how long to drain, when it is time to: a signal came, or somebody asked.
func (op *operator) await(ctx context.Context, most time.Duration) time.Duration {
	select {
	case <-ctx.Done():
	case most = <-op.drains:
	}
	op.draining.Store(true)
	op.web.drain()
	return most
}

// alive looks at what the node and its roles guard by their locks, and so returns only where none is stuck.
func (op *operator) alive() {
	op.n.Network().Conns()
	op.s.Stats()
	op.s.Relayed()
	op.s.Limits()
}

// verbs are what can be asked.
func (op *operator) verbs() []control.Verb {
	verb := func(pattern string, do func(c control.Call) (any, error), query ...string) control.Verb {
		return control.Verb{Pattern: pattern, Query: query, Do: func(_ context.Context, c control.Call) ([]byte, error) {
			doc, err := do(c)
			if err != nil {
				return nil, refusalOf(err)
			}
			if !strings.HasPrefix(pattern, http.MethodGet) {
				op.out.log.Info("steered", "verb", pattern)
			}
			return encode(doc)
		}}
	}
	return []control.Verb{
		verb("GET /status", func(control.Call) (any, error) { return op.status(), nil }),
		verb("GET /peers", func(control.Call) (any, error) {
			list := op.s.Peers()
			return peersDoc{Count: new(len(list)), Peers: &list}, nil
		}),
		verb("DELETE /peers/{peer}", op.kick),
		verb("GET /reservations", op.reservations),
		verb("GET /circuits", op.circuits),
		verb("DELETE /circuits/{circuit}", op.end),
		verb("GET /registrations", op.registrations, "namespace", "limit"),
		verb("GET /topics", op.topics),
		verb("GET /sessions", op.sessions),
		verb("GET /bans", op.listBans),
		verb("POST /bans", op.ban),
		verb("DELETE /bans", op.unban, "subject"),
		verb("GET /limits", func(control.Call) (any, error) {
			rows, err := op.limits.rows()
			return limitsGetDoc{&rows}, err
		}),
		verb("POST /limits", op.setLimits),
		verb("GET /log-level", op.logLevel),
		verb("POST /log-level", op.setLogLevel),
		{Pattern: "GET /backup", Stream: op.backup},
		verb("POST /drain", op.drain, "within"),
	}
}

// refusalOf puts the class of an error into the terms of HTTP; exitOf takes it back.
func refusalOf(err error) error {
	if err == nil {
		return nil
	}
	f := classify(err, nil)
	status := http.StatusInternalServerError
	switch f.Exit {
	case exitFalse:
		status = http.StatusPreconditionFailed
	case exitIdentity:
		status = http.StatusUnprocessableEntity
	case exitUsage:
		status = http.StatusBadRequest
	case exitNotFound:
		status = http.StatusNotFound
	case exitProtocol:
		status = http.StatusConflict
	case exitRefused:
		status = http.StatusForbidden
	default: // what went wrong here is nothing that another request would change
	}
	return &control.Error{Status: status, Code: f.Code, Message: f.Error(), Hint: f.Hint}
}

// roleFailure tells of a role that the node has not.
func roleFailure(err error) (failure, bool) {
	if errors.Is(err, serve.ErrNoRelay) || errors.Is(err, serve.ErrNoRendezvous) || errors.Is(err, serve.ErrNoPubsub) || errors.Is(err, serve.ErrNoReplicate) {
		return failure{Exit: exitProtocol, Code: "missing_role", Phase: "control"}, true
	}
	return failure{}, false
}

func (op *operator) reservations(control.Call) (any, error) {
	list, err := op.s.Reservations()
	return reservationsDoc{Count: new(len(list)), Reservations: &list}, err
}

func (op *operator) circuits(control.Call) (any, error) {
	list, err := op.s.Circuits()
	return circuitsDoc{Count: new(len(list)), Circuits: &list}, err
}

// end ends a circuit.
func (op *operator) end(c control.Call) (any, error) {
	id, err := circuitID(c.Value("circuit"))
	if err != nil {
		return nil, err
	}
	list, err := op.s.Circuits()
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].ID != id {
			continue
		}
		if ended, err := op.s.EndCircuit(id); err != nil || ended {
			return endDoc{Circuit: &list[i]}, err
		}
	}
	return nil, &failure{Exit: exitNotFound, Phase: "control", Hint: "dibber ctl circuits lists them", Err: fmt.Errorf("no circuit has the number %d", id)}
}

// circuitID reads the number of a circuit.
func circuitID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, usagef("%q is not the number of a circuit", text)
	}
	return id, nil
}

// kick disconnects a peer.
func (op *operator) kick(c control.Call) (any, error) {
	id, err := addr.ParseID(c.Value("peer"))
	if err != nil {
		return nil, usagef("%w", err)
	}
	doc := kickDoc{Peer: &id, Kicked: op.s.Kick(id)}
	if doc.Kicked == (serve.Kicked{}) {
		return nil, &failure{Exit: exitNotFound, Phase: "control", Hint: "dibber ctl peers lists those that are", Err: fmt.Errorf("%s is not connected", id)}
	}
	return doc, nil
}

// registrations lists those of a namespace, or of all.
func (op *operator) registrations(c control.Call) (any, error) {
	most := maxRegistrations
	if text := c.Value("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxRegistrations {
			return nil, usagef("limit: %q is not a number from 1 to %d", text, maxRegistrations)
		}
		most = n
	}
	list, err := op.s.Registrations(c.Value("namespace"), most)
	if err != nil {
		return nil, err
	}
	rows := make([]registrationRow, 0, len(list))
	for _, e := range list {
		row := registrationRow{Namespace: e.Namespace, Peer: e.Peer, Flavour: e.Flavour.String(), TTLs: e.TTL}
		for _, a := range e.Addrs {
			row.Addrs = append(row.Addrs, a.String())
		}
		rows = append(rows, row)
	}
	return registrationsDoc{Count: new(len(rows)), Total: new(op.s.Stats().Registrations), Registrations: &rows}, nil
}

// setLimits changes limits: an object of keys and values.
func (op *operator) setLimits(c control.Call) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(c.Body))
	dec.UseNumber()
	var given map[string]any
	if err := dec.Decode(&given); err != nil || dec.More() || len(given) == 0 {
		return nil, usagef(`the body is not an object of limits, as in {"relay-circuits": 8}`)
	}
	values := make(map[string]string, len(given))
	for key, v := range given {
		switch v := v.(type) {
		case string, json.Number, bool:
			values[key] = strings.TrimSpace(fmt.Sprint(v))
		default:
			return nil, usagef("%s: a limit is a number, a string or true or false", key)
		}
	}
	changes, err := op.limits.set(values)
	if err != nil {
		return nil, err
	}
	doc := limitsSetDoc{Changed: &changes}
	if len(changes) > 0 {
		op.out.event("limits.changed", limitsChanged{changes})
	}
	return doc, nil
}

// limitsChanged tells of limits that were changed over the control socket.
type limitsChanged struct {
	Changed []limitChange `json:"changed"`
}

func (l limitsChanged) line() string {
	var lines []string
	for _, c := range l.Changed {
		lines = append(lines, "limit changed  "+c.String())
	}
	return strings.Join(lines, "\n")
}

// drain has serve end in order.
func (op *operator) drain(c control.Call) (any, error) {
	within := op.limits.options().Drain
	if text := c.Value("within"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return nil, usagef("within: %q is not %s", text, kindDuration)
		}
		within = d
	}
	if op.draining.Swap(true) {
		return nil, &failure{Exit: exitRefused, Code: "draining", Phase: "control", Err: errors.New("this node is draining already")}
	}
	doc := drainDoc{WithinMS: new(millis(within))}
	if list, err := op.s.Circuits(); err == nil {
		doc.Circuits = new(len(list))
	}
	op.drains <- within
	return doc, nil
}

// status is all that can be said of the node in short.
func (op *operator) status() statusDoc {
	o := op.limits.options()
	uptime := time.Since(op.out.e.start).Round(time.Millisecond).Seconds()
	roles, pending, addresses := op.s.Roles(), o.pending(), op.s.Addresses()
	d := statusDoc{
		Peer: new(op.n.ID()), Agent: new(Agent()), PID: new(os.Getpid()), Started: &op.out.e.start, UptimeS: &uptime,
		StateDir: &op.dir, Admin: new(op.socket.Socket()), Roles: &roles, Pending: &pending, Draining: new(op.draining.Load()),
		Reachability: stateWord(op.s.Reachability()), Addresses: &addresses, Limits: new(limitsOf(op.s.Limits())),
	}
	d.Registry = registryOf(op.s.Sharing())
	d.Use = &useDoc{Connections: fill{op.s.Connections(), op.n.Limits().Conns}}
	d.Counters = &countersDoc{Relay: relayTotalsOf(op.s.Relayed()), Rendezvous: rendezvousTotalsOf(op.s.Stats()), DHT: routedOf(op.s.Route())}
	if stats, l := op.s.Relayed(), d.Limits.Relay; stats != nil && l != nil {
		d.Use.Reservations, d.Use.Circuits = &fill{stats.Reservations, l.Reservations}, &fill{stats.Circuits, l.Circuits}
	}
	if stats := op.s.Stats(); stats != nil {
		d.Use.Registrations = &fill{stats.Registrations, d.Limits.Rendezvous.Total}
	}
	return d
}
