package nodes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"dibber/scripts/interop/bed"
)

// text is what the document says that is to come over.
const text = "made of holes in the ground"

// documents makes a schema and a document of it at one node and waits for the document at another. It returns how long that took.
func documents(ctx context.Context, s *bed.Scene, from, to *node) (time.Duration, error) {
	// Nodes tell each other of new schemas with a time in seconds, and take no second telling of the same: so not in the second in
	// which they started.
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	field, err := from.publish(ctx, s, "schema_field_definition_v1", "name=str:text", "type=str:str")
	if err != nil {
		return 0, err
	}
	view, err := from.publish(ctx, s, "schema_definition_v1", "name=str:note", "description=str:Notes", "fields=views:"+field)
	if err != nil {
		return 0, err
	}
	schema := "note_" + view
	s.Say("first has the schema %.20s…", schema)
	// The schema has to be put together before it takes documents.
	var document string
	err = poll(ctx, func() (err error) {
		document, err = from.publish(ctx, s, schema, "text=str:"+text)
		return err
	})
	if err != nil {
		return 0, err
	}
	s.Say("first has the document %.20s…", document)
	published := time.Now()
	err = poll(ctx, func() error {
		got, err := to.texts(ctx, schema)
		if err == nil && !strings.Contains(got, text) {
			err = fmt.Errorf("%s has %s", to.name, got)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	s.Say("second has it, too")
	return time.Since(published), nil
}

// poll tries until it works or ctx ends; then it returns why it did not.
func poll(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// publish makes a document and returns its id, which is also that of its first view.
func (v *node) publish(ctx context.Context, s *bed.Scene, schema string, fields ...string) (id string, err error) {
	p, err := s.Start(ctx, nil, program(s), append([]string{"create", schema}, fields...)...)
	if err != nil {
		return "", err
	}
	line, err := p.Line(ctx, "")
	if err != nil {
		return "", err
	}
	made := strings.Fields(line)
	if len(made) != 3 {
		return "", fmt.Errorf("create %s: %q", schema, line)
	}
	_, err = v.query(ctx, fmt.Sprintf(`mutation { publish(entry: %q, operation: %q) { seqNum } }`, made[0], made[1]))
	return made[2], err
}

// texts returns the documents of a schema as JSON.
func (v *node) texts(ctx context.Context, schema string) (string, error) {
	return v.query(ctx, fmt.Sprintf(`{ all_%s { documents { fields { text } } } }`, schema))
}

func (v *node) query(ctx context.Context, query string) (data string, err error) {
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, v.api, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	var answer struct {
		Data   json.RawMessage `json:"data"`
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	err = json.NewDecoder(response.Body).Decode(&answer)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return "", fmt.Errorf("%s: GraphQL: %s: %w", v.name, response.Status, err)
	}
	if len(answer.Errors) > 0 {
		return "", fmt.Errorf("%s: GraphQL: %s", v.name, answer.Errors[0].Message)
	}
	return string(answer.Data), nil
}
