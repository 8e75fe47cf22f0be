package commands

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// shared reports whether a flag is configured once for all commands.
func shared(f cli.Flag) bool {
	group := f.(cli.CategorizableFlag).GetCategory()
	return group == groupOutput || group == groupHost
}

// envName returns the environment variable that sets a flag: DIBBER_<FLAG> if it is shared, else DIBBER_<COMMAND>_<FLAG>.
func envName(s *spec, f cli.Flag) string {
	parts := []string{"dibber"}
	if !shared(f) {
		parts = append(parts, s.path...)
	}
	parts = append(parts, f.Names()[0])
	return strings.ToUpper(strings.ReplaceAll(strings.Join(parts, "_"), "-", "_"))
}
