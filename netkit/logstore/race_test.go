//go:build race

package logstore

// stride is how many bytes of a file are passed over between two that are damaged: the race detector makes opening slow.
const stride = 41
