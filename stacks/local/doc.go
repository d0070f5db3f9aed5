// Package local is the stack of volumes that no cluster shares (mkfs -M
// local; OCFS2_FEATURE_INCOMPAT_LOCAL_MOUNT): one node, every lock granted at
// once, completions run before the call returns. It registers itself as
// "local". A connection has no mutex of its own: calls for one Lksb do not
// overlap by the contract of stackglue, and different Lksbs share only
// counters.
package local
