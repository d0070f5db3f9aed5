package buffer

// added enters a block into the ring and evicts others beyond the limit.
func (c *Cache) added(b *Buf) {
	c.count.Add(1)
	c.mu.Lock()
	b.slot = len(c.ring)
	c.ring = append(c.ring, b)
	over := c.limit > 0 && len(c.ring) > c.limit
	c.mu.Unlock()
	if over {
		c.evictSome()
	}
}

// removed takes a block out of the ring. Idempotent.
func (c *Cache) removed(b *Buf) {
	c.mu.Lock()
	if b.slot < len(c.ring) && c.ring[b.slot] == b {
		last := len(c.ring) - 1
		c.ring[b.slot] = c.ring[last]
		c.ring[b.slot].slot = b.slot
		c.ring[last] = nil
		c.ring = c.ring[:last]
		c.count.Add(-1)
	}
	c.mu.Unlock()
}

// evictSome runs the clock for at most two rounds' worth of a small batch.
func (c *Cache) evictSome() {
	const batch = 64
	var victims []*Buf
	c.mu.Lock()
	for n := 0; n < 4*batch && len(c.ring)-len(victims) > c.limit && len(victims) < batch; n++ {
		if len(c.ring) == 0 {
			break
		}
		c.hand = (c.hand + 1) % len(c.ring)
		b := c.ring[c.hand]
		if b.refs.Load() > 0 || b.Pinned() || b.used.Swap(false) {
			continue
		}
		victims = append(victims, b)
	}
	c.mu.Unlock()
	for _, b := range victims {
		if b.meta.evict(b) {
			c.stats.evicted.Add(1)
		}
	}
}

// evict drops one block if it is still unused.
func (m *Meta) evict(b *Buf) bool {
	m.mu.Lock()
	ok := m.bufs[b.Blkno] == b && b.refs.Load() == 0 && !b.Pinned()
	if ok {
		delete(m.bufs, b.Blkno)
	}
	m.mu.Unlock()
	if ok {
		m.cache.removed(b)
	}
	return ok
}
