#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Shows that Debian 13 builds, demonstrates and checks the project: `make demo` and `make check` run in
# a chroot of it that has nothing but make and git, on a clean checkout of what is committed here.
# usage: debian13.sh BUILD [COMMAND]; COMMAND: another one, in the checkout
#   CHECK_RELEASE (trixie): the release's name
#   CHECK_KEEP: set, the chroot and the checkout of the last run are used again, the checkout updated
# The chroot is in BUILD/lab/debian13 (4 GB with all packages). Exit status: that of the command; 77: skipped.
set -eu
build=$(cd "$1" && pwd)
command=${2:-make demo && make check}
release=${CHECK_RELEASE:-trixie}
root=$(cd "$(dirname "$0")/.." && pwd)
base=$build/lab/debian13/$release
chroot=$base.root

skip()
{
	echo "skipped: $1"
	exit 77
}

[ "$(id -u)" = 0 ] || skip "a chroot is made by root"
command -v debootstrap >/dev/null || skip "debootstrap is not installed; run 'make deps' as root"

# The mirror that this machine's own packages come from has the other releases, too.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
	'Created-By: Packages' 2>/dev/null | sed -n 's/ [a-z]* main$//p' | grep '/debian/*$' |
	head -n 1)

mkdir -p "$(dirname "$base")"
if [ ! -d "$base" ]; then
	rm -rf "$base.new"
	echo "debian13: fetching $release (once)"
	# shellcheck disable=SC2086 # a mirror, or none: then debootstrap knows one
	debootstrap --variant=minbase --include=make,git "$release" "$base.new" $mirror \
		>"$base.log" 2>&1 || {
		tail -n 5 "$base.log"
		skip "debootstrap of $release failed"
	}
	mv "$base.new" "$base"
fi
if [ -z "${CHECK_KEEP:-}" ] || [ ! -d "$chroot/root/noexit" ]; then
	rm -rf "$chroot"
	cp -a "$base" "$chroot"
	git clone -q --no-hardlinks "$root" "$chroot/root/noexit"
else
	git -C "$chroot/root/noexit" fetch -q "$root" HEAD
	git -C "$chroot/root/noexit" reset -q --hard FETCH_HEAD
fi
cp -L /etc/resolv.conf "$chroot/etc/resolv.conf"
cp /etc/hosts "$chroot/etc/hosts"

# What is mounted goes away with the last process of this mount namespace.
# shellcheck disable=SC2016 # the inner shell expands it
exec unshare --mount --propagation private sh -eu -c '
	# A root that is no mount point takes no mount namespace of its own, which tests make.
	mount --bind "$1" "$1"
	for place in proc dev sys; do
		mount --rbind "/$place" "$1/$place"
	done
	exec chroot "$1" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		sh -c "cd /root/noexit && $2"' sh "$chroot" "$command"
