//go:build race

package replicate

// rounds is how often the model is run: the race detector makes it slow.
const rounds = 3
