#!/usr/bin/env bash
# Install what it takes to boot real Linux kernels as peers to test against: QEMU,
# what its initramfs is made of, and Debian's kernel package, which is downloaded to
# $KP_CACHE (default ~/.cache/ocfuse/kernelpeer) and not installed. Prints the path of
# the kernel package. Does nothing, quickly, when all is there. Needs root to install.
set -euo pipefail
cache=${KP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ocfuse/kernelpeer}
PATH=$PATH:/usr/sbin:/sbin

# command that must be there : Debian package that has it
wanted=(qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio depmod:kmod
	ip:iproute2 nc:netcat-openbsd mkfs.ocfs2:ocfs2-tools)

missing=()
for w in "${wanted[@]}"; do
	command -v "${w%%:*}" >/dev/null || missing+=("${w##*:}")
done
# The initramfs needs a busybox that runs without libraries.
if command -v busybox >/dev/null && ldd "$(command -v busybox)" >/dev/null 2>&1; then
	missing+=(busybox-static)
fi
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "setup-kernelpeer: missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q >&2
	apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
fi

mkdir -p "$cache"
cd "$cache"
if ! compgen -G 'linux-image-*.deb' >/dev/null; then
	kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends:/ { print $2; exit }')
	if [ -z "$kernel" ]; then
		apt-get update -q >&2
		kernel=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ { print $2; exit }')
	fi
	[ -n "$kernel" ] || { echo "setup-kernelpeer: apt knows no linux-image-amd64" >&2; exit 1; }
	# Into a folder of its own first: a download that was cut short must not count.
	part=$(mktemp -d part.XXXXXX)
	(cd "$part" && apt-get -o APT::Sandbox::User=root download -q "$kernel" >&2)
	mv "$part"/*.deb .
	rmdir "$part"
fi
compgen -G "$cache/linux-image-*.deb" | head -1
