package negentropy

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"dibber/scripts/interop/bed"
)

// side is a program that is driven by lines.
type side struct {
	command []string // from the folder with the peer's programs
}

// talk is a running side.
type talk struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (s side) start(ctx context.Context, dir string, frame int, items []string) (*talk, error) {
	cmd := exec.CommandContext(ctx, s.command[0], s.command[1:]...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if frame > 0 {
		cmd.Env = append(os.Environ(), fmt.Sprintf("FRAMESIZELIMIT=%d", frame))
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &talk{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if err := t.say(strings.Join(append(items, "seal"), "\n")); err != nil {
		return nil, errors.Join(err, t.end())
	}
	return t, nil
}

func (t *talk) say(line string) error {
	_, err := io.WriteString(t.in, line+"\n")
	return err
}

func (t *talk) hear() (word, rest string, err error) {
	line, err := t.out.ReadString('\n')
	word, rest, _ = strings.Cut(strings.TrimSpace(line), ",")
	return word, rest, err
}

func (t *talk) end() error { return errors.Join(t.in.Close(), t.cmd.Wait()) }

// outcome is what the asking side learned, and what it took.
type outcome struct {
	have, need []string // in order, each once
	messages   []string // in hex, of both sides
}

// session reconciles two sets.
func session(ctx context.Context, dir string, asks, answers side, frame int, a, b []string) (out outcome, err error) {
	left, err := asks.start(ctx, dir, frame, a)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, left.end()) }()
	right, err := answers.start(ctx, dir, frame, b)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, right.end()) }()
	for err = left.say("initiate"); err == nil; {
		word, rest, err := left.hear()
		switch {
		case err != nil:
			return out, err
		case word == "have":
			out.have = append(out.have, rest)
		case word == "need":
			out.need = append(out.need, rest)
		case word == "done":
			slices.Sort(out.have)
			slices.Sort(out.need)
			out.have, out.need = slices.Compact(out.have), slices.Compact(out.need)
			return out, nil
		case word == "msg":
			answer, err := ask(right, rest)
			if err != nil {
				return out, err
			}
			for _, msg := range []string{rest, answer} {
				if frame > 0 && len(msg) > 2*frame {
					return out, fmt.Errorf("message of %d bytes, limit %d", len(msg)/2, frame)
				}
			}
			out.messages = append(out.messages, rest, answer)
			if err := left.say("msg," + answer); err != nil {
				return out, err
			}
		default:
			return out, fmt.Errorf("said %.40q", word)
		}
	}
	return out, err
}

// ask has the answering side answer.
func ask(t *talk, msg string) (string, error) {
	if err := t.say("msg," + msg); err != nil {
		return "", err
	}
	word, rest, err := t.hear()
	if err == nil && word != "msg" {
		err = fmt.Errorf("answered %.40q", word)
	}
	return rest, err
}

// sets are pairs that differ in every way: none, one side empty, at the end, scattered, many of one time.
func sets() (pairs [][2][]string) {
	item := func(at, n int) string {
		return fmt.Sprintf("item,%d,%x", at, sha256.Sum256(fmt.Appendf(nil, "item-%d", n)))
	}
	for _, size := range []int{0, 1, 31, 32, 500, 20_000} {
		for _, sameTime := range []int{1, 100, 1 << 30} {
			for _, every := range []int{1, 2, 97} { // 1: all of the first are missing in the second
				var a, b []string
				for n := range size {
					line := item(1_700_000_000+n/sameTime, n)
					a = append(a, line)
					if n%every != 0 {
						b = append(b, line)
					}
				}
				for n := range size / 10 {
					b = append(b, item(1_700_000_000+(size+n)/sameTime, size+n))
				}
				pairs = append(pairs, [2][]string{a, b})
			}
		}
	}
	return pairs
}

// lacking are the ids of a that b lacks, in order.
func lacking(a, b []string) (ids []string) {
	has := make(map[string]bool, len(b))
	for _, line := range b {
		has[line] = true
	}
	for _, line := range a {
		if !has[line] {
			ids = append(ids, line[strings.LastIndexByte(line, ',')+1:])
		}
	}
	slices.Sort(ids)
	return ids
}

// everySet reconciles all pairs, and compares what was learned with the truth.
func everySet(asks, answers side, frame int) func(context.Context, *bed.Scene) (string, error) {
	return func(ctx context.Context, s *bed.Scene) (string, error) {
		differences, messages := 0, 0
		pairs := sets()
		for _, p := range pairs {
			got, err := session(ctx, s.Bin, asks, answers, frame, p[0], p[1])
			if err != nil {
				return "", err
			}
			have, need := lacking(p[0], p[1]), lacking(p[1], p[0])
			if !slices.Equal(got.have, have) || !slices.Equal(got.need, need) {
				return "", fmt.Errorf("sets of %d and %d items: told %d and %d differences, there are %d and %d",
					len(p[0]), len(p[1]), len(got.have), len(got.need), len(have), len(need))
			}
			differences += len(have) + len(need)
			messages += len(got.messages)
		}
		return fmt.Sprintf("%d pairs of sets, %d differences, %d messages", len(pairs), differences, messages), nil
	}
}

// sameMessages has both sides played by one implementation and then by the other.
func sameMessages(theirs side) func(context.Context, *bed.Scene) (string, error) {
	return func(ctx context.Context, s *bed.Scene) (string, error) {
		dibber, size, count := side{command: []string{"./" + ours}}, 0, 0
		for _, p := range sets() {
			a, err := session(ctx, s.Bin, dibber, dibber, 0, p[0], p[1])
			if err != nil {
				return "", err
			}
			b, err := session(ctx, s.Bin, theirs, theirs, 0, p[0], p[1])
			if err != nil {
				return "", err
			}
			if !slices.Equal(a.messages, b.messages) {
				return "", fmt.Errorf("sets of %d and %d items: messages differ", len(p[0]), len(p[1]))
			}
			for _, msg := range a.messages {
				size += len(msg) / 2
			}
			count += len(a.messages)
		}
		return fmt.Sprintf("%d messages, %d bytes", count, size), nil
	}
}
