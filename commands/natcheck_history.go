package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/store"
)

const (
	// historyFile holds the looks of natcheck on this machine, in the state folder.
	historyFile = "natcheck.history"
	// maxLooks is how many are kept, the newest, and keptFor for how long.
	maxLooks = 100
	keptFor  = 90 * 24 * time.Hour
)

// history are the looks before this one, the oldest first.
type history struct {
	file  string // empty keeps them for this run only
	looks []pastLook
}

// pastLook is where this host was seen at a moment.
type pastLook struct {
	Time time.Time             `json:"time"`
	Seen map[string]netip.Addr `json:"seen"` // by path
}

// historyDoc is what a statement about looks before rests on.
type historyDoc struct {
	Looks int       `json:"looks"` // this one included
	Since time.Time `json:"since"`
}

// loadHistory reads the looks that a file holds; what is no look is left out.
func loadHistory(file string, now time.Time) (h history, err error) {
	h.file = file
	if file == "" {
		return h, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, fmt.Errorf("history of natcheck: %w", err)
	}
	for line := range bytes.Lines(raw) {
		var l pastLook
		if json.Unmarshal(line, &l) == nil && now.Sub(l.Time) < keptFor {
			h.looks = append(h.looks, l)
		}
	}
	return h, nil
}

// take adds a look and says of each path whether the address was the same at every look
// that saw one; nil if only this one did. Addresses of local networks and others are
// looked at apart.
func (h *history) take(now time.Time, f *nat.Families) historyDoc {
	l := pastLook{now, make(map[string]netip.Addr)}
	for name, p := range map[string]*nat.Path{"ip4.udp": &f.IP4.UDP, "ip4.tcp": &f.IP4.TCP, "ip6.udp": &f.IP6.UDP, "ip6.tcp": &f.IP6.TCP} {
		if len(p.Observed) == 0 {
			continue
		}
		ip := p.Observed[0].Addr()
		if ip.IsPrivate() || !ip.IsGlobalUnicast() {
			name += ".local"
		}
		l.Seen[name], p.Static = ip, nil
		for _, before := range h.looks {
			if at, seen := before.Seen[name]; seen {
				p.Static = new((p.Static == nil || *p.Static) && at == ip)
			}
		}
	}
	h.looks = append(h.looks, l)
	h.looks = h.looks[max(0, len(h.looks)-maxLooks):]
	return historyDoc{len(h.looks), h.looks[0].Time}
}

// save writes the looks, for their owner's eyes only.
func (h *history) save() error {
	if h.file == "" {
		return nil
	}
	var lines bytes.Buffer
	for _, l := range h.looks {
		line, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("history of natcheck: %w", err)
		}
		lines.Write(slices.Concat(line, []byte("\n")))
	}
	if _, err := store.Migrate(filepath.Dir(h.file)); err != nil {
		return fmt.Errorf("history of natcheck: %w", err)
	}
	// Not in place: who reads at this moment is to find all of them or those before.
	tmp := h.file + ".new"
	if err := errors.Join(os.WriteFile(tmp, lines.Bytes(), 0o600), os.Rename(tmp, h.file)); err != nil {
		return fmt.Errorf("history of natcheck: %w", err)
	}
	return nil
}
