package p2panda

import (
	"bytes"
	"errors"
	"fmt"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// Logs makes a store of logs one that this package can use. Entries that come in get the time 0: the protocol carries none, and in every
// store it must be the same.
func Logs(s *logstore.Store) Store { return logs{s} }

type logs struct{ *logstore.Store }

func (l logs) view(fn func(*logstore.View) error) (err error) {
	v, err := l.View()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return fn(v)
}

func (l logs) Since(n uint64, fn func(Place) error) (total uint64, err error) {
	err = l.view(func(v *logstore.View) error {
		total = v.Arrivals()
		return v.Since(n, func(a logstore.Arrival) error {
			return fn(Place{LogID: LogID{Author: a.Author, Log: a.Log}, Seq: a.Seq})
		})
	})
	return total, err
}

func (l logs) Find(id bamboo.Hash) (p Place, err error) {
	err = l.view(func(v *logstore.View) error {
		r, err := v.ByID(id)
		if errors.Is(err, logstore.ErrNotFound) {
			return ErrNotFound
		}
		p = Place{LogID: LogID{Author: r.Author, Log: r.Log}, Seq: r.Seq}
		return err
	})
	return p, err
}

func (l logs) Run(log LogID, from, to uint64, fn func(Record) error) error {
	return l.view(func(v *logstore.View) error {
		return v.Run(log.Author, log.Log, from, to, func(r logstore.Record) error {
			out := Record{Signed: r.Signed, Operation: r.Payload}
			if r.PayloadSize > logstore.InlineMax && r.PayloadSize <= MaxOperation {
				var file bytes.Buffer
				if err := l.ReadPayload(&file, r.PayloadHash); err != nil {
					return err
				}
				out.Operation = file.Bytes()
			}
			return fn(out)
		})
	})
}

func (l logs) Proven(log LogID, upTo uint64) (uint64, error) {
	err := l.CheckSignatures(log.Author, log.Log, upTo)
	if bad, ok := errors.AsType[*bamboo.SignatureError](err); ok {
		return uint64(bad.Entries[0]), nil
	}
	return upTo, err
}

func (l logs) Put(run []Record) (int, error) {
	records := make([]logstore.Record, len(run))
	for i, r := range run {
		records[i] = logstore.Record{Signed: r.Signed, Payload: r.Operation}
		if r.PayloadSize > logstore.InlineMax {
			if _, err := l.NewPayload(bytes.NewReader(r.Operation)); err != nil {
				return 0, err
			}
			records[i].Payload = nil
		}
	}
	res, err := l.Store.Put(records)
	var gap *logstore.GapError
	var link *bamboo.LinkError
	switch {
	case errors.As(err, &gap), errors.As(err, &link),
		errors.Is(err, logstore.ErrForked), errors.Is(err, logstore.ErrEnded), errors.Is(err, bamboo.ErrSignature), errors.Is(err, bamboo.ErrPayload):
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return res.Added, err
}
