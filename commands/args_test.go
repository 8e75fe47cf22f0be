package commands

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/urfave/cli/v2"
	"pgregory.net/rapid"
)

// sampleOptions are those of a command that has every kind of flag.
type sampleOptions struct {
	On    bool
	Count int
	Size  uint64
	Rate  float64
	Name  string
	Kind  string
	List  []string
	Words []string
	Args  []string
}

// newSample is a command with every kind of flag; it has a command below it although it runs itself.
func newSample(o *sampleOptions) func(*env) spec {
	return func(*env) spec {
		o.Kind, o.List = "plain", []string{"default"}
		return spec{
			name: "sample", usage: "try the frame", args: "[argument]...",
			flags: []cli.Flag{
				&cli.BoolFlag{Name: "on", Aliases: []string{"x"}, Destination: &o.On},
				&cli.IntFlag{Name: "count", Aliases: []string{"c"}, Value: 4, Destination: &o.Count},
				&cli.Uint64Flag{Name: "size", Destination: &o.Size},
				&cli.Float64Flag{Name: "rate", Destination: &o.Rate},
				&cli.StringFlag{Name: "name", Destination: &o.Name},
				choiceFlag("", "kind", "", &o.Kind, "plain", "fancy"),
				listFlag("", "list", "", &o.List),
				listFlag(groupHost, "words", "", &o.Words, "quic", "tcp"),
			},
			options: o, doc: struct{}{},
			validate: func(args []string) error {
				o.Args = args
				return nil
			},
			run: func(context.Context, *output) (any, error) { return struct{}{}, nil },
			subcommands: []spec{{
				name: "below", usage: "try a command below", doc: struct{}{},
				run: func(context.Context, *output) (any, error) { return struct{}{}, nil },
			}},
		}
	}
}

func TestFlagsStandAnywhere(t *testing.T) {
	t.Parallel()
	defaults := sampleOptions{Count: 4, Kind: "plain", List: []string{"default"}}
	tests := []struct {
		line string
		want func(*sampleOptions)
	}{
		{"sample", func(*sampleOptions) {}},
		{"sample a b", func(o *sampleOptions) { o.Args = []string{"a", "b"} }},
		{"sample a --on b -c 3", func(o *sampleOptions) { o.On, o.Count, o.Args = true, 3, []string{"a", "b"} }},
		{"--count 3 sample a", func(o *sampleOptions) { o.Count, o.Args = 3, []string{"a"} }},
		{"--on sample", func(o *sampleOptions) { o.On = true }},
		{"sample -x=false -c=-1", func(o *sampleOptions) { o.Count = -1 }},
		{"sample -c -1", func(o *sampleOptions) { o.Count = -1 }},
		{"sample --count 3 --count 5", func(o *sampleOptions) { o.Count = 5 }},
		{"sample - --name -", func(o *sampleOptions) { o.Args, o.Name = []string{"-"}, "-" }},
		{"sample --name= a", func(o *sampleOptions) { o.Args = []string{"a"} }},
		{"sample --name=a=b", func(o *sampleOptions) { o.Name = "a=b" }},
		{"sample -- --on -c below", func(o *sampleOptions) { o.Args = []string{"--on", "-c", "below"} }},
		{"sample a -- --on", func(o *sampleOptions) { o.Args = []string{"a", "--on"} }},
		{"sample a below json", func(o *sampleOptions) { o.Args = []string{"a", "below", "json"} }},
		{"sample --list a --list b,c", func(o *sampleOptions) { o.List = []string{"a", "b", "c"} }},
		{"sample --list=", func(o *sampleOptions) { o.List = nil }},
		{"sample --words tcp,quic", func(o *sampleOptions) { o.Words = []string{"tcp", "quic"} }},
		{"sample --size 7 --rate 0.5 --kind fancy", func(o *sampleOptions) { o.Size, o.Rate, o.Kind = 7, 0.5, "fancy" }},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			var got sampleOptions
			want := defaults
			tt.want(&want)
			if o := (session{}).with(t.Context(), newSample(&got), strings.Fields(tt.line)...); o.code != 0 {
				t.Fatalf("exit %d: %s", o.code, o.stderr)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	tests := []struct{ line, want string }{
		{"", "dibber --help"},
		{"smaple", `unknown command "smaple"; did you mean dibber sample?`},
		{"sample --cuont 3", "unknown flag --cuont for sample; did you mean --count?"},
		{"sample -count 3", "unknown flag -count for sample; write --count"},
		{"sample --c 3", "unknown flag --c for sample; write -c"},
		{"sample -xq", "unknown flag -xq for sample; write -x -q"},
		{"sample -z", "arguments that start with - go after --"},
		{"sample --count", "--count needs a value: a whole number"},
		{"sample --count --on", "--count needs a value"},
		{"sample --count -- 3", "--count needs a value"},
		{"sample --count many", `--count: "many" is not a whole number`},
		{"sample --size -1", `--size: "-1" is not a whole number of at least 0`},
		{"sample --rate fast", `--rate: "fast" is not a number`},
		{"sample --on=maybe", `--on: "maybe" is not true or false`},
		{"sample --timeout 5", `--timeout: "5" is not a duration such as 10s or 1m30s`},
		{"sample --timeout -5s", `--timeout: "-5s" is negative`},
		{"sample --kind fency", `"fency" is not one of plain, fancy; did you mean fancy?`},
		{"sample --words tcp,qiuc", `"qiuc" is not one of quic, tcp; did you mean quic?`},
		{"sample --log-level loud", "is not one of debug, info, warn, error"},
		{"sample --json --ndjson", "exclude each other"},
		{"sample -q --json", "--quiet excludes"},
		{"sample below extra", `sample below takes no arguments, but got "extra"`},
		{"--count 3 version", "unknown flag --count for version"},
		{"key", "key needs a command: new, show, convert"},
		{"key nwe", `unknown command "key nwe"; did you mean dibber key new?`},
		{"key -- new", `unknown command "key new"`},
		{"help smaple", `unknown command "smaple"`},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			var o sampleOptions
			session{}.with(t.Context(), newSample(&o), strings.Fields(tt.line)...).wrongUsage(t, tt.want)
		})
	}
}

