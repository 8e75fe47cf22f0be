package addr

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits on a list or table read from a file or from standard input.
const (
	MaxLines     = 1 << 16  // lines that are not blank and not a comment
	MaxListBytes = 16 << 20 // bytes in all
)

// LineError is an error at one line of a list or table.
type LineError struct {
	Source string // file name, or "stdin"
	Line   int    // counted from 1
	Err    error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.Source, e.Line, e.Err) }

// Unwrap returns what is wrong with the line.
func (e *LineError) Unwrap() error { return e.Err }

// eachLine calls fn for each line of r, trimmed, that is neither blank nor a comment (# first).
// An error of fn ends it and is returned as a *LineError, as are errors of reading.
func eachLine(r io.Reader, source string, fn func(line string) error) error {
	limited := &io.LimitedReader{R: r, N: MaxListBytes + 1}
	scan := bufio.NewScanner(limited)
	scan.Buffer(nil, MaxTargetLen+2) // room for the line's own CR LF
	number, used := 0, 0
	fail := func(err error) error { return &LineError{Source: source, Line: number, Err: err} }
	for scan.Scan() {
		number++
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if used++; used > MaxLines {
			return fail(fmt.Errorf("%w: more than %d lines", ErrTooLong, MaxLines))
		}
		if err := fn(line); err != nil {
			return fail(err)
		}
	}
	number++
	switch err := scan.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fail(fmt.Errorf("%w: a line of more than %d bytes", ErrTooLong, MaxTargetLen))
	case err != nil:
		return fail(err)
	case limited.N == 0:
		return fail(fmt.Errorf("%w: more than %d bytes", ErrTooLong, MaxListBytes))
	}
	return nil
}

// OpenFunc opens a file by the name a person gave, as os.Open does.
type OpenFunc func(name string) (io.ReadCloser, error)

// eachLineOf opens the file name and calls fn as eachLine does.
func eachLineOf(open OpenFunc, name string, fn func(line string) error) error {
	f, err := open(name)
	if err != nil {
		return err
	}
	return errors.Join(eachLine(f, name, fn), f.Close())
}
