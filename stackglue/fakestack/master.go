package fakestack

import "github.com/ocfuse/ocfuse/stackglue"

// compatible is the table of the lock modes from IV to EX (Linux fs/dlm/lock.c).
func compatible(a, b stackglue.Mode) bool {
	switch {
	case a <= stackglue.NL || b <= stackglue.NL:
		return true
	case a == stackglue.EX || b == stackglue.EX:
		return false
	case a == stackglue.CR || b == stackglue.CR:
		return true
	}
	return a == b && a != stackglue.PW
}

func remove(list []*lock, k *lock) []*lock {
	for i, o := range list {
		if o == k {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

// doLock is the master's side of a request or convert. mu held.
func (c *Cluster) doLock(k *lock, mode stackglue.Mode, f stackglue.Flags, lvb *[stackglue.LVBLen]byte) {
	k.want, k.flag = mode, f
	if f&stackglue.FlagConvert == 0 {
		c.attach(k)
		r := k.res
		switch {
		case len(r.convert)+len(r.waiting) == 0 && c.fits(k):
			c.grant(k)
		case f&stackglue.FlagNoQueue != 0:
			c.detach(k)
			c.post(k, event{kind: lockAST, status: stackglue.ErrAgain})
		default:
			r.waiting = append(r.waiting, k)
			c.blame(k, mode)
		}
		return
	}
	r := k.res
	if lvb != nil {
		r.lvb, r.lvbBad, r.lvbKnown = *lvb, false, true
		r.lvbSeq++
	}
	down := mode < k.mode
	r.granted = remove(r.granted, k)
	switch {
	case c.fits(k):
		c.grant(k)
	case f&stackglue.FlagNoQueue != 0:
		r.granted = append(r.granted, k)
		c.post(k, event{kind: lockAST, status: stackglue.ErrAgain})
	default:
		r.convert = append(r.convert, k)
		c.blame(k, mode)
	}
	if down {
		c.grantPending(r)
	}
}

// doUnlock drops a lock. mu held.
func (c *Cluster) doUnlock(k *lock, lvb *[stackglue.LVBLen]byte) {
	r := k.res
	if lvb != nil {
		r.lvb, r.lvbBad, r.lvbKnown = *lvb, false, true
		r.lvbSeq++
	}
	c.detach(k)
	c.post(k, event{kind: unlockAST})
	c.grantPending(r)
}

// doCancel ends a wait. mu held.
func (c *Cluster) doCancel(k *lock) {
	if r := k.res; r != nil {
		before := len(r.convert) + len(r.waiting)
		r.convert, r.waiting = remove(r.convert, k), remove(r.waiting, k)
		if before != len(r.convert)+len(r.waiting) {
			if k.mode == stackglue.IV {
				c.detach(k)
			} else {
				r.granted = append(r.granted, k)
				k.want = k.mode
			}
			c.post(k, event{kind: lockAST, status: stackglue.ErrCanceled})
			defer c.grantPending(r)
		}
	}
	c.post(k, event{kind: cancelAST})
}

// attach finds or makes the resource of a new lock. mu held.
func (c *Cluster) attach(k *lock) {
	name := string(k.l.NameBytes())
	r := c.names[name]
	if r == nil {
		r = &resource{name: name}
		c.names[name] = r
	}
	k.res = r
	k.conn.locks[k] = true
}

// detach takes a lock off its resource, which is forgotten, value block
// included, with its last lock. mu held.
func (c *Cluster) detach(k *lock) {
	r := k.res
	r.granted, r.convert, r.waiting = remove(r.granted, k), remove(r.convert, k), remove(r.waiting, k)
	k.res, k.mode, k.told = nil, stackglue.IV, stackglue.IV
	delete(k.conn.locks, k)
	if len(r.granted)+len(r.convert)+len(r.waiting) == 0 {
		delete(c.names, r.name)
	}
}

// fits reports whether k's wanted mode agrees with what the others hold. An
// immediate convert may overtake queued ones, as in Linux. mu held.
func (c *Cluster) fits(k *lock) bool {
	for _, list := range [...][]*lock{k.res.granted, k.res.convert} {
		for _, o := range list {
			if o != k && !compatible(k.want, o.mode) {
				return false
			}
		}
	}
	return true
}

// grant gives k what it wants. mu held.
func (c *Cluster) grant(k *lock) {
	r := k.res
	r.granted = append(r.granted, k)
	from := k.mode
	k.mode, k.told = k.want, stackglue.IV
	e := event{kind: lockAST, valid: !r.lvbBad}
	if k.flag&stackglue.FlagValBlk != 0 && !writesLVB(from, k.mode, k.flag) && r.lvbKnown {
		v := r.lvb
		e.lvb = &v
	}
	c.post(k, e)
	// Those that wait already wait for this holder too.
	for _, list := range [...][]*lock{r.convert, r.waiting} {
		for _, o := range list {
			c.tell(k, o.want)
		}
	}
}

// grantPending grants what has become possible: converts first, each list in
// order. mu held.
func (c *Cluster) grantPending(r *resource) {
	for i := 0; i < len(r.convert); {
		k := r.convert[i]
		if !c.fits(k) {
			i++
			continue
		}
		r.convert = remove(r.convert, k)
		c.grant(k)
		i = 0
	}
	for len(r.convert) == 0 && len(r.waiting) != 0 && c.fits(r.waiting[0]) {
		k := r.waiting[0]
		r.waiting = r.waiting[1:]
		c.grant(k)
	}
	for _, list := range [...][]*lock{r.convert, r.waiting} {
		for _, k := range list {
			c.blame(k, k.want)
		}
	}
}

// blame sends a BAST to every holder that keeps k from mode. mu held.
func (c *Cluster) blame(k *lock, mode stackglue.Mode) {
	for _, o := range k.res.granted {
		if o != k {
			c.tell(o, mode)
		}
	}
}

// tell sends one BAST unless the holder knows already. mu held.
func (c *Cluster) tell(o *lock, mode stackglue.Mode) {
	if compatible(o.mode, mode) || o.told >= mode {
		return
	}
	o.told = mode
	o.conn.sent["bast"]++
	c.post(o, event{kind: bast, mode: mode})
}
