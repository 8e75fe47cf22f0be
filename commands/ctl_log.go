package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"dibber/netkit/control"
)

// logLevelDoc is the level of a node's log.
type logLevelDoc struct {
	Level *string `json:"level"` // null: not known
	From  *string `json:"from"`  // what it was before; null: it was not changed
}

func newCtlLogLevel(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "log-level", usage: "show or change what the node logs", args: "[LEVEL]", doc: logLevelDoc{},
		about: `The levels are those of --log-level: debug, info, warn, error. At info there is a line for every event but those of the daily
work of a server, which debug adds, together with what libp2p has to say. What is set lasts until the node ends.`,
		examples: []string{"dibber ctl log-level", "dibber ctl log-level info", "dibber ctl log-level debug --json"},
	}, func(args []string) error {
		if len(args) > 1 {
			return usagef("ctl log-level takes one level, but got %d", len(args))
		}
		if len(args) == 1 {
			_, err := parseLogLevel(args[0])
			return err
		}
		return nil
	}, func(ctx context.Context, out *output) (any, error) {
		var doc logLevelDoc
		if len(o.args) == 0 {
			err := o.ask(ctx, out, http.MethodGet, "/log-level", nil, &doc)
			return doc, err
		}
		err := o.ask(ctx, out, http.MethodPost, "/log-level", logLevelDoc{Level: &o.args[0]}, &doc)
		return doc, err
	})
}

// parseLogLevel reads a word of --log-level.
func parseLogLevel(word string) (level slog.Level, err error) {
	if !slices.Contains(logLevels(), word) {
		return 0, usagef("%q is not one of %s%s", word, strings.Join(logLevels(), ", "), didYouMean(word, logLevels(), ""))
	}
	err = level.UnmarshalText([]byte(word))
	return level, err
}

func (op *operator) logLevel(control.Call) (any, error) {
	return logLevelDoc{Level: new(levelWord(op.out.level.Level()))}, nil
}

// setLogLevel changes what is logged, by libp2p too.
func (op *operator) setLogLevel(c control.Call) (any, error) {
	var given logLevelDoc
	dec := json.NewDecoder(bytes.NewReader(c.Body))
	if err := dec.Decode(&given); err != nil || given.Level == nil {
		return nil, usagef(`the body names no level, as in {"level": "info"}`)
	}
	level, err := parseLogLevel(*given.Level)
	if err != nil {
		return nil, err
	}
	doc := logLevelDoc{Level: given.Level, From: new(levelWord(op.out.level.Level()))}
	op.out.level.Set(level)
	op.out.log.Info("log level changed", "from", *doc.From, "to", *doc.Level)
	return doc, nil
}

func (d logLevelDoc) renderText(t *text) {
	switch {
	case d.Level == nil:
	case d.From == nil:
		t.line("%s", *d.Level)
	default:
		t.line("log level  %s → %s", *d.From, *d.Level)
	}
}

func (d logLevelDoc) quiet() string {
	if d.Level == nil {
		return ""
	}
	return *d.Level
}
