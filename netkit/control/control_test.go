package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dibber/netkit/control"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers at a socket until the test ends.
func serve(t *testing.T, cfg control.Config) *control.Service {
	t.Helper()
	s, err := control.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// verbs are some that show what they are asked.
func verbs() []control.Verb {
	return []control.Verb{
		{Pattern: "GET /hello", Query: []string{"to"}, Do: func(_ context.Context, c control.Call) ([]byte, error) {
			return json.Marshal(map[string]string{"hello": c.Value("to")})
		}},
		{Pattern: "DELETE /things/{id}", Do: func(_ context.Context, c control.Call) ([]byte, error) {
			return nil, &control.Error{Status: http.StatusNotFound, Code: "not_found", Message: "no thing " + c.Value("id"), Hint: "list them"}
		}},
		{Pattern: "POST /echo", Do: func(_ context.Context, c control.Call) ([]byte, error) { return c.Body, nil }},
		{Pattern: "GET /broken", Do: func(context.Context, control.Call) ([]byte, error) { return nil, errors.New("it broke") }},
	}
}

func TestVerbs(t *testing.T) {
	s := serve(t, control.Config{Dir: t.TempDir(), Verbs: verbs()})
	c := control.Client{Socket: s.Socket()}
	var got map[string]string
	if err := c.Do(t.Context(), "GET", "/hello?to=you", nil, &got); err != nil || got["hello"] != "you" {
		t.Errorf("%v, %v", got, err)
	}
	if err := c.Do(t.Context(), "POST", "/echo", map[string]string{"a": "b"}, &got); err != nil || got["a"] != "b" {
		t.Errorf("%v, %v", got, err)
	}
	for _, tt := range []struct {
		method, path string
		body         any
		want         control.Error
	}{
		{"DELETE", "/things/7", nil, control.Error{Status: 404, Code: "not_found", Message: "no thing 7", Hint: "list them"}},
		{"GET", "/broken", nil, control.Error{Status: 500, Code: "internal", Message: "it broke"}},
		{"GET", "/hello?too=you", nil, control.Error{Status: 400, Code: "usage", Message: `GET /hello takes no parameter "too"`}},
		{"POST", "/echo", strings.Repeat("x", 64<<10), control.Error{Status: 413, Code: "usage", Message: "a request has at most 65536 bytes"}},
		{"PUT", "/hello", nil, control.Error{
			Status: 404, Code: "unknown_verb", Message: "there is no PUT /hello",
			Hint: "GET /hello, DELETE /things/{id}, POST /echo, GET /broken",
		}},
	} {
		err := c.Do(t.Context(), tt.method, tt.path, tt.body, &got)
		if why := new(control.Error); !errors.As(err, &why) || *why != tt.want {
			t.Errorf("%s %s: %#v, want %#v", tt.method, tt.path, err, tt.want)
		}
	}
}

// TestOnlyTheUserMayOpenIt holds the mode of the socket, and that nothing else is left
// in the folder.
func TestOnlyTheUserMayOpenIt(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, control.Config{Dir: dir})
	at, err := os.Lstat(filepath.Join(dir, "control.sock"))
	if err != nil || at.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", at.Mode(), err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("in the folder: %v, %v", list, err)
	}
	if found, err := control.Find(dir); err != nil || found != s.Socket() {
		t.Errorf("found %s, %v", found, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	if err := (control.Client{Socket: s.Socket()}).Do(t.Context(), "GET", "/", nil, nil); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("after Close: %v", err)
	}
}

// stale leaves a socket as a killed process does.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsAtThePlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "at")
	stale(t, path)
	first := serve(t, control.Config{Socket: path, Verbs: verbs()})
	var used *control.InUseError
	if _, err := control.New(t.Context(), control.Config{Socket: path}); !errors.As(err, &used) || used.Socket != path {
		t.Errorf("a second owner: %v", err)
	}
	if err := (control.Client{Socket: first.Socket()}).Do(t.Context(), "GET", "/hello", nil, new(any)); err != nil {
		t.Errorf("the first owner afterwards: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.New(t.Context(), control.Config{Socket: file}); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file in its place: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("the file is now %q, %v", data, err)
	}
}

