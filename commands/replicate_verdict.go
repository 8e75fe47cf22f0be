package commands

import (
	"errors"
	"fmt"

	"dibber/netkit/bamboo"
	"dibber/netkit/replicate"
)

// verdict is the error of sessions that ended in order and did not reach what was asked for.
func (o *syncOptions) verdict(r *replicate.Result) error {
	switch {
	case len(r.Forks) > 0:
		f := r.Forks[0]
		return &failure{
			Exit: exitFalse, Code: "forked", Phase: "replicate", Hint: "dibber replicate forks",
			Err: fmt.Errorf("log %s/%d is forked at entry %d; logs forked: %d", f.Author, f.Log, f.Seq, len(r.Forks)),
		}
	case r.Refused > 0:
		return &failure{
			Exit: exitRefused, Phase: "replicate", Hint: "--allow-author, --accept-any and --quota-… say what is taken",
			Err: &replicate.RefusedError{Logs: r.Refused, Reason: r.Reason},
		}
	case r.RefusedThere > 0:
		return &failure{Exit: exitRefused, Phase: "replicate", Err: &replicate.RefusedError{Logs: int(r.RefusedThere), Reason: "by the peer"}}
	case o.VerifyOnly && !r.Converged:
		return &failure{Exit: exitFalse, Code: "differ", Phase: "replicate", Err: errors.New("the stores differ")}
	case o.DryRun, o.VerifyOnly, r.Converged, o.Dir == "push", o.Dir == "pull" && r.Complete:
		return nil
	}
	return &failure{Exit: exitFalse, Code: "not_converged", Phase: "replicate", Retryable: true, Err: errors.New("the stores still differ: one of them changed meanwhile, or lacks what it should have")}
}

// syncFailure gives the errors of replication their class.
func syncFailure(err error) (failure, bool) {
	var link *bamboo.LinkError
	switch {
	case errors.As(err, &link), errors.Is(err, replicate.ErrBundle):
		return failure{Exit: exitIdentity, Code: "unproven", Phase: "replicate"}, true
	case errors.Is(err, replicate.ErrUnsupported):
		return failure{Exit: exitProtocol, Code: "missing_protocol", Phase: "replicate", Hint: "run dibber replicate run or dibber serve --replicate there"}, true
	case errors.Is(err, replicate.ErrProtocol):
		return failure{Exit: exitProtocol, Code: "protocol", Phase: "replicate"}, true
	case errors.Is(err, bamboo.ErrSignature), errors.Is(err, bamboo.ErrPayload):
		return failure{Exit: exitIdentity, Code: "unproven", Phase: "replicate"}, true
	case errors.Is(err, replicate.ErrRelayLimit):
		return failure{Exit: exitRefused, Code: "relay_limit", Phase: "replicate", Retryable: true, Hint: "--until-direct waits for a direct path; what has come is kept"}, true
	case errors.Is(err, replicate.ErrRefused):
		return failure{Exit: exitRefused, Phase: "replicate", Retryable: true}, true
	}
	return failure{}, false
}

// cutShort gives the error of a session that ended with its connection its class. It is
// for these alone: an error of a file may look the same.
func cutShort(err error) error {
	if err == nil || !replicate.Cut(err) {
		return err
	}
	return &failure{Exit: exitUnreachable, Code: "connection_lost", Phase: "replicate", Retryable: true, Err: err, Hint: "what has come is kept; run it again"}
}
