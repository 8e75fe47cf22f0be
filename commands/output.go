package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// The rules of output:
//
//   - stdout carries the result and nothing else; stderr carries progress, logs, warnings and hints.
//   - Without a format flag, stdout is text for people. With --json it is one document at the end. With --ndjson it is one event a
//     line, and the last line is the document of --json with "event":"summary". With -q it is the single most useful token.
//   - Wrong usage prints nothing on stdout and exactly one line on stderr.
//   - Lines end up whole: an output may be used from several goroutines.

// texter is a document that knows how to show itself to a person.
type texter interface{ renderText(t *text) }

// quieter is a document with one most useful token, printed by -q. An empty token prints nothing.
type quieter interface{ quiet() string }

// liner is an event payload that also shows as a line of text while the command runs.
type liner interface{ line() string }

// output is what a running command speaks through.
type output struct {
	e    *env
	spec *spec

	log        *slog.Logger   // stderr, as --log-level and --log-format want it
	level      *slog.LevelVar // of log
	logsEvents bool           // each event is a line of the log as well: of what is long-lived

	mask func([]byte) []byte // what everything printed passes; nil leaves it as it is

	calm calm // what is told to a person of what happens again and again

	queue *queue // to stdout, of a long-lived command; nil writes at once

	mu       sync.Mutex
	early    [][]byte // lines of events before "ready"; nil: they need not wait
	raw      bool     // stdout was handed to the command
	progress bool     // a progress line stands on the terminal
}

// event reports that something happened: a line of --ndjson, and in text mode a line on stdout if the payload has one.
func (o *output) event(name string, payload any) { o.emit(name, payload, true) }

// emit is event, whose line of text is left out where tell is not set.
func (o *output) emit(name string, payload any, tell bool) {
	if o.logsEvents {
		level := eventLevel(name)
		if !tell { // known already
			level = slog.LevelDebug
		}
		o.logEvent(level, name, payload)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch s := o.e.shared; {
	case s.NDJSON:
		line, err := encode(o.envelope(name), payload)
		if err != nil {
			o.say("dibber: %v", err)
			return
		}
		o.inTurn(name, line)
	case s.JSON, s.Quiet, o.raw:
	default:
		if l, ok := payload.(liner); ok && tell {
			o.inTurn(name, []byte(l.line()+"\n"))
		}
	}
}

// readyFirst has every event wait for the one called "ready", or for the end: who reads the first line learns where to connect.
func (o *output) readyFirst() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.early = [][]byte{}
}

// inTurn writes the line of an event when its turn has come.
func (o *output) inTurn(name string, line []byte) {
	if o.early != nil && name != "ready" {
		o.early = append(o.early, line)
		return
	}
	o.write(line)
	o.late()
}

// late writes what had to wait.
func (o *output) late() {
	early := o.early
	o.early = nil
	for _, line := range early {
		o.write(line)
	}
}

// status shows what is going on, on one line of stderr that the next one replaces; only on a terminal.
func (o *output) status(format string, args ...any) {
	if o.e.shared.Quiet || !o.e.isTerminal(o.e.stdio.Err) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.erase()
	line := []byte(oneLine(fmt.Sprintf(format, args...)))
	if o.mask != nil {
		line = o.mask(line)
	}
	_, _ = o.e.stdio.Err.Write(line)
	o.progress = true
}

// notice tells a person something about the run that is neither result nor problem; -q silences it.
func (o *output) notice(format string, args ...any) { o.remark(slog.LevelInfo, format, args) }

// warn tells a person about a problem that does not end the run; -q silences it.
func (o *output) warn(format string, args ...any) { o.remark(slog.LevelWarn, format, args) }

