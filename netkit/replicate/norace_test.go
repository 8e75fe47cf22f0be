//go:build !race

package replicate

// rounds is how often the model is run.
const rounds = 12
