package commands

import (
	"strconv"

	"dibber/netkit/control"
	"dibber/netkit/gossip"
)

// topicsDoc lists the topics that the node or its peers have to do with.
type topicsDoc struct {
	Count  *int           `json:"count"` // null: not known, as the list
	Topics *[]gossip.Mesh `json:"topics"`

	shownAlready
}

func newCtlTopics(*env) spec {
	o := new(ctlOptions)
	return ctlList(o, spec{
		name: "topics", usage: "list the topics of serve --pubsub, with who is in the mesh of each and its score", doc: topicsDoc{},
		about:    `Text shows how many are in the mesh, outside and in the fanout of each topic; --json has them all, with their scores and why.`,
		examples: []string{"dibber ctl topics", "dibber ctl topics --watch", "dibber ctl topics --json"},
	}, func() lister { return new(topicsDoc) }, func() string { return "/topics" })
}

func (op *operator) topics(control.Call) (any, error) {
	list, err := op.s.Topics()
	return topicsDoc{Count: new(len(list)), Topics: &list}, err
}

func (d *topicsDoc) renderText(t *text) {
	if d.yes || d.Topics == nil {
		return
	}
	var rows [][]string
	for _, m := range *d.Topics {
		state := "not relayed"
		if m.Relayed {
			state = "relayed"
		}
		rows = append(rows, []string{
			plainText(m.Topic), state, strconv.Itoa(m.Count(gossip.InMesh)), strconv.Itoa(m.Count(gossip.Outside)), strconv.Itoa(m.Count(gossip.InFanout)),
		})
	}
	t.table([]string{"TOPIC", "STATE", "MESH", "OUTSIDE", "FANOUT"}, rows)
}

func (d *topicsDoc) line() string { return listLines(d) }

func (d topicsDoc) quiet() string {
	return tokens(d.Topics, func(m gossip.Mesh) string { return m.Topic })
}
