#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Installs the packages in /packages/old, upgrades to those in /packages/new, uses them, and purges
# them; for deb_test.py, in its chroot. KERNEL: a kernel to install first, with its headers. Ends at the first step that is not as it should be.
set -eu
export DEBIAN_FRONTEND=noninteractive
names="noexit libnoexit0 libnoexit-dev noexit-dkms"

problem()
{
	echo "installed.sh: $*"
	exit 1
}

# Without a kernel's headers, as a rule: DKMS then says so and builds nothing.
install()
{
	apt-get -qq install -y --no-install-recommends "$@" && return
	# Old lists name what the mirror no longer has.
	apt-get -q update
	apt-get -qq install -y --no-install-recommends "$@" || problem "apt-get failed"
}

# The versions that dpkg has, each once.
versions()
{
	# shellcheck disable=SC2086 # a list of words
	dpkg-query -W -f '${db:Status-Abbrev} ${Version}\n' $names | sort -u
}

for name in $names; do
	! dpkg-query -W "$name" 2>/dev/null || problem "$name is installed already"
done

if [ -n "${KERNEL:-}" ]; then
	install "linux-image-$KERNEL" "linux-headers-$KERNEL"
fi
install /packages/old/*.deb
[ "$(versions)" = "ii  0.0.9-1" ] || problem "installed: $(versions)"
install /packages/new/*.deb
version=$(dpkg-deb -f "$(ls /packages/new/noexit_*.deb)" Version)
[ "$(versions)" = "ii  $version" ] || problem "upgraded: $(versions)"
upstream=${version%-*}
echo "upgraded: from 0.0.9-1 to $version"

# shellcheck disable=SC2086 # a list of words
dpkg -L $names | grep . | sort -u >/packages/files
while IFS= read -r file; do
	case $file in
	# What dpkg may have been told to leave out.
	/usr/share/doc/* | /usr/share/man/*) ;;
	*) [ -e "$file" ] || problem "$file is missing" ;;
	esac
done </packages/files

[ "$(command -v noexit)" = /usr/bin/noexit ] || problem "noexit is $(command -v noexit)"
noexit --help | grep -q 'noexit run' || problem "noexit --help says nothing of noexit run"
[ "$(noexit --version)" = "noexit $upstream" ] || problem "noexit --version: $(noexit --version)"
noexit check >/packages/check 2>&1 || grep -q '^Not usable: ' /packages/check ||
	problem "noexit check: $(cat /packages/check)"
grep '^/dev/kvm present' /packages/check || problem "noexit check: $(cat /packages/check)"
# shellcheck disable=SC2016 # the inner shell expands it
preload=$(noexit run -- sh -c 'echo $LD_PRELOAD')
[ -e "$preload" ] && grep -qx "$preload" /packages/files || problem "noexit run preloads '$preload'"
printf '#!/bin/sh\necho "$LD_PRELOAD $*"\n' >/packages/qemu
chmod +x /packages/qemu
answer=$(NOEXIT_QEMU=/packages/qemu noexit-qemu-x86_64 -name it)
[ "$answer" = "$preload -name it" ] || problem "noexit-qemu-x86_64: '$answer'"
if command -v man >/dev/null; then
	for page in noexit.1 noexit-qemu-x86_64.1 noexit.3; do
		man -w "${page#*.}" "${page%.*}" >/dev/null || problem "there is no page $page"
	done
fi

cat >/packages/program.c <<'END'
#include <noexit-kvm.h>
#include <stdio.h>

int main(void)
{
	printf("%d\n", nx_engine_arena_size() > 4096 && nx_close(-1) == -1);
	return 0;
}
END
install pkg-config gcc
[ "$(pkg-config --modversion noexit)" = "$upstream" ] || problem "pkg-config --modversion noexit"
# shellcheck disable=SC2046 # lists of flags
for kind in shared static; do
	case $kind in
	shared) flags=$(pkg-config --cflags --libs noexit) ;;
	static) flags=$(pkg-config --static --cflags --libs noexit |
		sed 's/-lnoexit\b/-l:libnoexit.a/') ;;
	esac
	# shellcheck disable=SC2086 # a list of flags
	cc -Wall -Werror -o /packages/program /packages/program.c $flags || problem "$kind: cc failed"
	[ "$(/packages/program)" = 1 ] || problem "$kind: the program answers wrongly"
done

if command -v apparmor_parser >/dev/null; then
	cat >/packages/profile <<-'END'
	#include <tunables/global>
	profile vmm { include <abstractions/base>
	include <abstractions/noexit> }
	END
	apparmor_parser --skip-kernel-load --skip-cache /packages/profile >/dev/null ||
		problem "apparmor_parser does not take the abstraction"
fi

dkms status | grep "^noexit/$upstream" || problem "DKMS does not know of noexit: $(dkms status)"
# With a kernel of the distribution's and its headers DKMS has built the module.
for headers in /usr/src/linux-headers-*-amd64; do
	release=${headers#/usr/src/linux-headers-}
	[ -e "/boot/vmlinuz-$release" ] || continue
	found=$(find "/lib/modules/$release" -name 'noexit.ko*' | wc -l)
	[ "$found" = 1 ] || problem "$release has $found modules of noexit"
	echo "dkms: $release, modules: $found"
done

# shellcheck disable=SC2086 # a list of words
apt-get -qq purge -y $names || problem "purge failed"
while IFS= read -r file; do
	[ -d "$file" ] || [ ! -e "$file" ] || problem "$file is left"
done </packages/files
for left in /usr/src/noexit-* /var/lib/dkms/noexit /usr/lib/*/noexit /etc/noexit; do
	[ ! -e "$left" ] || problem "$left is left"
done
# shellcheck disable=SC2086 # a list of words
[ -z "$(dpkg-query -W $names 2>/dev/null | grep -v '	$')" ] || problem "dpkg knows them still"
echo "purged: nothing is left"
