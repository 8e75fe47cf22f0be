//go:build race

package serve_test

// raced shortens outages: the race detector of Go 1.26 crashes now and then when two
// timers of a bubble run at one moment, which in hours of virtual time they do.
const raced = true
