#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Installs the Debian packages that building, checking, the lab and the demo need and that are
# missing. Without the rights or the network for that it names them and goes on: everything that does
# not need them still works. A word A|B asks for the first of these packages that the release has,
# and A|- for a package that a release may do without.
set -eu

BUILD_PACKAGES="meson ninja-build gcc libc6-dev pkg-config python3 libzydis-dev libjson-c-dev
	libncurses-dev libcmocka-dev"
# Versions differ in what they format and find, so that one of them judges, where it exists
# (tools/check.py).
CHECK_PACKAGES="clang libclang-rt-dev clang-format-14|- clang-tidy-14|- shellcheck valgrind
	chromium"
# objtool, which tests/kernel is built with, needs libelf. Kernels are packed by lz4 or zstd.
LAB_PACKAGES="qemu-system-x86 seabios busybox-static dpkg libelf1t64|libelf1 lz4 zstd"
# Bochs and what makes the disc image that it boots from: lab/run --cpu intel.
INTEL_PACKAGES="bochs bochsbios vgabios bochs-x grub-common grub-pc-bin xorriso mtools"
# What the lab's kernel that watches itself is built by (lab/debug_kernel.py).
KERNEL_PACKAGES="make bc flex bison dwarves libelf-dev lz4"
# What `make deb` and its test take.
DEB_PACKAGES="git build-essential debhelper dh-dkms dkms lintian xz-utils zstd apparmor"

wanted="$BUILD_PACKAGES $CHECK_PACKAGES $LAB_PACKAGES $INTEL_PACKAGES $KERNEL_PACKAGES
	$DEB_PACKAGES"

# The names that a list of words may stand for.
names()
{
	echo "$@" | tr '|' ' ' | sed 's/ -\( \|$\)/ /g'
}

# dpkg knows what is installed without apt's lists.
# shellcheck disable=SC2046 # a list of words
installed=" $(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $(names "$wanted") 2>/dev/null |
	sed -n 's/^ii *//p' | tr '\n' ' ')"

# Sets lists to what apt has, of those names and of the kernel package that the lab asks apt for.
read_lists()
{
	# shellcheck disable=SC2046 # a list of words
	lists=" $(apt-cache show linux-image-cloud-amd64 $(names "$wanted") 2>/dev/null |
		sed -n 's/^Package: //p' | tr '\n' ' ')"
}

has()
{
	case $1 in
	*" $2 "*) return 0 ;;
	*) return 1 ;;
	esac
}

# Adds the package to install for a word, if there is one, to missing.
find_missing()
{
	chosen=
	for package in $(echo "$1" | tr '|' ' '); do
		! has "$installed" "$package" || return 0
		[ -n "$chosen" ] || [ "$package" = - ] || ! has "$lists" "$package" || chosen=$package
	done
	case $1 in
	*'|-') ;;
	# A package that apt does not know is named all the same: it is missing.
	*) chosen=${chosen:-${1%%|*}} ;;
	esac
	missing="$missing${chosen:+ $chosen}"
}

export DEBIAN_FRONTEND=noninteractive
install()
{
	# shellcheck disable=SC2086 # a list of words
	apt-get -qq install -y --no-install-recommends $missing >/dev/null
}

is_root=
[ "$(id -u)" != 0 ] || is_root=yes
read_lists
if ! has "$lists" linux-image-cloud-amd64; then
	if [ -n "$is_root" ]; then
		echo "noexit: fetching apt's package lists" >&2
		apt-get -qq update || echo "noexit: apt-get update failed; see above" >&2
		read_lists
	else
		echo "noexit: apt has no package lists; as root: apt-get update" >&2
	fi
fi
missing=
for word in $wanted; do
	find_missing "$word"
done
[ -n "$missing" ] || exit 0
if [ -z "$is_root" ]; then
	echo "noexit: missing packages; as root: apt-get install$missing" >&2
	exit 0
fi
echo "noexit: installing$missing" >&2
# Old lists name versions that the mirror no longer has: fetched anew, it is tried once more.
install || { apt-get -qq update && install; } ||
	echo "noexit: could not install$missing; what needs them will not work" >&2
