// Command nostr is the negentropy of nbd-wtf/go-nostr, driven by the same lines as dibber's in ../negentropy, save that
// it tells all differences at the end.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/nbd-wtf/go-nostr"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy/storage/vector"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "nostr:", err)
		os.Exit(1)
	}
}

func run() error {
	frame, _ := strconv.Atoi(os.Getenv("FRAMESIZELIMIT")) // 0: no limit
	out := bufio.NewWriter(os.Stdout)
	items := vector.New()
	var ne *negentropy.Negentropy
	var differences found
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), ",")
		switch word {
		case "item":
			at, id, _ := strings.Cut(rest, ",")
			timestamp, err := strconv.ParseInt(at, 10, 64)
			if err != nil {
				return err
			}
			items.Insert(nostr.Timestamp(timestamp), id)
		case "seal":
			items.Seal()
			ne = negentropy.New(items, frame)
		case "initiate":
			fmt.Fprintf(out, "msg,%s\n", ne.Start())
			differences.collect(ne)
		case "msg":
			if err := message(ne, rest, &differences, out); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return lines.Err()
}

// found collects the differences, which the library tells by channels until it closes them at the end.
type found struct {
	sync.WaitGroup
	have, need []string
}

func (f *found) collect(ne *negentropy.Negentropy) {
	f.Go(func() {
		for id := range ne.Haves {
			f.have = append(f.have, id)
		}
	})
	f.Go(func() {
		for id := range ne.HaveNots {
			f.need = append(f.need, id)
		}
	})
}

// message hands one on.
func message(ne *negentropy.Negentropy, msg string, f *found, out *bufio.Writer) error {
	next, err := ne.Reconcile(msg)
	if err != nil {
		return err
	}
	if next != "" {
		_, err := fmt.Fprintf(out, "msg,%s\n", next)
		return err
	}
	f.Wait()
	for _, id := range f.have {
		fmt.Fprintf(out, "have,%s\n", id)
	}
	for _, id := range f.need {
		fmt.Fprintf(out, "need,%s\n", id)
	}
	_, err = fmt.Fprintln(out, "done")
	return err
}
