package host

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// TestCircuitCause pins what is told of the codes with which relays end circuits.
func TestCircuitCause(t *testing.T) {
	for code, want := range map[network.StreamErrorCode]string{
		network.StreamNoError:               "the relay ended the circuit",
		network.StreamResourceLimitExceeded: "the relay ended the circuit: a limit is reached",
		network.StreamShutdown:              "the relay ended the circuit: it shuts down",
		network.StreamGated:                 "the relay ended the circuit: its operator has cut it",
		network.StreamRateLimited:           "the relay ended the circuit with code 0x1003",
	} {
		if err := circuitCause(code); err.Error() != want || !errors.Is(err, ErrCircuitEnded) {
			t.Errorf("%#x: %v, want %s", uint32(code), err, want)
		}
	}
}
