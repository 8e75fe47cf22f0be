package cockpit

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNames holds the list of the README, the dashboard of Grafana and the alerts against the metrics that there are.
func TestNames(t *testing.T) {
	used := regexp.MustCompile(`dibber_[a-z0-9_]+`)
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	readme := read("../../README.md")
	for _, name := range Names() {
		if !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("the README lacks %s", name)
		}
	}
	for _, path := range []string{"../../README.md", "../../scripts/deploy/grafana.json", "../../scripts/deploy/alerts.yml"} {
		found := used.FindAllString(read(path), -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", path)
		}
		for _, name := range found {
			if base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, ""); !slices.Contains(Names(), name) && !slices.Contains(Names(), base) {
				t.Errorf("%s: there is no %s", path, name)
			}
		}
	}
}
