package gossip

import (
	"cmp"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The scores. Nothing depends on how busy a topic is, so the score for too few messages (P3 of the specification, gossipsub v1.1) is
// off: a quiet topic would be punished for it. What silence in the mesh costs instead is that it earns nothing: when the middle of the
// mesh is below OpportunisticGraftThreshold, peers that delivered something first are taken in.
const (
	// P1, time in the mesh: hardly anything, so that sitting there in silence is worth no place.
	scoreMeshSecond = 0.001
	scoreMeshCap    = 300 // seconds
	// P2, messages delivered first; half of them are forgotten in eleven minutes.
	scoreFirst      = 0.1
	scoreFirstDecay = 0.999
	scoreFirstCap   = 80
	// P4, messages that are wrong, squared: one is an accident, the third one is where nothing is read any more. Half of them are
	// forgotten in two minutes.
	scoreInvalid      = -10
	scoreInvalidDecay = 0.995
	// P5: a peer that a person has named, and each time that one breaks the rules of the stream.
	scoreTrusted   = 20
	scoreViolation = -100
	// P6, peers with one IP address beyond those that one NAT may well hide, squared.
	scoreSameIP    = -5
	scoreSameIPMax = 16
	// P7, promises of messages that were not kept and grafts against the rules, squared above a few.
	scoreBehaviour      = -10
	scoreBehaviourMost  = 6
	scoreBehaviourDecay = 0.98
	// What all topics together can earn: less than to be named.
	scoreTopicsCap = 9
	// How long a peer that is gone keeps its score.
	scoreKept = 10 * time.Minute
)

func (s *Service) scoreParams() *pubsub.PeerScoreParams {
	return &pubsub.PeerScoreParams{
		Topics:           make(map[string]*pubsub.TopicScoreParams), // they come as topics are joined
		TopicScoreCap:    scoreTopicsCap,
		AppSpecificScore: s.standing, AppSpecificWeight: 1,
		IPColocationFactorWeight: scoreSameIP, IPColocationFactorThreshold: scoreSameIPMax,
		BehaviourPenaltyWeight: scoreBehaviour, BehaviourPenaltyThreshold: scoreBehaviourMost, BehaviourPenaltyDecay: scoreBehaviourDecay,
		DecayInterval: time.Second, DecayToZero: 0.01, RetainScore: scoreKept, SeenMsgTTL: s.cfg.Seen,
	}
}

func topicScoreParams() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		SkipAtomicValidation: true, // the scores that are off
		TopicWeight:          1,
		TimeInMeshWeight:     scoreMeshSecond, TimeInMeshQuantum: time.Second, TimeInMeshCap: scoreMeshCap,
		FirstMessageDeliveriesWeight: scoreFirst, FirstMessageDeliveriesDecay: scoreFirstDecay, FirstMessageDeliveriesCap: scoreFirstCap,
		InvalidMessageDeliveriesWeight: scoreInvalid, InvalidMessageDeliveriesDecay: scoreInvalidDecay,
	}
}

// standing is what is known of a peer besides its messages.
func (s *Service) standing(p peer.ID) float64 {
	score := float64(s.table.violations(p)) * scoreViolation
	if s.trusted[p] {
		score += scoreTrusted
	}
	return score
}

// Score is what a peer is trusted with, and why.
type Score struct {
	Total float64 `json:"total"`
	Parts []Part  `json:"parts"` // those that are not nothing; positive ones of topics together count for at most 9
}

// The words of Part.Of.
const (
	PartMesh      = "time-in-mesh"       // P1
	PartFirst     = "first-deliveries"   // P2
	PartInvalid   = "invalid-messages"   // P4
	PartStanding  = "named-or-violation" // P5
	PartSameIP    = "same-ip"            // P6
	PartBehaviour = "behaviour"          // P7
)

// Part is what one observation adds to a score.
type Part struct {
	Of    string  `json:"of"`
	Topic *string `json:"topic"` // null: of no topic
	Count float64 `json:"count"` // seconds, messages or peers; it decays
	Adds  float64 `json:"adds"`
}

// scoreOf explains the last score of a peer; nil while there is none. Scores are taken once a second.
func (s *Service) scoreOf(p peer.ID) *Score {
	all := s.scores.Load()
	if all == nil || (*all)[p] == nil {
		return nil
	}
	return explain((*all)[p])
}

// explain takes a score apart.
func explain(snap *pubsub.PeerScoreSnapshot) *Score {
	out := &Score{Total: snap.Score, Parts: []Part{}}
	add := func(of string, topic *string, count, adds float64) {
		if adds != 0 {
			out.Parts = append(out.Parts, Part{of, topic, count, adds})
		}
	}
	for topic, t := range snap.Topics {
		seconds := t.TimeInMesh.Seconds()
		add(PartMesh, &topic, seconds, min(seconds, scoreMeshCap)*scoreMeshSecond)
		add(PartFirst, &topic, t.FirstMessageDeliveries, min(t.FirstMessageDeliveries, scoreFirstCap)*scoreFirst)
		add(PartInvalid, &topic, t.InvalidMessageDeliveries, t.InvalidMessageDeliveries*t.InvalidMessageDeliveries*scoreInvalid)
	}
	add(PartStanding, nil, 1, snap.AppSpecificScore)
	add(PartSameIP, nil, snap.IPColocationFactor, snap.IPColocationFactor*scoreSameIP)
	over := max(snap.BehaviourPenalty-scoreBehaviourMost, 0)
	add(PartBehaviour, nil, snap.BehaviourPenalty, over*over*scoreBehaviour)
	slices.SortFunc(out.Parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(a.Of, b.Of), cmp.Compare(deref(a.Topic), deref(b.Topic)))
	})
	return out
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
