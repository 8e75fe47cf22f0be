package perf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	// ErrUnsupported means that the peer does not speak the perf protocol.
	ErrUnsupported = errors.New("peer does not speak " + string(Protocol))
	// ErrNotConnected means that no connection to the peer is open.
	ErrNotConnected = errors.New("no open connection")
	// ErrRelayLimit means that the relay lets too little through to measure anything.
	ErrRelayLimit = errors.New("the relay lets through too little to measure")
	// ErrWrongCount means that the peer sent another number of bytes than it was asked for.
	ErrWrongCount = errors.New("peer sent another number of bytes than it was asked for")
)

// Direction is a way that bytes go.
type Direction string

// The ways that bytes go, as this side sees them.
const (
	Upload   Direction = "upload"
	Download Direction = "download"
)

// Config says what to measure. The zero value measures ten round trips, then five
// seconds each way.
type Config struct {
	// Directions are measured in their order; nil means upload, then download.
	Directions []Direction
	// Duration is how long each way is measured; 0 means 5 s.
	Duration time.Duration
	// Bytes is how many bytes to move each way, however long it takes; 0 means as many as
	// fit into Duration.
	Bytes uint64
	// Trips is how many round trips to measure; 0 means 10, negative none.
	Trips int
	// Raw measures a plain TCP connection to the same host as well.
	Raw bool
	// On is told of each second of a transfer; nil tells nobody.
	On func(Progress)
}

func (c Config) withDefaults() Config {
	if c.Directions == nil {
		c.Directions = []Direction{Upload, Download}
	}
	if c.Duration == 0 {
		c.Duration = 5 * time.Second
	}
	if c.Trips == 0 {
		c.Trips = 10
	}
	return c
}

// Progress is one second of a transfer, or what was left at its end.
type Progress struct {
	Direction Direction `json:"direction"`
	Raw       bool      `json:"raw"`   // over plain TCP
	AtMS      float64   `json:"at_ms"` // end of the second, from the transfer's start
	Bytes     uint64    `json:"bytes"` // in this second; of an upload, handed to the connection
	Rate      float64   `json:"bytes_per_s"`
	Path      string    `json:"path"` // direct or relayed
}

// Transfer is one way measured.
type Transfer struct {
	Path  string  `json:"path"`  // direct or relayed
	Addr  string  `json:"addr"`  // the peer's address on that path
	Bytes uint64  `json:"bytes"` // of an upload, received by the peer
	MS    float64 `json:"ms"`
	Rate  float64 `json:"bytes_per_s"`
	// Limited says what the relay's limit cut the measurement to; null: nothing.
	Limited *string `json:"limited"` // bytes or duration
}

// Trips are round trips of one byte each way, each on a stream of its own.
type Trips struct {
	Count int     `json:"count"`
	Min   float64 `json:"min_ms"`
	P50   float64 `json:"p50_ms"`
	Max   float64 `json:"max_ms"`
}

// Raw is a plain TCP connection to the same host.
type Raw struct {
	Addr     string    `json:"addr"`
	Upload   *Transfer `json:"upload"`
	Download *Transfer `json:"download"`
	// The ratios are the rate over libp2p to that over plain TCP.
	UploadRatio   *float64 `json:"upload_ratio"`
	DownloadRatio *float64 `json:"download_ratio"`
}

// Result is what was measured; null is what was not.
type Result struct {
	Trips    *Trips    `json:"round_trips"`
	Upload   *Transfer `json:"upload"`
	Download *Transfer `json:"download"`
	Raw      *Raw      `json:"raw"`
}

// Do measures the best open connection to p, picked anew for each measurement: a direct
// one before a relayed one. Of what a relay limits it uses nine tenths at most. The Result
// has what was measured before an error: ErrUnsupported, ErrNotConnected, ErrRelayLimit,
// ErrNoRaw, that of a connection that broke, or ctx's.
func Do(ctx context.Context, n *host.Node, p peer.ID, cfg Config) (Result, error) {
	m := &meter{n: n, peer: p, cfg: cfg.withDefaults(), sent: noise(), buf: make([]byte, chunkSize)}
	err := m.run(ctx)
	return m.r, err
}

// meter is one run of Do.
type meter struct {
	n    *host.Node
	peer peer.ID
	cfg  Config
	sent []byte
	buf  []byte
	r    Result
}

