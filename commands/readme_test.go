package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmeTellsTheTruth holds the README's tables and its two commands against
// the program and its scripts.
func TestReadmeTellsTheTruth(t *testing.T) {
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	for _, s := range newEnv(Stdio{}).root {
		if row := fmt.Sprintf("| `dibber %s` | %s |\n", s.name, s.usage); !s.hidden && !strings.Contains(readme, row) {
			t.Errorf("the command table lacks %s", row)
		}
	}
	for _, m := range exitTable() {
		if row := fmt.Sprintf("| %d | %s |\n", m.code, m.text); !strings.Contains(readme, row) {
			t.Errorf("the exit code table lacks %s", row)
		}
	}
	for _, folder := range []string{"bench", "chaos"} {
		programs, err := filepath.Glob("../scripts/" + folder + "/*/main.go")
		if err != nil || len(programs) == 0 {
			t.Errorf("scripts/%s: %d programs, %v", folder, len(programs), err)
		}
		for _, p := range programs {
			if row := fmt.Sprintf("| `go run ./scripts/%s/%s` |", folder, filepath.Base(filepath.Dir(p))); !strings.Contains(readme, row) {
				t.Errorf("the table of upkeep lacks %s", row)
			}
		}
	}
	start, tests := "    go run . serve --relay --rendezvous\n", "    go test ./...\n"
	if i, j := strings.Index(readme, start), strings.Index(readme, tests); i < 0 || j < i {
		t.Errorf("the two commands do not open the README")
	}
}
