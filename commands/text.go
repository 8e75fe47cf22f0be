package commands

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// text collects what a document shows to a person: lines, labelled values in aligned columns, and tables.
type text struct {
	colour bool
	mask   func([]byte) []byte // what values and cells pass before they are put into columns; nil leaves them
	buf    bytes.Buffer
	fields [][2]string // labels and values that wait for the end of their block
}

func newText(e *env) *text { return &text{colour: e.colour()} }

// masked is a value as it is printed.
func (t *text) masked(s string) string {
	if t.mask == nil {
		return s
	}
	return string(t.mask([]byte(s)))
}

// line prints one line.
func (t *text) line(format string, args ...any) {
	t.flush()
	fmt.Fprintf(&t.buf, format+"\n", args...)
}

// gap prints an empty line between two blocks.
func (t *text) gap() {
	t.flush()
	if t.buf.Len() > 0 {
		t.buf.WriteByte('\n')
	}
}

// field prints a label and a value; the values of consecutive fields stand in one column. An empty label continues the one above.
func (t *text) field(label, format string, args ...any) {
	t.fields = append(t.fields, [2]string{t.masked(label), fmt.Sprintf(format, args...)})
}

// flush prints the fields that wait.
func (t *text) flush() {
	width := 0
	for _, f := range t.fields {
		width = max(width, runewidth.StringWidth(f[0]))
	}
	for _, f := range t.fields {
		line := t.dim(runewidth.FillRight(f[0], width)) + "  " + f[1]
		t.buf.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	t.fields = nil
}

// table prints rows under a header, in plain columns.
func (t *text) table(header []string, rows [][]string) {
	t.flush()
	var b bytes.Buffer
	plain := tw.Rendition{
		Borders: tw.BorderNone,
		Settings: tw.Settings{
			Lines:      tw.LinesNone,
			Separators: tw.SeparatorsNone,
		},
	}
	cell := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
		Alignment:  tw.CellAlignment{Global: tw.AlignLeft},
		Padding:    tw.CellPadding{Global: tw.Padding{Right: "  ", Overwrite: true}},
	}
	table := tablewriter.NewTable(&b,
		tablewriter.WithRenderer(renderer.NewBlueprint(plain)),
		tablewriter.WithConfig(tablewriter.Config{Header: cell, Row: cell, Behavior: tw.Behavior{TrimSpace: tw.Off}}))
	table.Header(header)
	shown := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row {
			shown[i] = append(shown[i], t.masked(cell))
		}
	}
	err := table.Bulk(shown)
	if err == nil {
		err = table.Render()
	}
	if err != nil {
		t.line("%v", err)
		return
	}
	for i, line := range strings.Split(strings.TrimRight(b.String(), "\n"), "\n") {
		line = strings.TrimRight(line, " ")
		if i == 0 {
			line = t.dim(line)
		}
		t.line("%s", line)
	}
}

// dim makes labels and headers step back on a terminal.
func (t *text) dim(s string) string {
	if !t.colour || strings.TrimSpace(s) == "" {
		return s
	}
	return "\x1b[2m" + s + "\x1b[0m"
}

// bytes returns everything printed so far.
func (t *text) bytes() []byte {
	t.flush()
	return t.buf.Bytes()
}

// barText is a bar of progress, of which part, 0 to 1, is done.
func barText(part float64) string {
	const width = 20
	filled := int(min(part, 1) * width)
	return "[" + strings.Repeat("#", filled) + strings.Repeat(".", width-filled) + "]"
}
