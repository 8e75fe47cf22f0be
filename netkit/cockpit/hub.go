package cockpit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// pace is how often the page is told of the node.
	pace = time.Second
	// history is how many samples are kept, one each pace: ten minutes.
	history = 600
)

// hub looks at the node once for all pages that are open.
type hub struct {
	s *Service

	mu      sync.Mutex // guards following
	pages   map[chan State]bool
	samples []Sample
}

func newHub(s *Service) *hub { return &hub{s: s, pages: make(map[chan State]bool)} }

// run looks again and again until ctx ends.
func (h *hub) run(ctx context.Context) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var total, each carried
	for {
		if v := h.s.view.Load(); v != nil {
			h.look(time.Now(), v, &total, &each)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look takes a sample, and shows the node to the pages if there are any.
func (h *hub) look(now time.Time, v *view, total, each *carried) {
	h.s.journal.settled(now, v.connected)
	sample := v.sample(now, total)
	h.mu.Lock()
	h.samples = append(h.samples, sample)
	if len(h.samples) > history {
		h.samples = slices.Delete(h.samples, 0, len(h.samples)-history)
	}
	watched := len(h.pages) > 0
	h.mu.Unlock()
	if !watched {
		*each = carried{} // of long ago
		return
	}
	st := v.state(now)
	st.Sample = sample
	st.Node.Version, st.Node.Started, st.Node.Draining = h.s.cfg.Version, h.s.started, h.s.draining.Load()
	st.Refusals, st.Meetings = h.s.journal.lists()
	if st.Relay != nil {
		*each = each.rates(now, st.Relay.Open)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for page := range h.pages {
		select {
		case <-page: // it has not taken the one before
		default:
		}
		page <- st // there is room, and nobody else writes
	}
}

// join adds a page, unless there are too many, and returns the samples up to now.
func (h *hub) join() (page chan State, samples []Sample, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.pages) >= maxStreams {
		return nil, nil, false
	}
	page = make(chan State, 1)
	h.pages[page] = true
	return page, slices.Clone(h.samples), true
}

func (h *hub) leave(page chan State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.pages, page)
}

// events streams the node to a page: the samples up to now, then what it is, once a second.
func (s *Service) events(w http.ResponseWriter, r *http.Request) {
	page, samples, ok := s.hub.join()
	if !ok {
		http.Error(w, "as many pages are open as may be", http.StatusServiceUnavailable)
		return
	}
	defer s.hub.leave(page)
	out := stream{w: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	if err := out.control.SetReadDeadline(time.Time{}); err != nil { // that of the request would end the answer
		return
	}
	if err := out.send("history", samples); err != nil {
		return // the page has gone
	}
	redact := s.cfg.Redact || r.URL.Query().Get("redact") == "1"
	names := make(standIns)
	for {
		select {
		case <-r.Context().Done():
			return
		case st := <-page:
			if redact {
				st = st.redacted(names)
			}
			if err := out.send("state", st); err != nil {
				return
			}
		}
	}
}

// stream is an answer of server-sent events (HTML standard, section 9.2).
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// send sends one event, within answerTimeout.
func (o stream) send(name string, payload any) error {
	data, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	if err := o.control.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(o.w, "event: %s\ndata: %s\n\n", name, data); err != nil {
		return err
	}
	return o.control.Flush()
}
