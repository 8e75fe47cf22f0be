package p2panda

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dibber/netkit/bamboo"
)

// ErrSchemas is returned for a set of schemas that a node would refuse.
var ErrSchemas = errors.New("malformed set of schemas")

// System are p2panda's own schemas, in the order that they have in a set, which is
// not that of their names.
func System() []string {
	return []string{"schema_definition_v1", "schema_field_definition_v1", "blob_v1", "blob_piece_v1"}
}

// SchemaSet sorts ids of schemas as a set has them and drops repetitions: p2panda's
// own first, then by name, then by the ids of their operations.
func SchemaSet(ids ...string) ([]string, error) {
	for _, id := range ids {
		if err := bamboo.CheckSchema(id); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSchemas, err)
		}
	}
	set := slices.SortedFunc(slices.Values(ids), compareSchemas)
	return slices.Compact(set), nil
}

// checkSet refuses what SchemaSet would not have returned.
func checkSet(ids []string) error {
	for i, id := range ids {
		if err := bamboo.CheckSchema(id); err != nil {
			return fmt.Errorf("%w: %w", ErrSchemas, err)
		}
		if i > 0 && compareSchemas(ids[i-1], id) >= 0 {
			return fmt.Errorf("%w: %.80q does not come before %.80q", ErrSchemas, ids[i-1], id)
		}
	}
	return nil
}

func compareSchemas(a, b string) int {
	nameA, operationsA := splitSchema(a)
	nameB, operationsB := splitSchema(b)
	return cmp.Or(systemRank(a)-systemRank(b), cmp.Compare(nameA, nameB), slices.Compare(operationsA, operationsB))
}

// systemRank is the place among p2panda's own schemas; others come behind.
func systemRank(id string) int {
	system := System()
	if i := slices.Index(system, id); i >= 0 {
		return i
	}
	return len(system)
}

// splitSchema takes the name of an application's schema apart from its operations,
// which are at the end because names may contain "_", too.
func splitSchema(id string) (name string, operations []string) {
	parts := strings.Split(id, "_")
	at := len(parts)
	for at > 1 && len(parts[at-1]) == 2*bamboo.HashSize {
		at--
	}
	return strings.Join(parts[:at], "_"), parts[at:]
}

// intersect returns what is in both sets, in the order of the first.
func intersect(a, b []string) []string {
	var both []string
	for _, id := range a {
		if slices.Contains(b, id) {
			both = append(both, id)
		}
	}
	return both
}
