package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/gologshim"
)

// logger returns the log on stderr, whose level can be changed, and makes libp2p write to it too, unless its own variable says how
// it shall log.
func (e *env) logger() (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	_ = level.UnmarshalText([]byte(e.shared.LogLevel)) // the flag takes only words that slog knows
	if e.shared.Verbose {
		level.Set(min(level.Level(), slog.LevelInfo))
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(e.stdio.Err, options)
	if e.shared.LogFormat == "json" {
		handler = slog.NewJSONHandler(e.stdio.Err, options)
	}
	if _, own := e.lookup("GOLOG_LOG_LEVEL"); !own {
		gologshim.SetDefaultHandler(handler)
	}
	return slog.New(handler), level
}

// logLevels are the words of --log-level.
func logLevels() []string { return []string{"debug", "info", "warn", "error"} }

// levelWord is the word for a level.
func levelWord(l slog.Level) string { return strings.ToLower(l.String()) }

// eventLevel is how grave an event is to who runs a node. What comes with the daily work of a server is for debugging, and so is
// what others say to each other through it.
func eventLevel(name string) slog.Level {
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "failed", "refused", "lost", "corrupt", "rejected", "full":
		return slog.LevelWarn
	case "discover", "refresh", "refreshed", "renewed", "message", "live", "copy":
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// logEvent writes an event to the log: its payload's fields, without those that say nothing.
func (o *output) logEvent(level slog.Level, name string, payload any) {
	if !o.log.Enabled(context.Background(), level) {
		return
	}
	data, err := json.Marshal(payload)
	var fields map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		o.log.Error(name, "error", err)
		return
	}
	var attrs []slog.Attr
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		var text string
		switch {
		case bytes.Equal(value, []byte("null")), bytes.Equal(value, []byte("[]")), bytes.Equal(value, []byte(`""`)):
		case json.Unmarshal(value, &text) == nil:
			attrs = append(attrs, slog.String(key, text))
		default:
			attrs = append(attrs, slog.Any(key, value))
		}
	}
	o.log.LogAttrs(context.Background(), level, name, attrs...)
}
