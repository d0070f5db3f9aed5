#!/usr/bin/env bash
# Install what building and testing ocfuse need and this machine lacks. Does nothing,
# quickly, when all is there. Debian and its descendants; needs root to install.
set -euo pipefail
cd "$(dirname "$0")/.."

# command that must be there : Debian package that has it. modprobe is for mkfs.ocfs2:
# where it cannot start one, its child goes on as a second mkfs and the whole fails.
wanted=(fusermount3:fuse3 mkfs.ocfs2:ocfs2-tools modprobe:kmod make:make losetup:mount git:git gcc:gcc ip:iproute2)
PATH=$PATH:/usr/sbin:/sbin

missing=()
for w in "${wanted[@]}"; do
	command -v "${w%%:*}" >/dev/null || missing+=("${w##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "setup: missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

command -v go >/dev/null || { echo "setup: no Go toolchain: install Go $(awk '/^go /{print $2}' go.mod) or newer" >&2; exit 1; }
[ -e /dev/fuse ] || { echo "setup: no /dev/fuse: load the fuse module (modprobe fuse)" >&2; exit 1; }
go mod download
