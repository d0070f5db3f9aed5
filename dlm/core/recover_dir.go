package core

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Rebuilding the directory: every node asks every other one for the names that it masters and whose directory node is
// the asker. (Linux fs/dlm/dir.c dlm_recover_directory, dlm_copy_master_names.)

// collectNames goes through the members; true when all names are in.
func (c *Core) collectNames() bool {
	rc := &c.rec
	p := &rc.poll
	for ; rc.member < len(c.members); rc.member++ {
		id := c.members[rc.member].id
		if id == c.cfg.NodeID {
			continue
		}
		if p.tries == answered {
			*p = poll{at: deadlineNone}
			rc.lastName = rc.lastName[:0]
			continue
		}
		if !p.asked && p.at == deadlineNone {
			m := c.fillRcom(wire.RcomNames)
			m.Buf = rc.lastName
			c.newRequest(id, m)
		}
		return false
	}
	c.findUnclaimed()
	return true
}

// findUnclaimed looks for active resources in our directory whose master on record named others but not them. It
// became master in a recovery that was interrupted and has forgotten it since. Our own next request makes it master
// again; without one the record must go with the last lock here, or others would be sent to it for ever.
func (c *Core) findUnclaimed() {
	for _, r := range c.rec.root {
		r.flags &^= rfUnclaimed
		if r.dir == c.cfg.NodeID && r.master != 0 && !c.isMaster(r) && r.masterSeq != uint32(c.seq) {
			r.flags |= rfUnclaimed
		}
	}
}

// recvNamesReply records the sender as master of what it names.
func (c *Core) recvNamesReply(from int32, m *wire.Rcom) error {
	rc := &c.rec
	p := &rc.poll
	if !rc.running || rc.step != stepNames || !p.asked || p.id != m.ID || p.node != from {
		return c.ignoredRcom(from, m, "not the answer awaited")
	}
	cur := wire.NewNamesCursor(m.Buf)
	n := 0
	for {
		name, err := cur.Next()
		if err != nil {
			err = fmt.Errorf("%w: names from node %d: %w", ErrProto, from, err)
			c.failRecovery(err)
			return err
		}
		if name == nil {
			break
		}
		n++
		c.masterLookup(from, name, lookupRecoverDir)
		rc.lastName = append(rc.lastName[:0], name...)
	}
	p.asked, p.id, p.at = false, 0, deadlineNone
	if cur.Last() {
		p.tries = answered
	} else if n == 0 {
		err := fmt.Errorf("%w: names from node %d: more is announced but nothing was sent", ErrProto, from)
		c.failRecovery(err)
		return err
	}
	c.runRecovery()
	return nil
}

// recvNames lists the names we master for directory node from, after the name given.
func (c *Core) recvNames(from int32, in *wire.Rcom) error {
	if len(in.Buf) > wire.ResNameMax {
		return c.ignoredRcom(from, in, fmt.Sprintf("name of %d bytes", len(in.Buf)))
	}
	i := 0
	if len(in.Buf) > 0 {
		r := c.table.find(in.Buf, wire.ResourceHash(in.Buf))
		switch {
		case r != nil && r.rootIdx >= 0:
			i = int(r.rootIdx) + 1
		case len(in.Buf) > 1:
			return c.ignoredRcom(from, in, "it goes on after a name that is not known here")
		}
	}
	b := c.rbuf[:0]
	last := true
	for ; i < len(c.rec.root); i++ {
		r := c.rec.root[i]
		if !c.isMaster(r) || r.dir != from {
			continue
		}
		if len(b)+wire.NamesRoom(int(r.nameLen)) > wire.NamesBufSize {
			last = false
			break
		}
		b = wire.AppendName(b, r.name())
	}
	c.rbuf = wire.AppendNamesEnd(b, last)
	m := c.fillRcom(wire.RcomNamesReply)
	m.ID, m.SeqReply, m.Buf = in.ID, in.Seq, c.rbuf
	c.sendRcom(from, m)
	return nil
}
