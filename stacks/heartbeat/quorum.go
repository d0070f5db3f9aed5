package heartbeat

import "math/bits"

// Set is a set of node numbers 0..255.
type Set [4]uint64

// Add puts n into the set.
func (s *Set) Add(n int) { s[n>>6&3] |= 1 << (n & 63) }

// Del takes n out.
func (s *Set) Del(n int) { s[n>>6&3] &^= 1 << (n & 63) }

// Has tells whether n is in the set.
func (s *Set) Has(n int) bool { return s[n>>6&3]&(1<<(n&63)) != 0 }

// Len counts the members.
func (s *Set) Len() int {
	return bits.OnesCount64(s[0]) + bits.OnesCount64(s[1]) + bits.OnesCount64(s[2]) + bits.OnesCount64(s[3])
}

// Lowest returns the lowest member, or -1.
func (s *Set) Lowest() int {
	for i, w := range s {
		if w != 0 {
			return i<<6 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// MustFence is o2quo's rule (Linux fs/ocfs2/cluster/quorum.c, o2quo_make_decision):
// heart are the nodes that heartbeat, conn those this node is connected to, itself
// included in both. More than half must be connected; of an even split the half
// with the lowest node goes on.
func MustFence(self int, heart, conn Set) bool {
	n := heart.Len()
	if !heart.Has(self) || n <= 1 {
		return false
	}
	have := 0
	for i := range heart {
		have += bits.OnesCount64(heart[i] & conn[i])
	}
	switch {
	case n%2 == 1:
		return have < (n+1)/2
	case have < n/2:
		return true
	case have == n/2:
		return !conn.Has(heart.Lowest())
	}
	return false
}

// Quorum collects what o2quo knows and says when to decide. It is pure; the
// caller runs the still-up timers.
type Quorum struct {
	self        int
	heart, conn Set
	hold        Set
	pending     bool
}

// NewQuorum starts with this node connected to itself.
func NewQuorum(self int) *Quorum {
	q := &Quorum{self: self}
	q.conn.Add(self)
	return q
}

// The inputs below return true when this node must fence itself now.

// HeartbeatUp: node n heartbeats.
func (q *Quorum) HeartbeatUp(n int) bool {
	q.heart.Add(n)
	return q.setHold(n, !q.conn.Has(n))
}

// HeartbeatDown: node n does not any more.
func (q *Quorum) HeartbeatDown(n int) bool {
	q.heart.Del(n)
	return q.setHold(n, false)
}

// ConnUp: the connection to n works.
func (q *Quorum) ConnUp(n int) bool {
	q.conn.Add(n)
	return q.setHold(n, !q.heart.Has(n))
}

// ConnErr: the connection to n is lost or silent.
func (q *Quorum) ConnErr(n int) bool {
	if !q.conn.Has(n) {
		return false
	}
	q.conn.Del(n)
	if q.heart.Has(n) {
		q.hold.Add(n)
	}
	return false
}

// StillUp: n heartbeats although its connection is lost for the quorum delay,
// (dead threshold + 2) periods.
func (q *Quorum) StillUp(n int) bool {
	q.pending = true
	return q.setHold(n, false)
}

// setHold sets or clears n's hold; clearing the last one runs a pending decision.
func (q *Quorum) setHold(n int, on bool) bool {
	if on {
		q.hold.Add(n)
		return false
	}
	if !q.hold.Has(n) {
		return false
	}
	q.hold.Del(n)
	if q.hold.Len() > 0 || !q.pending {
		return false
	}
	q.pending = false
	return MustFence(q.self, q.heart, q.conn)
}
