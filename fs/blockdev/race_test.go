//go:build race

package blockdev

// raceEnabled: the race detector drops pooled items at random.
const raceEnabled = true
