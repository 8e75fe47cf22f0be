// Command negentropy is dibber's side of the conformance tests of negentropy, in the form that its upstream's test
// suite drives: lines on standard input, lines on standard output.
//
//	item,<timestamp>,<id in hex>   adds an item
//	seal                           that was the last
//	initiate                       asks: msg,<hex>
//	msg,<hex>                      takes a message: msg,<hex> in answer, or have,<id> and need,<id> of what was learned, and done
//
// FRAMESIZELIMIT in the environment limits messages, in bytes. With the argument tail the first message splits the end of the set,
// as the reference does not.
package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"dibber/netkit/negentropy"
)

func main() {
	if err := run(os.Stdin, os.Stdout, len(os.Args) > 1 && os.Args[1] == "tail"); err != nil {
		fmt.Fprintln(os.Stderr, "negentropy:", err)
		os.Exit(1)
	}
}

// harness is what was told so far.
type harness struct {
	items []negentropy.Item
	set   *negentropy.Vector
	frame int
	tail  bool
	asks  *negentropy.Initiator // nil: this side answers
	out   *bufio.Writer
}

func run(in io.Reader, out io.Writer, tail bool) error {
	h := &harness{tail: tail, out: bufio.NewWriter(out)}
	if s := os.Getenv("FRAMESIZELIMIT"); s != "" {
		var err error
		if h.frame, err = strconv.Atoi(s); err != nil {
			return fmt.Errorf("FRAMESIZELIMIT: %w", err)
		}
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if err := h.line(lines.Text()); err != nil {
			return fmt.Errorf("%.60q: %w", lines.Text(), err)
		}
		if err := h.out.Flush(); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (h *harness) line(line string) (err error) {
	word, rest, _ := strings.Cut(line, ",")
	switch {
	case word == "item":
		return h.item(rest)
	case word == "seal":
		h.set, err = negentropy.NewVector(h.items)
		return err
	case h.set == nil:
		return errors.New("not before seal")
	case word == "initiate":
		if h.asks, err = negentropy.NewInitiator(h.set, h.frame); err != nil {
			return err
		}
		if h.tail {
			return h.say(h.asks.OpenTail())
		}
		return h.say(h.asks.Open())
	case word == "msg":
		msg, err := hex.DecodeString(rest)
		if err != nil {
			return err
		}
		return h.message(msg)
	}
	return errors.New("unknown line")
}

func (h *harness) item(rest string) error {
	at, id, _ := strings.Cut(rest, ",")
	timestamp, err := strconv.ParseUint(at, 10, 64)
	if err != nil {
		return err
	}
	b, err := hex.DecodeString(id)
	if err != nil {
		return err
	}
	if len(b) != negentropy.IDSize {
		return fmt.Errorf("id of %d bytes", len(b))
	}
	h.items = append(h.items, negentropy.Item{Timestamp: timestamp, ID: negentropy.ID(b)})
	return nil
}

func (h *harness) message(msg []byte) error {
	if h.asks == nil {
		r, err := negentropy.NewResponder(h.set, h.frame)
		if err != nil {
			return err
		}
		answer, err := r.Answer(msg)
		return h.say(answer, err)
	}
	next, d, err := h.asks.Next(msg)
	if err != nil {
		return err
	}
	for _, id := range d.Have {
		fmt.Fprintf(h.out, "have,%x\n", id)
	}
	for _, id := range d.Need {
		fmt.Fprintf(h.out, "need,%x\n", id)
	}
	return h.say(next, nil)
}

func (h *harness) say(msg []byte, err error) error {
	switch {
	case err != nil:
		return err
	case msg == nil:
		fmt.Fprintln(h.out, "done")
	default:
		fmt.Fprintf(h.out, "msg,%x\n", msg)
	}
	return nil
}