// remark is a line of stderr for a person, or of the log where programs read that.
func (o *output) remark(level slog.Level, format string, args []any) {
	if o.e.shared.Quiet {
		return
	}
	if o.logsJSON() {
		o.log.Log(context.Background(), level, o.masked(fmt.Sprintf(format, args...)))
		return
	}
	prefix := "dibber: "
	if level == slog.LevelWarn {
		prefix = "warning: "
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.say("%s%s", prefix, fmt.Sprintf(format, args...))
}

// stdout hands stdout to a command whose result is bytes, such as the content of a block. Text and -q then print nothing more; with
// --json or --ndjson stdout is taken and the answer is a usage error.
func (o *output) stdout() (io.Writer, error) {
	if o.e.shared.JSON || o.e.shared.NDJSON {
		return nil, usagef("stdout cannot carry both the data and --json or --ndjson; write the data to a file")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.raw = true
	return o.e.stdio.Out, nil
}

// stdin returns what the user types or pipes in.
func (o *output) stdin() io.Reader { return o.e.stdio.In }

// finish prints the result document, or as much of it as there is, and the failure.
func (o *output) finish(doc any, f *failure) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.flush()
	o.erase()
	if f != nil && f.Exit == exitUsage {
		o.e.usageError(f)
		return
	}
	o.late()
	if doc == nil {
		doc = o.spec.doc
	} else if !o.raw {
		o.finishText(doc)
	}
	if o.e.shared.JSON || o.e.shared.NDJSON {
		o.finishJSON(doc, f)
	}
	if f != nil && o.logsJSON() {
		o.log.Error(o.masked(oneLine(f.Error())), "code", f.Code, "hint", f.Hint)
	} else if f != nil {
		o.say("dibber: %s", oneLine(f.Error()))
		if f.Hint != "" {
			o.say("hint: %s", oneLine(f.Hint))
		}
	}
}

// finishText prints the document for a person, or its token with -q.
func (o *output) finishText(doc any) {
	switch s := o.e.shared; {
	case s.JSON, s.NDJSON:
	case s.Quiet:
		if q, ok := doc.(quieter); ok && q.quiet() != "" {
			o.write([]byte(q.quiet() + "\n"))
		}
	default:
		if r, ok := doc.(texter); ok {
			t := newText(o.e)
			t.mask = o.mask
			r.renderText(t)
			o.write(t.bytes())
		}
	}
}

// finishJSON prints the document of --json, or the last line of --ndjson.
func (o *output) finishJSON(doc any, f *failure) {
	name := ""
	if o.e.shared.NDJSON {
		name = summaryEvent
	}
	line, err := encode(o.envelope(name), doc, verdict{OK: f == nil, Error: f.doc()})
	if err != nil {
		o.say("dibber: %v", err)
		return
	}
	if o.e.shared.NDJSON {
		o.write(line)
		return
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, line, "", "  "); err != nil {
		o.say("dibber: %v", err)
		return
	}
	o.write(pretty.Bytes())
}

// envelope returns the beginning of a document made now.
func (o *output) envelope(name string) envelope {
	now := time.Now()
	return envelope{Schema: o.spec.schemaName(), Event: name, Time: now, ElapsedMS: millis(now.Sub(o.e.start))}
}

// write puts a whole line, or several, on stdout. A reader that went away is not worth a word: the next write would say the same.
func (o *output) write(b []byte) {
	o.erase()
	if o.mask != nil {
		b = o.mask(b)
	}
	if o.queue != nil {
		o.queue.put(b)
		return
	}
	_, _ = o.e.stdio.Out.Write(b)
}

// logsJSON reports whether stderr is for programs.
func (o *output) logsJSON() bool { return o.log != nil && o.e.shared.LogFormat == "json" }

// masked is a text as it may be seen.
func (o *output) masked(text string) string {
	if o.mask == nil {
		return text
	}
	return string(o.mask([]byte(text)))
}

// flush waits for the reader of a long-lived command, within bounds.
func (o *output) flush() {
	if o.queue == nil {
		return
	}
	o.queue.close()
	if n := o.queue.dropped.Load(); n > 0 {
		o.say("warning: %d lines were dropped, for nobody read them in time", n)
	}
}

// say puts a line on stderr.
func (o *output) say(format string, args ...any) {
	o.erase()
	line := []byte(fmt.Sprintf(format+"\n", args...))
	if o.mask != nil {
		line = o.mask(line)
	}
	_, _ = o.e.stdio.Err.Write(line) // there is no third stream to tell that this one is gone
}

// erase takes the progress line off the terminal.
func (o *output) erase() {
	if o.progress {
		fmt.Fprint(o.e.stdio.Err, "\r\x1b[K")
		o.progress = false
	}
}
