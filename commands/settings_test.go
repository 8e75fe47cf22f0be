package commands

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// configured returns a session whose configuration file has the given content.
func configured(t *testing.T, content string, env ...string) (session, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "dibber", "config.toml")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s := session{env: map[string]string{"XDG_CONFIG_HOME": dir}}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		s.env[name] = value
	}
	return s, path
}

const sampleConfig = `
timeout = "50s"
words = ["quic", "tcp"] # shared
[sample]
count = 9
on = true
size = 3
rate = 2
list = []
kind = "fancy"
`

// TestPrecedence holds flag > environment > configuration file > default, for every kind of flag.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, config string
		env          []string
		args         []string
		want         sampleOptions
	}{
		{name: "default", want: sampleOptions{Count: 4, Kind: "plain", List: []string{"default"}}},
		{
			name: "file", config: sampleConfig,
			want: sampleOptions{On: true, Count: 9, Size: 3, Rate: 2, Kind: "fancy", Words: []string{"quic", "tcp"}},
		},
		{
			name: "environment", config: sampleConfig,
			env: []string{
				"DIBBER_SAMPLE_COUNT=1", "DIBBER_SAMPLE_LIST=a,b", "DIBBER_WORDS=tcp", "DIBBER_SAMPLE_ON=false",
				"DIBBER_SAMPLE_KIND=", "DIBBER_SAMPLE_WORDS=quic",
			},
			want: sampleOptions{Count: 1, Size: 3, Rate: 2, Kind: "fancy", List: []string{"a", "b"}, Words: []string{"tcp"}},
		},
		{
			name: "flag", config: sampleConfig,
			env:  []string{"DIBBER_SAMPLE_COUNT=1", "DIBBER_SAMPLE_LIST=a,b", "DIBBER_WORDS=tcp"},
			args: []string{"-c", "2", "--list", "z", "--words", "quic", "--on=false", "--kind", "plain"},
			want: sampleOptions{Count: 2, Size: 3, Rate: 2, Kind: "plain", List: []string{"z"}, Words: []string{"quic"}},
		},
		{
			name: "table before top", config: "words = \"quic\"\n[sample]\nwords = \"tcp\"",
			want: sampleOptions{Count: 4, Kind: "plain", List: []string{"default"}, Words: []string{"tcp"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, _ := configured(t, tt.config, tt.env...)
			var got sampleOptions
			if o := s.with(t.Context(), newSample(&got), append([]string{"sample"}, tt.args...)...); o.code != 0 {
				t.Fatal(o.stderr)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	tests := []struct{ config, env, want string }{
		{config: "timeout = ", want: "config.toml:1: "},
		{config: "\ntimeout = 5", want: "config.toml:2: timeout: 5 is not a duration"},
		{config: "timeuot = \"5s\"", want: `config.toml:1: unknown key "timeuot"; did you mean timeout?`},
		{config: "[smaple]", want: `config.toml:1: unknown key "smaple"; did you mean sample?`},
		{config: "[sample]\n\ncuont = 3", want: `config.toml:3: unknown key "sample.cuont"; did you mean sample.count?`},
		{config: "sample = { list = \"a\",  cuont = 3 }", want: `config.toml:1: unknown key "sample.cuont"`},
		{config: "sample.cuont = 3", want: `config.toml:1: unknown key "sample.cuont"`},
		{config: "\n[sample]\ncount = 3\ncount = 4\nsize = 1", want: "config.toml:4: toml: key count is already defined"},
		{config: "words = 'a'\n[sample]\n[sample]", want: "config.toml:3: "},
		{config: "sample = 3", want: `"sample" is a command: write [sample]`},
		{config: "[[sample]]\ncount = 3", want: `"sample" is a command: write [sample]`},
		{config: "[sample]\ncount = \"3\"", want: "config.toml:2: sample.count: 3 is not a whole number"},
		{config: "[sample]\nsize = -3", want: `sample.size: "-3" is not a whole number of at least 0`},
		{config: "[sample]\non = 1", want: "sample.on: 1 is not true or false"},
		{config: "[sample]\ncount = [1]", want: "sample.count: a list is not a whole number"},
		{config: "[sample]\nlist = [1]", want: "sample.list: 1 is not a list of strings"},
		{config: "[sample]\nkind = \"fency\"", want: `"fency" is not one of plain, fancy`},
		{config: "count = 3", want: `unknown key "count"`},
		{config: "[sample]\nconfig = \"x\"", want: `unknown key "sample.config"`},
		{config: "[sample]\nc = 3", want: `unknown key "sample.c"`},
		{config: strings.Repeat("#", maxConfig+1), want: "larger than"},
		{env: "DIBBER_SAMPLE_COUNT=many", want: `DIBBER_SAMPLE_COUNT: "many" is not a whole number`},
		{env: "DIBBER_WORDS=quic,udp", want: `DIBBER_WORDS: "udp" is not one of`},
		{env: "DIBBER_CONFIG=/nowhere/dibber.toml", want: "/nowhere/dibber.toml: no such file"},
		{config: "json = true\nndjson = true", want: "exclude each other"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			t.Parallel()
			s, _ := configured(t, tt.config, tt.env)
			var o sampleOptions
			s.with(t.Context(), newSample(&o), "sample").wrongUsage(t, tt.want)
		})
	}
}

// TestFormatOfNearestPlace holds that a format asked for on the command line replaces one from the environment or the file.
func TestFormatOfNearestPlace(t *testing.T) {
	t.Parallel()
	s, _ := configured(t, "json = true\n[version]\nndjson = true")
	if got := s.run(t.Context(), "version", "-q"); got.stdout != Version+"\n" {
		t.Errorf("-q: stdout %q", got.stdout)
	}
	if got := s.run(t.Context(), "version").document(t); got["event"] != summaryEvent {
		t.Errorf("the command's table does not replace the top of the file: %v", got)
	}
	s.env["DIBBER_JSON"] = "1"
	if got := s.run(t.Context(), "version").document(t); got["event"] != nil {
		t.Errorf("the environment does not replace the file: %v", got)
	}
}

// TestConfigFlag holds that --config names the file, and that one named must be there.
func TestConfigFlag(t *testing.T) {
	t.Parallel()
	s, path := configured(t, "quiet = true")
	s.env["XDG_CONFIG_HOME"] = "/nowhere"
	for _, line := range [][]string{{"version", "--config", path}, {"--config=" + path, "version"}} {
		if got := s.run(t.Context(), line...); got.stdout != Version+"\n" {
			t.Errorf("%q: stdout %q", line, got.stdout)
		}
	}
	s.run(t.Context(), "version", "--config", "/nowhere/x").wrongUsage(t, "/nowhere/x: no such file")
	delete(s.env, "XDG_CONFIG_HOME")
	s.env["HOME"] = "/nowhere"
	if got := s.run(t.Context(), "version"); got.code != 0 {
		t.Errorf("without a file: %s", got.stderr)
	}
}

func TestConfigShow(t *testing.T) {
	t.Parallel()
	s, path := configured(t, "timeout = \"50s\"\n[key.new]\ntype = \"rsa\"\nlog-level = \"info\"", "DIBBER_VERBOSE=true")
	shows := func(line, want string) {
		t.Helper()
		got := s.run(t.Context(), strings.Fields(line)...)
		if got.code != 0 {
			t.Fatalf("%s: %s", line, got.stderr)
		}
		for row := range strings.Lines(got.stdout) {
			if strings.Join(strings.Fields(row), " ") == want {
				return
			}
		}
		t.Errorf("%s lacks %q:\n%s", line, want, got.stdout)
	}
	shows("config show", "# "+path)
	shows("config show", "setting value")
	shows("config show", "key.new.type rsa")
	shows("config show --origin", "timeout 50s file "+path+":1")
	shows("config show --origin", "verbose true env DIBBER_VERBOSE")
	shows("config show --origin", "key.new.log-level info file "+path+":4")
	shows("config show --origin", "json false default")
	shows("config show --origin", "log-level error default")
	shows("config show --origin --timeout 3s", "timeout 3s flag --timeout")
	shows("config show --origin key new", "key.new.type rsa file "+path+":3")
	shows("config show --origin key new -- --type ecdsa", "key.new.type ecdsa flag --type")
	shows("config show --origin key new", "timeout 50s file "+path+":1")
	s.run(t.Context(), "config", "show", "kye").wrongUsage(t, "did you mean dibber key?")
	s.run(t.Context(), "config", "show", "key").wrongUsage(t, "key needs a command")
	s.run(t.Context(), "config", "show", "key", "new", "--", "--tpye", "rsa").wrongUsage(t, "did you mean --type?")
}

// fileAndLine is how a complaint about the configuration file "file" begins.
var fileAndLine = regexp.MustCompile(`^file:[1-9][0-9]*: `)

// FuzzConfig holds that a configuration file is either understood or named as wrong usage, with the line that is wrong.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{sampleConfig, "a.b.c = 1", "[key]\nnew = {type = 'rsa'}", "\"time\\u006fut\" = '1s'", "x = [[1], {y = 2}]", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		conf, err := parseConfig(newEnv(Stdio{}), "file", []byte(content))
		var known *failure
		switch {
		case err != nil && (!errors.As(err, &known) || known.Exit != exitUsage || !fileAndLine.MatchString(err.Error())):
			t.Fatalf("%q: %v", content, err)
		case err == nil:
			for key, entry := range conf.entries {
				if entry.line < 1 {
					t.Fatalf("%q: no line for %s", content, key)
				}
			}
		}
	})
}
