package bed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
)

// hosts are how many addresses a scene has.
const hosts = 6

// place is where features run.
type place struct {
	work        string // folder of programs and logs
	noNamespace string // why there is no namespace; empty: this process is in one
}

// Scene is what one feature runs with.
type Scene struct {
	Bin string // folder with the peer's program, as Builder.Dir
	Dir string // an empty folder
	at  place
	log string // prefix of the names of logs
	// public is set if the addresses look public.
	public bool

	began time.Time

	mu      sync.Mutex // guards running and names
	running []*Process
	names   map[string]int
}

func (at place) scene(peer string, f Feature) (*Scene, error) {
	dir, err := os.MkdirTemp("", "dibber-interop-")
	if err != nil {
		return nil, err
	}
	word := strings.Join(strings.FieldsFunc(f.Name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), "-")
	return &Scene{
		Bin: filepath.Join(at.work, peer), Dir: dir, at: at,
		log: filepath.Join(at.work, "logs", peer+"-"+word), names: make(map[string]int), began: time.Now(), public: f.Public,
	}, nil
}

// IP is the IPv4 address of one of the hosts, from 1: each has its own if they look public, otherwise all are on loopback.
func (s *Scene) IP(host int) string {
	if !s.public {
		return "127.0.0.1"
	}
	return publicIP(host)
}

func publicIP(host int) string { return fmt.Sprintf("11.1.%d.1", host) }

// Start starts a program that talks in lines; env are additions to the environment.
func (s *Scene) Start(ctx context.Context, env []string, path string, args ...string) (*Process, error) {
	p, err := talk(ctx, s.Dir, s.logFile(filepath.Base(path)), env, path, args...)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, p)
	return p, nil
}

// Say tells on standard error what happens, and how long after the start.
func (s *Scene) Say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "  %6.2f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// logFile names a log: that of the second process of a name has a number.
func (s *Scene) logFile(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name]++
	if n := s.names[name]; n > 1 {
		name = fmt.Sprintf("%s-%d", name, n)
	}
	return s.log + "-" + name + ".log"
}

// end stops what was started and removes Dir.
func (s *Scene) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stopped sync.WaitGroup
	for _, p := range s.running {
		stopped.Go(p.Stop)
	}
	stopped.Wait()
	return os.RemoveAll(s.Dir)
}
