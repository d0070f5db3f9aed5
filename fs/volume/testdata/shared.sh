# What a Linux 6.1 kernel did on the volumes shared-*.img.gz, mounted on /mnt
# (a busybox shell with setfattr, cp of coreutils and fallocate of util-linux in
# /sbin). The volumes were made with
#   mkfs.ocfs2 -M local -N 1 -J size=4M -b BLOCK -C CLUSTER [--fs-features=metaecc]
# and unmounted afterwards. The tests know the contents: val N is the first N
# bytes of the numbers from 1 to 1000, one per line, over and over.
set -e
seq 1 1000 >/tmp/numbers
i=0; while [ $i -lt 400 ]; do cat /tmp/numbers; i=$((i+1)); done >/tmp/all
cd /mnt
val() { head -c $1 /tmp/all; }
attrs() { # file, from, to, length of the values
  i=$2; v="$(val $4)"; while [ $i -lt $3 ]; do setfattr -n user.attr-$4-$i -v "$v" $1; i=$((i+1)); done; }

# Attributes: inline, in a block, in buckets; with values outside of each.
mkdir xa
: > xa/inline; attrs xa/inline 0 1 5; attrs xa/inline 0 1 3000
: > xa/block; attrs xa/block 0 2 70; attrs xa/block 0 2 5000; attrs xa/block 0 2 20000
: > xa/buckets; attrs xa/buckets 0 150 60; attrs xa/buckets 0 40 9000
val 10000 > xa/data; attrs xa/data 0 100 100
mkdir xa/dir; attrs xa/dir 0 5 3000
ln -s "$(val 3000 | tr '\n' x)" xa/link
setfattr -h -n trusted.a -v "$(val 70)" xa/link; setfattr -h -n trusted.b -v "$(val 2000)" xa/link

# Shared data: three users of one range; a last user; a tree with leaves
# (every second cluster is shared by one file less); unwritten clusters.
clone() { /sbin/cp --reflink=always "$@"; }
mkdir rf
val 300000 > rf/a; sync; clone rf/a rf/b; clone rf/a rf/c
val 100000 > rf/solo; sync; clone rf/solo rf/gone; rm rf/gone
val 1200000 > rf/many; sync; clone rf/many rf/holes
C=$(stat -f -c %S /mnt)
i=0; while [ $((i*C)) -lt 1200000 ]; do fallocate -p -o $((i*C)) -l $C rf/holes; i=$((i+2)); done
val 50000 > rf/pre; /sbin/fallocate -l 200000 rf/pre; sync; clone rf/pre rf/pre2

# Attributes whose values are shared as well.
val 50000 > rf/xa; attrs rf/xa 0 1 30000; attrs rf/xa 0 60 200; sync
clone --preserve=all rf/xa rf/xb
sync
