package cockpit

import (
	"embed"
	"errors"
	"io/fs"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// files are the page and all that belongs to it.
//
//go:embed page
var files embed.FS

// assets are the files of the page, by their paths.
func assets() map[string]string {
	return map[string]string{
		"/app.js": "text/javascript; charset=utf-8", "/draw.js": "text/javascript; charset=utf-8", "/tables.js": "text/javascript; charset=utf-8",
		"/style.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml",
	}
}

// routes is what answers.
func (s *Service) routes() http.Handler {
	mux := http.NewServeMux()
	add := func(pattern string, open bool, do http.HandlerFunc) {
		mux.Handle(pattern, s.guard(open, do))
	}
	for path, kind := range assets() {
		add(path, true, func(w http.ResponseWriter, _ *http.Request) { sendFile(w, path, kind, http.StatusOK) })
	}
	add("/{$}", true, s.page)
	add("/healthz", true, func(w http.ResponseWriter, _ *http.Request) { word(w, http.StatusOK, "ok") })
	add("/readyz", true, s.ready)
	add("/events", false, s.events)
	add("/metrics", false, s.metrics())
	if s.cfg.Pprof {
		add("/debug/pprof/", false, timed(pprof.Index))
		add("/debug/pprof/cmdline", false, http.NotFound) // flags may name secrets
		add("/debug/pprof/profile", false, timed(pprof.Profile))
		add("/debug/pprof/symbol", false, timed(pprof.Symbol))
		add("/debug/pprof/trace", false, timed(pprof.Trace))
	}
	add("/", true, http.NotFound)
	return mux
}

// page answers with the page, which asks for the token itself where one is needed.
func (s *Service) page(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	if !s.authorized(r) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="dibber"`)
		status = http.StatusUnauthorized
	}
	sendFile(w, "/index.html", "text/html; charset=utf-8", status)
}

func sendFile(w http.ResponseWriter, path, kind string, status int) {
	data, err := fs.ReadFile(files, "page"+path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(data) // who has gone needs no answer
}

func word(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // who has gone needs no answer
}

// ready tells whether the node does its work.
func (s *Service) ready(w http.ResponseWriter, _ *http.Request) {
	if not := s.notReady(); not != "" {
		word(w, http.StatusServiceUnavailable, not)
		return
	}
	word(w, http.StatusOK, "ready")
}

// notReady is why the node does not do its work, in a word; empty when it does.
func (s *Service) notReady() string {
	v := s.view.Load()
	switch {
	case v == nil:
		return "starting"
	case s.draining.Load():
		return "draining"
	case v.registryAway():
		return "registry away"
	default:
		return ""
	}
}

// registryAway reports whether the rendezvous point shares a registry, and cannot use it.
func (v *view) registryAway() bool {
	sharing := v.s.Sharing()
	return sharing != nil && sharing.Away != nil
}

func (s *Service) metrics() http.HandlerFunc {
	h := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: answerTimeout})
	return timed(h.ServeHTTP)
}

// timed bounds how long an answer may take, and what a profile asks for besides.
func timed(do http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		most := answerTimeout
		if s, err := strconv.Atoi(r.FormValue("seconds")); err == nil && s > 0 {
			most += time.Duration(min(s, 300)) * time.Second
		}
		control := http.NewResponseController(w)
		// The deadline of the request would end the answer, too.
		if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Now().Add(most))); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		do(w, r)
	}
}