func (m *meter) run(ctx context.Context) error {
	if err := m.trips(ctx); err != nil {
		return err
	}
	for _, d := range m.cfg.Directions {
		t, err := m.measure(ctx, d)
		if err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
		*m.r.of(d) = t
	}
	if m.cfg.Raw {
		return m.raw(ctx)
	}
	return nil
}

func (r *Result) of(d Direction) **Transfer {
	if d == Upload {
		return &r.Upload
	}
	return &r.Download
}

// conn is the connection to measure.
func (m *meter) conn() (network.Conn, error) {
	conns := m.n.Conns(m.peer)
	if len(conns) == 0 {
		return nil, ErrNotConnected
	}
	return conns[0], nil
}

// open opens a stream; the caller resets or closes it, and calls stop.
func (m *meter) open(ctx context.Context, c network.Conn) (st network.Stream, stop func() bool, err error) {
	if st, err = m.n.OpenStream(ctx, c, Protocol); err != nil {
		return nil, nil, err
	}
	return st, context.AfterFunc(ctx, func() { _ = st.Reset() }), nil
}

// cause is why a stream failed.
func (m *meter) cause(ctx context.Context, c network.Conn, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if ok, asked := m.n.Supports(ctx, c, Protocol); asked == nil && !ok {
		return ErrUnsupported
	}
	return err
}

// trips measures round trips.
func (m *meter) trips(ctx context.Context) error {
	var took []time.Duration
	for range max(m.cfg.Trips, 0) {
		c, err := m.conn()
		if err != nil {
			return err
		}
		d, err := m.trip(ctx, c)
		if err != nil {
			return fmt.Errorf("round trip: %w", m.cause(ctx, c, err))
		}
		took = append(took, d)
		slices.Sort(took)
		ms := milliseconds
		m.r.Trips = &Trips{len(took), ms(took[0]), ms(took[len(took)/2]), ms(took[len(took)-1])}
	}
	return nil
}

func (m *meter) trip(ctx context.Context, c network.Conn) (time.Duration, error) {
	st, stop, err := m.open(ctx, c)
	if err != nil {
		return 0, err
	}
	defer stop()
	begin := time.Now()
	if _, _, err = exchange(st, m.sent, m.buf, job{up: 1, down: 1, moved: func(Direction, int) {}}); err != nil {
		_ = st.Reset() // the first error is the one to tell
		return 0, err
	}
	return time.Since(begin), st.Close()
}

// measure measures one way over libp2p.
func (m *meter) measure(ctx context.Context, d Direction) (*Transfer, error) {
	c, err := m.conn()
	if err != nil {
		return nil, err
	}
	remote := c.RemoteMultiaddr()
	t := &Transfer{Path: addr.Path(remote), Addr: remote.String()}
	j, err := m.job(c, d, t)
	if err != nil {
		return nil, err
	}
	st, stop, err := m.open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := t.take(st, m, j); err != nil {
		_ = st.Reset() // the first error is the one to tell
		return nil, m.cause(ctx, c, err)
	}
	_ = st.Reset() // a download ends when enough has come
	return t, nil
}

// raw measures both ways over plain TCP.
func (m *meter) raw(ctx context.Context) error {
	c, err := m.conn()
	if err != nil {
		return err
	}
	port, err := askRaw(ctx, m.n, c)
	if err != nil {
		return err
	}
	defer port.close()
	raw := &Raw{Addr: port.at.String()}
	for _, d := range m.cfg.Directions {
		t := &Transfer{Path: "direct", Addr: raw.Addr}
		tcp, err := port.open(ctx)
		if err != nil {
			return err
		}
		err = m.overTCP(ctx, tcp, t, d)
		_ = tcp.Close()
		if err != nil {
			return fmt.Errorf("%s over plain TCP: %w", d, err)
		}
		ratio := new((*m.r.of(d)).Rate / t.Rate)
		if d == Upload {
			raw.Upload, raw.UploadRatio = t, ratio
		} else {
			raw.Download, raw.DownloadRatio = t, ratio
		}
	}
	m.r.Raw = raw
	return nil
}

func (m *meter) overTCP(ctx context.Context, c *net.TCPConn, t *Transfer, d Direction) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	j := m.plan(d)
	j.raw = true
	if err := t.take(c, m, j); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return nil
}
