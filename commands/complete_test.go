package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completed asks for the candidates for the last of words, as a shell does.
func completed(t *testing.T, words ...string) []string {
	t.Helper()
	// A configuration file that is broken does not take completion away.
	s, _ := configured(t, "broken =")
	got := s.run(t.Context(), append([]string{completeWord}, words...)...)
	if got.code != 0 || got.stderr != "" {
		t.Errorf("%q: exit %d, stderr %q", words, got.code, got.stderr)
	}
	var list []string
	for line := range strings.Lines(got.stdout) {
		word, _, _ := strings.Cut(line, "\t")
		list = append(list, word)
	}
	return list
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	tests := []struct {
		words []string
		want  []string // must all be offered
		not   []string // must not be
		only  bool     // nothing else may be
	}{
		{words: nil, want: []string{"serve", "dial", "key", "help", "version"}},
		{words: []string{"ver"}, want: []string{"version"}, only: true},
		{words: []string{"key", ""}, want: []string{"new", "show", "convert", "invite"}, only: true},
		{words: []string{"psk", ""}, want: []string{"new"}, only: true},
		{words: []string{"config", "s"}, want: []string{"show"}, only: true},
		{words: []string{"help", "ke"}, want: []string{"key"}, only: true},
		// equal verbs of different nouns have flags of their own
		{words: []string{"key", "new", "--"}, want: []string{"--type", "--bits", "--output", "--json"}, not: []string{"--listen"}},
		{words: []string{"psk", "new", "--"}, want: []string{"--output", "--json"}, not: []string{"--type", "--bits"}},
		{words: []string{"serve", "--rel"}, want: []string{"--relay", "--relay-bytes", "--relay-only"}, not: []string{"--raw"}},
		{words: []string{"dial", "--rel"}, want: []string{"--relay-only"}, only: true},
		{words: []string{"--"}, want: []string{"--help"}, only: true},
		// flags after an argument
		{words: []string{"dial", "@home", "--pin"}, want: []string{"--ping"}, only: true},
		// values
		{words: []string{"key", "new", "--type", ""}, want: []string{"ed25519", "secp256k1", "ecdsa", "rsa"}, only: true},
		{words: []string{"key", "new", "--type", "e"}, want: []string{"ed25519", "ecdsa"}, only: true},
		{words: []string{"key", "new", "--type=e"}, want: []string{"--type=ed25519", "--type=ecdsa"}, only: true},
		{words: []string{"key", "new", "--type", "="}, want: []string{"ed25519", "secp256k1", "ecdsa", "rsa"}, only: true},
		{words: []string{"key", "new", "--type", "=", "rs"}, want: []string{"rsa"}, only: true},
		{words: []string{"dial", "--transport", "quic,t"}, want: []string{"quic,tcp"}, only: true},
		{words: []string{"key", "new", "-o", ""}, only: true},
		{words: []string{"key", "new", "-o", "x", "--fo"}, want: []string{"--format"}, only: true},
		// arguments
		{words: []string{"completion", ""}, want: []string{"bash", "zsh", "fish"}, only: true},
		{words: []string{"schema", "di"}, want: []string{"dial", "discover"}, only: true},
		{words: []string{"dial", "--", "--js"}, only: true},
		{words: []string{"nonsense", ""}, not: []string{"--json"}},
		{words: []string{"nonsense", "--nonsense=x"}, only: true},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.words, " "), func(t *testing.T) {
			t.Parallel()
			got := completed(t, tt.words...)
			for _, w := range tt.want {
				if !slices.Contains(got, w) {
					t.Errorf("lacks %s: %q", w, got)
				}
			}
			for _, w := range tt.not {
				if slices.Contains(got, w) {
					t.Errorf("offers %s: %q", w, got)
				}
			}
			if tt.only && len(got) != len(tt.want) {
				t.Errorf("offers %q, want only %q", got, tt.want)
			}
		})
	}
	session{}.run(t.Context(), "completion", "bsah").wrongUsage(t, "did you mean bash?")
	session{}.run(t.Context(), "completion").wrongUsage(t, "bash, zsh, fish")
}

// completionHarness is, for each shell, a program that loads the script from $SCRIPT and prints what it offers for the line
// "dibber key new --ty" and for "dibber key new --type e".
func completionHarness() map[string]string {
	return map[string]string{
		"bash": `
source "$SCRIPT"
try() {
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
	_dibber dibber "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
	printf '%s\n' "${COMPREPLY[@]}"
}
complete -p dibber >/dev/null || exit 1
try dibber key new --ty
try dibber key new --type e`,
		"zsh": `
compdef() { :; }
_describe() { print -rl -- "${(@)lines%%:*}"; }
source "$SCRIPT"
words=(dibber key new --ty) CURRENT=4; _dibber
words=(dibber key new --type e) CURRENT=5; _dibber`,
		"fish": `
source "$SCRIPT"
complete -C 'dibber key new --ty' | string replace -r '\t.*' ''
complete -C 'dibber key new --type e' | string replace -r '\t.*' ''
exit 0`,
	}
}

// TestCompletionInShells loads each script into the shell it is for, where that is installed.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for shell, harness := range completionHarness() {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed", shell)
			}
			dir := t.TempDir()
			script := filepath.Join(dir, "script")
			text := session{}.run(t.Context(), "completion", shell).stdout
			if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			// Under the name dibber this test binary is dibber; see TestMain.
			if err := os.Symlink(self, filepath.Join(dir, "dibber")); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), path, "-c", harness)
			cmd.Env = append(os.Environ(), "SCRIPT="+script, "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got, want := strings.Fields(string(out)), []string{"--type", "ecdsa", "ed25519"}
			slices.Sort(got) // fish sorts, the others keep our order
			if !slices.Equal(got, want) {
				t.Errorf("%s offers %q, want %q", shell, got, want)
			}
		})
	}
}

// TestManualPages holds that each page is roff without a fault, as far as the programs that know are installed.
func TestManualPages(t *testing.T) {
	t.Parallel()
	pages := map[string]string{"": session{}.run(t.Context(), "man").stdout}
	walkAll(newEnv(Stdio{}).root, func(s *spec) {
		pages[s.fullName()] = session{}.run(t.Context(), append([]string{"man"}, s.path...)...).stdout
	})
	for name, page := range pages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, part := range []string{`.TH "DIBBER`, `.SH "NAME"`, `.SH "SYNOPSIS"`, `.SH "EXIT STATUS"`} {
				if !strings.Contains(page, part) {
					t.Errorf("the page lacks %s", part)
				}
			}
			for line := range strings.SplitSeq(page, "\n") {
				if strings.HasPrefix(line, "'") {
					t.Errorf("a line that roff takes for a request: %s", line)
				}
			}
			if groff, err := exec.LookPath("groff"); err == nil {
				cmd := exec.CommandContext(t.Context(), groff, "-man", "-ww", "-Tascii", "-z")
				cmd.Stdin = strings.NewReader(page)
				if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
					t.Errorf("groff: %v\n%s", err, out)
				}
			}
		})
	}
	session{}.run(t.Context(), "man", "kye").wrongUsage(t, "did you mean key?")
	if got := roffText(`a\-b`); got != `a\e\-b` {
		t.Errorf("roff text %s", got)
	}
}
