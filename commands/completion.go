package commands

import (
	"context"
	"slices"
	"strings"
)

// completionOptions are the arguments of completion.
type completionOptions struct{ Shell string }

// completionDoc is a script for a shell.
type completionDoc struct {
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

// shells are those that completion knows, in the order of their use.
func shells() []string { return []string{"bash", "zsh", "fish"} }

func newCompletion(*env) spec {
	var o completionOptions
	return spec{
		name: "completion", usage: "print a script that completes commands and flags in a shell", args: "bash|zsh|fish",
		about: `The script asks dibber itself what may come next, so it never needs to be made again.
bash: eval it in ~/.bashrc. zsh: write it to a file called _dibber in a folder of $fpath. fish: source it in config.fish.`,
		examples: []string{
			`eval "$(dibber completion bash)"`,
			`dibber completion zsh > ~/.zsh/completions/_dibber`,
			`dibber completion fish | source`,
		},
		options: &o, doc: completionDoc{}, complete: func([]string) []string { return shells() },
		validate: func(args []string) error {
			if len(args) != 1 || !slices.Contains(shells(), args[0]) {
				return usagef("completion needs one shell of %s%s", strings.Join(shells(), ", "),
					didYouMean(strings.Join(args, " "), shells(), ""))
			}
			o.Shell = args[0]
			return nil
		},
		run: func(context.Context, *output) (any, error) {
			return completionDoc{Shell: o.Shell, Script: completionScript(o.Shell)}, nil
		},
	}
}

func (d completionDoc) renderText(t *text) { t.line("%s", strings.TrimSpace(d.Script)) }

func (d completionDoc) quiet() string { return strings.TrimSpace(d.Script) }

// completionScript returns the script of a shell. Each hands the words up to the cursor to __complete and offers files where
// dibber has nothing to offer.
func completionScript(shell string) string {
	switch shell {
	case "bash":
		return `
_dibber() {
	local word about
	COMPREPLY=()
	while IFS=$'\t' read -r word about; do
		COMPREPLY+=("$word")
	done < <("$1" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _dibber dibber
`
	case "zsh":
		return `
#compdef dibber
_dibber() {
	local -a lines
	lines=("${(@f)$("$words[1]" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -z "$lines[1]" ]]; then
		_files
		return
	fi
	lines=("${(@)lines//:/\\:}")
	lines=("${(@)lines/$'\t'/:}")
	_describe dibber lines
}
if [[ "$funcstack[1]" = _dibber ]]; then
	_dibber "$@"
else
	compdef _dibber dibber
fi
`
	default:
		return `
function __dibber_complete
	set -l line (commandline -opc)
	set -l candidates ($line[1] __complete $line[2..] (commandline -ct) 2>/dev/null)
	if test (count $candidates) -gt 0
		printf '%s\n' $candidates
	else
		__fish_complete_path (commandline -ct)
	end
end
complete -c dibber -f -a '(__dibber_complete)'
`
	}
}
