package volume

// CheckNumber is what a node does that remembers an inode's number.
func (v *Volume) CheckNumber(blkno uint64) {
	v.checkNumber(blkno)
	v.deleter.wait()
}
