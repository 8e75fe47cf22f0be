package commands

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run dibber, a rendezvous point of the old kind and both ends of a TCP connection as processes of their own, and
// TestSecondSignal a program that does not end by itself.
func TestMain(m *testing.M) {
	// Tests of commands wait for other processes most of the time: more of them run at once than there are processors, unless -parallel
	// says how many.
	if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"dibber": func() {
			os.Exit(Main(Interruptible(context.Background()), os.Args[1:], Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
		"stubborn": stubborn,
		"oldpoint": oldPoint,
		"tcpecho":  tcpEcho,
		"tcpsend":  tcpSend,
		"socksd":   socksd,
	})
}

// TestScripts runs the scripts under testdata: what users see, on loopback.
//
// Besides the commands of testscript they have
//
//	code N COMMAND…            run it; it must exit with N
//	waitfile FILE              wait until FILE is there
//	waitevent FILE EVENT [N]   wait until FILE, which --ndjson goes to, has N lines of EVENT (1)
//	json SRC PATH OP VALUE     compare a value of the document in SRC (stdout or a file);
//	                           OP is ==, !=, <, >, has (a list contains VALUE) or len
//	setjson VAR SRC PATH       put such a value into an environment variable
//	settext VAR SRC            put the one line of SRC into an environment variable
//	summary SRC                the last line of SRC is the summary, and every line is JSON
//	hangup PIDFILE             send SIGHUP to the process whose id is in a file
//	oneline SRC                SRC is exactly one line
//
// and the condition [netns].
func TestScripts(t *testing.T) {
	for _, dir := range []string{"../testdata/script", "../testdata"} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 dir,
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
				Setup:               scriptEnv,
				Condition:           scriptCondition,
				Cmds:                scriptCommands(),
			})
		})
	}
}

// scriptCommands are the commands that scripts have besides those of testscript.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"code": cmdCode, "waitfile": cmdWaitFile, "waitevent": cmdWaitEvent, "json": cmdJSON,
		"setjson": cmdSetJSON, "summary": cmdSummary, "hangup": cmdHangup, "oneline": cmdOneLine, "settext": cmdSetText,
	}
}

// scriptEnv keeps scripts away from the user's files.
func scriptEnv(e *testscript.Env) error {
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
	return nil
}

// scriptCondition decides [netns]: whether the machine lets a script make network namespaces.
func scriptCondition(name string) (bool, error) {
	if name != "netns" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false, nil //nolint:nilerr // that it is missing is the answer
		}
	}
	return exec.Command("unshare", "--net", "--mount", "true").Run() == nil, nil
}

func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// scriptPatience bounds how long a script waits for another process.
const scriptPatience = 60 * time.Second

// waitUntil looks again and again until done is true.
func waitUntil(ts *testscript.TestScript, what string, done func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(scriptPatience)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			ts.Fatalf("no %s within %s", what, scriptPatience)
		}
	}
}

func cmdWaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfile FILE")
	}
	waitUntil(ts, args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

func cmdWaitEvent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: waitevent FILE EVENT [N]")
	}
	want := 1
	if len(args) == 3 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		want = n
	}
	waitUntil(ts, args[1], func() bool {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return false
		}
		found := 0
		for line := range bytes.Lines(data) {
			var e struct{ Event string }
			if json.Unmarshal(line, &e) == nil && e.Event == args[1] {
				found++
			}
		}
		return found >= want
	})
}

// lookup finds a value in the document of src: the last line of several.
func lookup(ts *testscript.TestScript, src, path string) any {
	text := ts.ReadFile(src)
	var doc any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &doc); err != nil {
			ts.Fatalf("%s is not JSON: %v\n%s", src, err, text)
		}
	}
	if top, ok := doc.(map[string]any); ok && top["schema"] != nil && strings.HasPrefix(text, "{\n") {
		ts.Check(fitsSchema([]byte(text)))
	}
	for _, key := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
		switch at := doc.(type) {
		case map[string]any:
			v, ok := at[key]
			if !ok {
				ts.Fatalf("%s has no %s of %s", src, key, path)
			}
			doc = v
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(at) {
				ts.Fatalf("%s: %s is no index of a list of %d", path, key, len(at))
			}
			doc = at[i]
		default:
			ts.Fatalf("%s: %v has no %s", path, doc, key)
		}
	}
	return doc
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: json SRC PATH OP VALUE")
	}
	got, op, want := lookup(ts, args[0], args[1]), args[2], args[3]
	if compare(ts, got, op, want) == neg {
		ts.Fatalf("%s is %v; want %v %s %s", args[1], spelled(got), !neg, op, want)
	}
}

// compare reports whether got stands in the relation op to want.
func compare(ts *testscript.TestScript, got any, op, want string) bool {
	list, _ := got.([]any)
	switch op {
	case "==":
		return spelled(got) == want
	case "!=":
		return spelled(got) != want
	case "<", ">":
		g, ok := got.(float64)
		w, err := strconv.ParseFloat(want, 64)
		if !ok || err != nil {
			ts.Fatalf("%v %s %s compares no numbers", got, op, want)
		}
		return op == "<" && g < w || op == ">" && g > w
	case "has":
		return slices.ContainsFunc(list, func(v any) bool { return spelled(v) == want })
	case "len":
		return strconv.Itoa(len(list)) == want
	}
	ts.Fatalf("unknown operator %s", op)
	return false
}

// spelled is a value as a script writes it.
func spelled(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func cmdSetJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: setjson VAR SRC PATH")
	}
	ts.Setenv(args[0], spelled(lookup(ts, args[1], args[2])))
}

func cmdSetText(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: settext VAR SRC")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

func cmdSummary(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: summary SRC")
	}
	last := ""
	lines := bufio.NewScanner(strings.NewReader(ts.ReadFile(args[0])))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Schema, Event, Time string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Schema == "" || e.Event == "" || e.Time == "" {
			ts.Fatalf("not a line of --ndjson: %s", lines.Text())
		}
		if err := fitsSchema(lines.Bytes()); err != nil {
			ts.Fatalf("%s: %v", lines.Text(), err)
		}
		last = e.Event
	}
	if last != "summary" {
		ts.Fatalf("the last event is %q", last)
	}
}

func cmdHangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hangup PIDFILE")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	p, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(p.Signal(syscall.SIGHUP))
}

func cmdOneLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: oneline SRC")
	}
	if text := ts.ReadFile(args[0]); strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("%s is not one line:\n%s", args[0], text)
	}
}
