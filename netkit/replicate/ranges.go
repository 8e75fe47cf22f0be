package replicate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"dibber/netkit/negentropy"
)

// reconcile begins with negentropy: the side that dialled learns in which heads the two differ, and tells the other.
func (s *session) reconcile() error {
	heads, err := s.heads()
	if err != nil {
		return err
	}
	items := make([]negentropy.Item, len(heads))
	s.mine = make(map[negentropy.ID]head, len(heads))
	for i := range heads {
		items[i].ID = heads[i].name()
		s.mine[items[i].ID] = heads[i]
	}
	s.differ, s.wanted = make(map[negentropy.ID]head), make(map[negentropy.ID]struct{})
	set, err := negentropy.NewVector(items)
	if err != nil {
		return err
	}
	if !s.cfg.Dialled {
		s.respond, err = negentropy.NewResponder(set, negentropyFrame)
		return err
	}
	if s.initiate, err = negentropy.NewInitiator(set, negentropyFrame); err != nil {
		return err
	}
	msg, err := s.initiate.Open()
	if err != nil {
		return err
	}
	return s.out.say(append([]byte{byte(kindNegentropy)}, msg...))
}

// onNegentropy takes one message.
func (s *session) onNegentropy(body []byte) error {
	if s.answered++; s.answered > maxRounds+int((s.own.logs+min(s.theirs.logs, maxListed))/1000) {
		return broken("it reconciles without end")
	}
	if s.respond != nil {
		msg, err := s.respond.Answer(body)
		if err != nil {
			return broken("negentropy: %v", err)
		}
		return s.out.say(append([]byte{byte(kindNegentropy)}, msg...))
	}
	if s.initiate == nil {
		return broken("a message of negentropy where none can be")
	}
	s.mu.Lock()
	s.rounds++
	s.mu.Unlock()
	msg, diff, err := s.initiate.Next(body)
	if err != nil {
		return broken("negentropy: %v", err)
	}
	for _, id := range diff.Have {
		s.differ[id] = s.mine[id]
	}
	for _, id := range diff.Need {
		if _, again := s.wanted[id]; !again && len(s.wanted) == maxListed {
			return broken("it has more logs than it may list")
		}
		s.wanted[id] = struct{}{}
	}
	if msg != nil {
		return s.out.say(append([]byte{byte(kindNegentropy)}, msg...))
	}
	return s.reconciled()
}

// reconciled tells the other side what was found.
func (s *session) reconciled() error {
	s.initiate = nil
	var ask []negentropy.ID
	if s.own.flags&flagTakes != 0 || s.cfg.List {
		ask = slices.Collect(maps.Keys(s.wanted))
	}
	const part = partFrame / negentropy.IDSize
	for len(ask) > part {
		if err := s.out.say(encodeAsk(ask[:part], false)); err != nil {
			return err
		}
		ask = ask[part:]
	}
	if err := s.out.say(encodeAsk(ask, true)); err != nil {
		return err
	}
	if !s.tells() {
		return s.tell(nil)
	}
	return s.tell(s.differing())
}

// differing are the heads that the other side does not have.
func (s *session) differing() []head {
	return slices.SortedFunc(maps.Values(s.differ), func(a, b head) int {
		return cmp.Or(bytes.Compare(a.author[:], b.author[:]), cmp.Compare(a.log, b.log))
	})
}

func encodeAsk(ids []negentropy.ID, last bool) []byte {
	out := binary.AppendUvarint([]byte{byte(kindAsk), flag(last)}, uint64(len(ids)))
	for _, id := range ids {
		out = append(out, id[:]...)
	}
	return out
}

// onAsk lists the heads that the other side does not have.
func (s *session) onAsk(body []byte) error {
	d := decoder{rest: body}
	last := d.flag()
	ids := make([]negentropy.ID, d.count(negentropy.IDSize))
	for i := range ids {
		ids[i] = d.hash()
	}
	if err := d.end(); err != nil {
		return err
	}
	if s.respond == nil || len(s.differ)+len(ids) > len(s.mine) {
		return broken("it asks for heads that there are not")
	}
	for _, id := range ids {
		h, ok := s.mine[id]
		if !ok {
			return broken("it asks for a head that there is not")
		}
		s.differ[id] = h
	}
	if !last {
		return nil
	}
	s.respond = nil
	return s.tell(s.differing())
}
