//go:build race

package cluster

// raceEnabled: the nodes are built with the race detector as well.
const raceEnabled = true
