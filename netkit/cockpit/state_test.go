package cockpit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
)

// TestRates are of the time since the look before, or since a circuit opened.
func TestRates(t *testing.T) {
	at := time.Unix(1000, 0)
	rows := []Circuit{{ID: 1, Sent: 500, Received: 50, AgeMS: 5000}}
	was := carried{}.rates(at, rows)
	if rows[0].SentRate != 100 || rows[0].ReceivedRate != 10 {
		t.Errorf("first look: %+v", rows[0])
	}
	rows = []Circuit{{ID: 1, Sent: 900, Received: 50, AgeMS: 7000}, {ID: 2, Sent: 80, AgeMS: 500}}
	was = was.rates(at.Add(2*time.Second), rows)
	if rows[0].SentRate != 200 || rows[0].ReceivedRate != 0 || rows[1].SentRate != 160 {
		t.Errorf("second look: %+v", rows)
	}
	if want := (map[uint64][2]int64{1: {900, 50}, 2: {80, 0}}); !cmp.Equal(was.each, want) {
		t.Errorf("kept %v", was.each)
	}
}

// TestRedacted leaves nothing by which anybody could be recognized, and the same stand-in for the same peer.
func TestRedacted(t *testing.T) {
	st := State{
		Node:  Node{Peer: "secret-self"},
		Peers: []Peer{{Peer: "secret-a", Addr: "/ip4/192.0.2.7", Agent: "secret-agent"}},
		Relay: &RelayState{
			Held: []Reservation{{Peer: "secret-a", Addr: "/ip4/192.0.2.7"}},
			Open: []Circuit{{From: "secret-a", To: "secret-b", Transports: "quic → tcp"}},
		},
		Rendezvous: &RendezvousState{Crowds: []rendezvous.Crowd{{Namespace: "secret-space", Registrations: 3}}},
		Refusals:   []Refusal{{Peer: "secret-b", Reason: "rate", Detail: "dial 192.0.2.7 of secret-a"}},
		Meetings:   []Meeting{{From: "secret-a", To: "secret-b"}},
	}
	names := make(standIns)
	got := st.redacted(names)
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "secret") || strings.Contains(string(data), "192.0.2") {
		t.Errorf("%s", data)
	}
	if a := got.Peers[0].Peer; a == "" || got.Relay.Held[0].Peer != a || got.Relay.Open[0].From != a || got.Meetings[0].From != a || a == got.Node.Peer {
		t.Errorf("stand-ins differ: %s", data)
	}
	if got.Rendezvous.Crowds[0].Registrations != 3 || got.Refusals[0].Reason != "rate" || got.Relay.Open[0].Transports != "quic → tcp" {
		t.Errorf("too much is gone: %s", data)
	}
	if st.Peers[0].Peer != "secret-a" || st.Relay.Open[0].To != "secret-b" || st.Rendezvous.Crowds[0].Namespace != "secret-space" {
		t.Error("the original was changed")
	}
	if again := st.redacted(names); !cmp.Equal(again, got) {
		t.Error(cmp.Diff(got, again))
	}
}

// TestSettled: a circuit that both gave up is a meeting only if both are still there after a while.
func TestSettled(t *testing.T) {
	j, now := newJournal(prometheus.NewRegistry()), time.Unix(1000, 0)
	closed := func(src, dst peer.ID, why relay.Reason) {
		j.note(now, serve.Event{Relayed: &relay.Event{Kind: relay.EventCircuitClosed, Peer: src, Destination: dst, Reason: why, Age: time.Second}}, nil)
	}
	closed("a", "b", relay.ReasonFinished)
	closed("a", "gone", relay.ReasonFinished)
	closed("a", "b", relay.ReasonBytes)
	here := func(p peer.ID) bool { return p != "gone" }
	j.settled(now.Add(settle-1), here)
	if _, m := j.lists(); len(m) != 0 {
		t.Errorf("too early: %v", m)
	}
	j.settled(now.Add(settle), here)
	j.settled(now.Add(2*settle), here)
	want := []Meeting{{At: now, From: peer.ID("a").String(), To: peer.ID("b").String(), How: ByCircuit, Outcome: "left-relay", TookMS: 1000}}
	if _, m := j.lists(); !cmp.Equal(m, want) {
		t.Error(cmp.Diff(want, m))
	}
}

// TestJournalIsBounded counts repetitions, and forgets the oldest.
func TestJournalIsBounded(t *testing.T) {
	j, now := newJournal(prometheus.NewRegistry()), time.Unix(1000, 0)
	for range 3 {
		j.refuse(Refusal{Peer: "same", Reason: "rate"})
	}
	for i := range 3 * kept {
		j.meet(Meeting{At: now.Add(time.Duration(i))})
		j.refuse(Refusal{Peer: time.Duration(i).String()})
	}
	j.refuse(Refusal{Peer: "same", Reason: "rate"})
	j.refuse(Refusal{Peer: "same", Reason: "rate"})
	refusals, meetings := j.lists()
	if len(refusals) != kept || len(meetings) != kept || refusals[0].Times != 2 || meetings[0].At != now.Add(3*kept-1) {
		t.Errorf("%d refusals, the last %+v; %d meetings", len(refusals), refusals[0], len(meetings))
	}
}