// TestLongPath: a socket whose path would be too long is elsewhere, and the state
// folder says where; what a killed process left there is removed.
func TestLongPath(t *testing.T) {
	runtime := t.TempDir()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Find(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	left := filepath.Join(runtime, "dibber-1")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	stale(t, filepath.Join(left, "control.sock"))
	if err := os.WriteFile(filepath.Join(dir, "control.path"), []byte(filepath.Join(left, "control.sock")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, control.Config{Dir: dir, Runtime: runtime, Verbs: verbs()})
	if len(s.Socket()) > 100 || !strings.HasPrefix(s.Socket(), runtime) {
		t.Errorf("made at %s", s.Socket())
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left is there: %v", err)
	}
	found, err := control.Find(dir)
	if err != nil || found != s.Socket() {
		t.Errorf("found %s, %v", found, err)
	}
	if err := (control.Client{Socket: found}).Do(t.Context(), "GET", "/hello", nil, new(any)); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, folder := range []string{dir, runtime} {
		if list, err := os.ReadDir(folder); err != nil || len(list) != 0 {
			t.Errorf("left: %v, %v", list, err)
		}
	}
	if _, err := control.New(t.Context(), control.Config{Socket: filepath.Join(dir, "sock")}); err == nil {
		t.Error("made at a path that is too long")
	}
	if err := os.WriteFile(filepath.Join(dir, "control.path"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Find(dir); err == nil {
		t.Error("nonsense was followed")
	}
}

// TestGarbage: what is no request gets an answer of HTTP or none, and the next request
// is served.
func TestGarbage(t *testing.T) {
	s := serve(t, control.Config{Dir: t.TempDir(), Verbs: verbs()})
	for _, garbage := range []string{
		"\x00\xff\x13\n\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /hello HTTP/1.1\r\nHost: d\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n", "POST /echo HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		conn, err := net.Dial("unix", s.Socket())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(garbage)) // it may hang up before the end
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 12)
		n, err := conn.Read(answer)
		if got := string(answer[:n]); err == nil && !strings.HasPrefix(got, "HTTP/1.") || strings.HasSuffix(got, " 200") || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.40q: %q, %v", garbage, got, err)
		}
		_ = conn.Close()
	}
	if err := (control.Client{Socket: s.Socket()}).Do(t.Context(), "GET", "/hello", nil, new(any)); err != nil {
		t.Error(err)
	}
}

// TestConcurrent: requests above the limit wait for their turn.
func TestConcurrent(t *testing.T) {
	const limit, all = 2, 8
	var mu sync.Mutex
	now, most := 0, 0
	leave := make(chan struct{})
	s := serve(t, control.Config{Dir: t.TempDir(), Concurrent: limit, Verbs: []control.Verb{{
		Pattern: "GET /wait", Do: func(context.Context, control.Call) ([]byte, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-leave
			mu.Lock()
			now--
			mu.Unlock()
			return []byte("{}"), nil
		},
	}}})
	errs := make(chan error)
	for range all {
		go func() { errs <- (control.Client{Socket: s.Socket()}).Do(t.Context(), "GET", "/wait", nil, new(any)) }()
	}
	for range all {
		leave <- struct{}{}
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if most > limit {
		t.Errorf("%d were served at once", most)
	}
}

// TestClientOfSomethingElse: an answer that is none of a node's is an error.
func TestClientOfSomethingElse(t *testing.T) {
	s := serve(t, control.Config{Dir: t.TempDir(), Verbs: []control.Verb{{
		Pattern: "GET /text", Do: func(context.Context, control.Call) ([]byte, error) { return []byte("text"), nil },
	}}})
	if err := (control.Client{Socket: s.Socket()}).Do(t.Context(), "GET", "/text", nil, new(any)); err == nil {
		t.Error("text was read as JSON")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (control.Client{Socket: s.Socket()}).Do(ctx, "GET", "/text", nil, new(any)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// TestStream sends a body of any length and takes the answer as it comes; one that is cut is told from one that ends.
func TestStream(t *testing.T) {
	cut := errors.New("no more")
	first := make(chan struct{})
	s := serve(t, control.Config{Dir: t.TempDir(), Concurrent: 4, Verbs: []control.Verb{
		{Pattern: "POST /count", Stream: func(_ context.Context, _ control.Call, body io.Reader, w io.Writer) error {
			n, err := io.Copy(io.Discard, body)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(w, n)
			return err
		}},
		{Pattern: "GET /cut", Query: []string{"after"}, Stream: func(_ context.Context, c control.Call, _ io.Reader, w io.Writer) error {
			if c.Value("after") != "" {
				if _, err := io.WriteString(w, "some"); err != nil {
					return err
				}
			}
			return cut
		}},
		{Pattern: "GET /forever", Stream: func(ctx context.Context, _ control.Call, _ io.Reader, w io.Writer) error {
			if _, err := io.WriteString(w, "begun"); err != nil {
				return err
			}
			first <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}},
		{Pattern: "GET /nothing", Stream: func(context.Context, control.Call, io.Reader, io.Writer) error { return nil }},
	}})
	c := control.Client{Socket: s.Socket()}
	take := func(method, path string, body io.Reader) (string, error) {
		got, err := c.Stream(t.Context(), method, path, body)
		if err != nil {
			return "", err
		}
		defer got.Close()
		data, err := io.ReadAll(got)
		return string(data), err
	}
	if got, err := take("POST", "/count", strings.NewReader(strings.Repeat("x", 1<<20))); err != nil || got != "1048576" {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := take("GET", "/cut?after=1", nil); !errors.Is(err, io.ErrUnexpectedEOF) || got != "some" {
		t.Errorf("%s, %v", got, err)
	}
	for path, code := range map[string]string{"/cut": "internal", "/cut?before=1": "usage"} {
		_, err := take("GET", path, nil)
		if why := new(control.Error); !errors.As(err, &why) || why.Code != code {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got, err := take("GET", "/nothing", nil); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
	// As many as may are served, and one more is refused; that others can still be asked is what the rest is for.
	var open []io.ReadCloser
	for range 2 {
		got, err := c.Stream(t.Context(), "GET", "/forever", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		open = append(open, got)
		<-first
	}
	_, err := take("GET", "/nothing", nil)
	if why := new(control.Error); !errors.As(err, &why) || why.Code != "busy" {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if data, err := io.ReadAll(open[0]); !errors.Is(err, io.ErrUnexpectedEOF) || string(data) != "begun" {
		t.Errorf("%s, %v", data, err)
	}
}

// TestCopiedPointer leaves alone the socket of another folder to which a copied pointer leads.
func TestCopiedPointer(t *testing.T) {
	runtime := t.TempDir()
	long := func() string {
		dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	from, to := long(), long()
	s := serve(t, control.Config{Dir: from, Runtime: runtime, Verbs: verbs()})
	data, err := os.ReadFile(filepath.Join(from, "control.path"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "control.path"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, control.Config{Dir: to, Runtime: runtime})
	var got map[string]string
	if err := (control.Client{Socket: s.Socket()}).Do(t.Context(), "GET", "/hello?to=you", nil, &got); err != nil || got["hello"] != "you" {
		t.Errorf("%v, %v", got, err)
	}
}
