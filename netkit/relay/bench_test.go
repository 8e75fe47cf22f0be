package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// BenchmarkReserve and BenchmarkDisconnect show that neither depends on how many
// reservations are held.
func BenchmarkReserve(b *testing.B) {
	from := at("2001:db8::1")
	crowd(b, func(b *testing.B, table *table, now time.Time) {
		for i := 0; b.Loop(); i++ {
			p := peer.ID(fmt.Sprint("new", i))
			table.reserve(now, p, from)
			b.StopTimer()
			table.drop(p)
			b.StartTimer()
		}
	})
}

func BenchmarkDisconnect(b *testing.B) {
	from := at("2001:db8::1")
	crowd(b, func(b *testing.B, table *table, now time.Time) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			p := peer.ID(fmt.Sprint("new", i))
			table.reserve(now, p, from)
			b.StartTimer()
			table.drop(p)
		}
	})
}

func crowd(b *testing.B, f func(*testing.B, *table, time.Time)) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := newTable(limits(b, Limits{Reservations: NoLimit, ReservationsPerIP: NoLimit, ReservationsPerPrefix: NoLimit}), time.Hour, asnOf)
			now := time.Unix(0, 0)
			for i := range n {
				now = now.Add(time.Millisecond)
				table.reserve(now, peer.ID(fmt.Sprint(i)), at(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
			}
			f(b, table, now)
		})
	}
}
