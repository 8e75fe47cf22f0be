package replicate_test

import (
	"testing"

	"dibber/netkit/replicate"
)

func TestBothWays(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	write(t, a.Store, 1, 5000, 256)
	write(t, b.Store, 2, 3000, 256)
	ra, rb := met(t, a, b, replicate.SessionConfig{Peer: "b"}, replicate.SessionConfig{Peer: "a"})
	if ra.Pulled.Entries != 3000 || ra.Pushed.Entries != 5000 || rb.Pulled.Entries != 5000 || ra.Pulled.Bytes != 3000*256 {
		t.Errorf("moved: %+v; %+v", ra.Result, rb.Result)
	}
	if ra.Reconcile.Algo != "vector" || ra.Reconcile.Have != 5000 || ra.Reconcile.Need != 3000 || ra.Reconcile.Rounds != 1 {
		t.Errorf("reconcile: %+v", ra.Reconcile)
	}
	wire := float64(ra.Reconcile.BytesSent+ra.Reconcile.BytesReceived)/(8000*256) + 1
	t.Logf("wire %.3f × payload, overhead %.3f", wire, *ra.Reconcile.Overhead)
	if wire > 1.35 {
		t.Errorf("the wire carried %.3f × the payload", wire)
	}

	// The next time there is nothing to do.
	ra, rb = met(t, a, b, replicate.SessionConfig{Peer: "b"}, replicate.SessionConfig{Peer: "a"})
	if n := ra.Reconcile.BytesSent + ra.Reconcile.BytesReceived; n > 512 || ra.Reconcile.Rounds != 1 || ra.Reconcile.Algo != "none" {
		t.Errorf("nothing to do took %d bytes: %+v", n, ra.Reconcile)
	}
	if rb.Pulled.Entries != 0 {
		t.Errorf("something came: %+v", rb.Result)
	}

	// After that only what has grown is listed.
	write(t, a.Store, 1, 10, 256)
	write(t, a.Store, 3, 10, 256)
	ra, _ = met(t, a, b, replicate.SessionConfig{Peer: "b"}, replicate.SessionConfig{Peer: "a"})
	if ra.Reconcile.Algo != "cursor" || ra.Pushed.Entries != 20 {
		t.Errorf("after growth: %+v", ra.Result)
	}
}
