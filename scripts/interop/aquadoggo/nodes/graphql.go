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
	schema, err := from.define(ctx, s, "note")
	if err != nil {
		return 0, err
	}
	if err := from.write(ctx, s, schema, text); err != nil {
		return 0, err
	}
	published := time.Now()
	if err := to.awaits(ctx, schema, text); err != nil {
		return 0, err
	}
	s.Say("second has it, too")
	return time.Since(published), nil
}

// define makes a schema of one text at a node and returns its id.
func (v *node) define(ctx context.Context, s *bed.Scene, name string) (schema string, err error) {
	// Nodes tell each other of new schemas with a time in seconds, and take no second telling of the same: so not in the second in
	// which they started.
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	field, err := v.publish(ctx, s, fieldDefinition()...)
	if err != nil {
		return "", err
	}
	view, err := v.publish(ctx, s, definition(name, field)...)
	if err != nil {
		return "", err
	}
	s.Say("%s has the schema %s_%.20s…", v.name, name, view)
	return name + "_" + view, nil
}

// fieldDefinition and definition are what the operations are made of that define a schema.
func fieldDefinition() []string {
	return []string{"schema_field_definition_v1", "name=str:text", "type=str:str"}
}

func definition(name, field string) []string {
	return []string{"schema_definition_v1", "name=str:" + name, "description=str:Texts", "fields=views:" + field}
}

// write makes a document with a text at a node, once the schema has been put together there.
func (v *node) write(ctx context.Context, s *bed.Scene, schema, text string) error {
	return poll(ctx, func() error {
		document, err := v.publish(ctx, s, schema, "text=str:"+text)
		if err == nil {
			s.Say("%s has the document %.20s…", v.name, document)
		}
		return err
	})
}

// awaits waits until a node has a document with a text.
func (v *node) awaits(ctx context.Context, schema, text string) error {
	return poll(ctx, func() error {
		got, err := v.texts(ctx, schema)
		if err == nil && !strings.Contains(got, text) {
			err = fmt.Errorf("%s has %s", v.name, got)
		}
		return err
	})
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
func (v *node) publish(ctx context.Context, s *bed.Scene, of ...string) (id string, err error) {
	made, err := create(ctx, s, of)
	if err != nil {
		return "", err
	}
	_, err = v.query(ctx, fmt.Sprintf(`mutation { publish(entry: %q, operation: %q) { seqNum } }`, made[0], made[1]))
	return made[2], err
}

// create signs the first operation of a document, of a schema and fields, and returns entry, operation and id.
func create(ctx context.Context, s *bed.Scene, of []string) ([]string, error) {
	p, err := s.Start(ctx, nil, program(s), append([]string{"create"}, of...)...)
	if err != nil {
		return nil, err
	}
	line, err := p.Line(ctx, "")
	if err != nil {
		return nil, err
	}
	made := strings.Fields(line)
	if len(made) != 3 {
		return nil, fmt.Errorf("create %s: %q", of[0], line)
	}
	return made, nil
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
