package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// goldenDocument compares a document with a file: its keys, their order, and those values that are the same in every run.
func goldenDocument(t *testing.T, name, document string) {
	t.Helper()
	documentsFit(t, document)
	m := masker{dec: json.NewDecoder(strings.NewReader(document))}
	m.dec.UseNumber()
	var pretty bytes.Buffer
	text, err := m.value("")
	if err == nil {
		err = json.Indent(&pretty, []byte(text), "", "  ")
	}
	if err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	golden(t, name, pretty.String()+"\n")
}

// documentsFit fails the test unless text is documents of dibber, at least one, and each fits the schema of its command.
func documentsFit(t *testing.T, text string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	for first := true; first || dec.More(); first = false {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if err := fitsSchema(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// masker writes a document again with the kind of each value that changes from run to run in its place.
type masker struct{ dec *json.Decoder }

// value masks the value that comes next, which stands under key.
func (m masker) value(key string) (string, error) {
	token, err := m.dec.Token()
	if err != nil {
		return "", err
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			return m.object()
		}
		return m.list(key)
	case string:
		return quoted(maskText(v)), nil
	case json.Number:
		return maskNumber(key, v.String()), nil
	case bool:
		return fmt.Sprint(v), nil
	default:
		return "null", nil
	}
}

// object masks what follows "{".
func (m masker) object() (string, error) {
	var fields []string
	for m.dec.More() {
		token, err := m.dec.Token()
		if err != nil {
			return "", err
		}
		key := token.(string)
		value, err := m.value(key)
		if err != nil {
			return "", err
		}
		fields = append(fields, quoted(key)+":"+value)
	}
	_, err := m.dec.Token()
	return "{" + strings.Join(fields, ",") + "}", err
}

// list masks what follows "[". Elements that look alike when masked are written once.
func (m masker) list(key string) (string, error) {
	var elements []string
	for m.dec.More() {
		one, err := m.value(key)
		if err != nil {
			return "", err
		}
		if len(elements) == 0 || elements[len(elements)-1] != one {
			elements = append(elements, one)
		}
	}
	_, err := m.dec.Token()
	return "[" + strings.Join(elements, ",") + "]", err
}

func quoted(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string can always be encoded
	return strings.TrimSpace(b.String())
}

// maskNumber keeps counts and limits; what is measured differs.
func maskNumber(key, number string) string {
	switch key {
	case "ms", "uptime_s", "ttl_s", "duration_left_s", "bytes_left", "bytes_per_s", "upload_ratio", "download_ratio", "seq":
		if len(number) > 2 || key != "seq" { // that of a record is a time, that of a pong counts
			return quoted("<" + key + ">")
		}
	}
	if key == "common_bits" { // of random keys
		return quoted("<common_bits>")
	}
	if slices.Contains([]string{"udp", "probe", "tcp"}, key) { // ports of a vantage point
		return quoted("<port>")
	}
	if strings.HasSuffix(key, "_ms") {
		return quoted("<" + key + ">")
	}
	return number
}

// maskText masks what changes from run to run within a string.
func maskText(s string) string {
	for _, rule := range maskRules() {
		s = rule.match.ReplaceAllString(s, rule.mask)
	}
	return s
}

type maskRule struct {
	match *regexp.Regexp
	mask  string
}

func maskRules() []maskRule {
	return []maskRule{
		{regexp.MustCompile(`^\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)$`), "<time>"},
		{regexp.MustCompile(`\b12D3KooW\w{44}\b`), "<peer>"},
		{regexp.MustCompile(`\bk51\w{59}\b`), "<cid base36>"},
		{regexp.MustCompile(`\bbafz\w{61}\b`), "<cid base32>"},
		{regexp.MustCompile(`\b002408011220[0-9a-f]{64}\b`), "<multihash>"},
		{regexp.MustCompile(`^[0-9a-f]{64}$`), "<distance>"},
		{regexp.MustCompile(`^[0-9a-f]{32}$`), "<invitation>"},
		{regexp.MustCompile(`^dibber-join-1\.[\w-]+$`), "<token>"},
		{regexp.MustCompile(`^[\w-]{43}$`), "<address>"},
		{regexp.MustCompile(`^CiQIARIg[\w+/]{100,}=*$`), "<record>"},
		{regexp.MustCompile(`\bCAESI[\w+/]{43}=?`), "<public key>"},
		{regexp.MustCompile(`/(tcp|udp)/[1-9]\d{3,4}\b`), "/$1/<port>"},
		{regexp.MustCompile(`\b(127\.0\.0\.1|0\.0\.0\.0):\d+`), "$1:<port>"},
		{regexp.MustCompile(`/\S*/TestDocuments[^/]*/\d+/`), "<dir>/"},
	}
}