// TestOrderOfFlags holds that the place of a flag on the line never matters.
func TestOrderOfFlags(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		flags := rapid.SliceOfN(rapid.SampledFrom([][]string{
			{"--on"}, {"-x=true"}, {"--size", "9"}, {"--name", "n"}, {"--json"}, {"-q=false"}, {"--timeout", "3s"},
		}), 0, 5).Draw(t, "flags")
		args := rapid.SliceOfN(rapid.StringMatching(`-|[a-z@/=,][-a-z0-9/=,]{0,6}`), 0, 4).Draw(t, "args")
		args = slices.DeleteFunc(args, func(s string) bool { return s == "below" })
		seed := rapid.Uint64().Draw(t, "seed")

		first := []string{"sample"}
		for _, f := range flags {
			first = append(first, f...)
		}
		first = append(append(first, "--"), args...)
		if got, want := parseSample(t, interleave(seed, flags, args)), parseSample(t, first); !cmp.Equal(got, want) {
			t.Fatal(cmp.Diff(want, got))
		}
	})
}

// interleave mixes flags into the arguments of sample, keeping the order of each kind.
func interleave(seed uint64, flags [][]string, args []string) []string {
	rnd := rand.New(rand.NewPCG(seed, 0))
	args = append([]string{"sample"}, args...)
	var line []string
	for len(flags)+len(args) > 0 {
		if len(args) == 0 || len(flags) > 0 && rnd.IntN(2) == 0 {
			line, flags = append(line, flags[0]...), flags[1:]
		} else {
			line, args = append(line, args[0]), args[1:]
		}
	}
	return line
}

// parsed is what a line came to.
type parsed struct {
	Command string
	Flags   [][2]string
	Args    []string
}

func parseSample(t *rapid.T, line []string) parsed {
	t.Helper()
	var o sampleOptions
	e := newEnv(Stdio{})
	e.root = append(e.root, withPaths(nil, []spec{newSample(&o)(e)})...)
	in, err := parse(e, line)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	p := parsed{Command: in.spec.fullName(), Args: append([]string{}, in.args...)}
	for _, g := range in.flags {
		p.Flags = append(p.Flags, [2]string{g.name, g.value})
	}
	return p
}

// FuzzArgs holds that no command line makes dibber do anything but run a known command, print help, or report wrong usage in one
// line with nothing on stdout, and that the order which urfave/cli is given means the same when it is read again.
func FuzzArgs(f *testing.F) {
	for _, line := range []string{
		"version --json", "key new -o -", "-- -", "--=", "-=x", "key\x00show\x00-", "help help", "--timeout=", "", "--version -q",
		"dial --ping 3 a --each -- -x", "--rendezvous discover", "--rendezvous --relay serve", "--listen\x00a,b\x00serve\x00--listen=",
		"config show key new -- --type rsa", "serve --relay=false --drain -1s", "-qv version", "--json\x00--quiet=1\x00id\x00\n",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == 0 })
		in, err := parse(newEnv(Stdio{}), args)
		switch {
		case err != nil:
			if len(args) == 0 || args[0] != completeWord {
				(session{}).run(t.Context(), args...).wrongUsage(t, "")
			}
		case in.help:
			if got := (session{}).run(t.Context(), args...); args[0] != completeWord && (got.code != 0 || got.stderr != "" || got.stdout == "") {
				t.Fatalf("%q: help exits %d with %q on stderr", args, got.code, got.stderr)
			}
		case in.spec == nil || in.spec.run == nil:
			t.Fatalf("%q: nothing to run and no error", args)
		default:
			again, err := parse(newEnv(Stdio{}), in.canonical()[1:])
			if err != nil {
				t.Fatalf("%q: in order, %q: %v", args, in.canonical(), err)
			}
			if !slices.Equal(again.canonical(), in.canonical()) {
				t.Fatalf("%q: in order, %q is another line, %q", args, in.canonical(), again.canonical())
			}
		}
	})
}
