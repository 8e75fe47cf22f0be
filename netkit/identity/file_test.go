package identity

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestLoadOrCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "identity.key")
	first, created, err := LoadOrCreate(path)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Join(dir, "a"): 0o700, filepath.Join(dir, "a", "b"): 0o700} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %04o", name, info.Mode(), err, want)
		}
	}
	second, created, err := LoadOrCreate(path)
	if err != nil || created || !second.Equals(first) {
		t.Errorf("second time: created %v, %v", created, err)
	}
	onlyFile(t, filepath.Dir(path), "identity.key")
}

func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the folder holds %v, %v, want only %s", entries, err, name)
	}
}

func TestLoadRefusesFilesOpenToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := Write(path, []byte(vectorSeed)); err != nil {
		t.Fatal(err)
	}
	for mode, open := range map[fs.FileMode]bool{
		0o600: false, 0o400: false, 0o700: false, 0o640: true, 0o604: true, 0o620: true, 0o602: true, 0o644: true,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for name, load := range map[string]func() error{
			"Load":         func() error { _, err := Load(path); return err },
			"LoadOrCreate": func() error { _, _, err := LoadOrCreate(path); return err },
		} {
			err := load()
			var perm *PermissionError
			if errors.As(err, &perm) != open || !open && err != nil {
				t.Errorf("%s, mode %04o: %v", name, mode, err)
			}
			if perm != nil && (perm.Path != path || perm.Mode != mode) {
				t.Errorf("%s: reports %+v for mode %04o", name, perm, mode)
			}
		}
	}
}

func TestExistingFilesAreLeftAlone(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "garbage": "hello"} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadOrCreate(path); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: LoadOrCreate: %v", name, err)
		}
		if err := Write(path, []byte("other")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: Write: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s: now holds %q, %v", name, got, err)
		}
		onlyFile(t, filepath.Dir(path), "key")
	}
}

func TestDanglingLinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, "key"), filepath.Join(dir, "elsewhere")
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOrCreate(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadOrCreate: %v", err)
	}
	if _, err := os.Lstat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key was written through the link: %v", err)
	}
}

// raceEnv makes the test binary one of the racing processes.
const raceEnv = "DIBBER_TEST_IDENTITY_RACE"

func TestMain(m *testing.M) {
	path := os.Getenv(raceEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	// Wait until the parent lets all start at once.
	var one [1]byte
	os.Stdin.Read(one[:])
	key, created, err := LoadOrCreate(path)
	if err != nil {
		os.Stdout.WriteString("error " + err.Error())
		os.Exit(1)
	}
	public, _ := key.GetPublic().Raw()
	if created {
		os.Stdout.WriteString("created ")
	}
	os.Stdout.Write(public)
	os.Exit(0)
}

func TestProcessesRacingGetOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "identity.key")
	const processes = 6
	var ready, done sync.WaitGroup
	outputs := make([]string, processes)
	start := make(chan struct{})
	for i := range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), raceEnv+"="+path)
		var out strings.Builder
		cmd.Stdout = &out
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			stdin.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err, out.String())
			}
			outputs[i] = out.String()
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	created := 0
	for i, out := range outputs {
		public, isCreator := strings.CutPrefix(out, "created ")
		if isCreator {
			created++
		}
		outputs[i] = public
	}
	for _, public := range outputs {
		if len(public) != 32 || public != outputs[0] {
			t.Errorf("keys differ: %x and %x", public, outputs[0])
		}
	}
	if created != 1 {
		t.Errorf("%d processes say that they made the key", created)
	}
	onlyFile(t, filepath.Dir(path), "identity.key")
}
