#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Installs the Debian packages that building, checking, the lab and the demo need and that are
# missing. Without the rights or the network for that it names them and goes on: whatever does not
# need them still works.
set -eu

BUILD_PACKAGES="meson ninja-build gcc libc6-dev pkg-config python3 libzydis-dev libjson-c-dev
	libncurses-dev libcmocka-dev"
CHECK_PACKAGES="clang clang-format clang-tidy libclang-rt-14-dev shellcheck
	valgrind"
# libelf1: objtool, which tests/kernel is built with.
LAB_PACKAGES="qemu-system-x86 seabios busybox-static dpkg libelf1"
# Bochs and what makes the disc image that it boots from: lab/run --cpu intel.
INTEL_PACKAGES="bochs bochsbios vgabios bochs-x grub-common grub-pc-bin xorriso mtools"

packages="$BUILD_PACKAGES $CHECK_PACKAGES $LAB_PACKAGES $INTEL_PACKAGES"
# shellcheck disable=SC2086 # a list of words
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $packages 2>/dev/null || :)
missing=
for package in $packages; do
	echo "$installed" | grep -qx "ii *$package" || missing="$missing $package"
done
# The lab asks apt which kernel package is current.
lists=$(apt-cache show linux-image-cloud-amd64 2>/dev/null || :)
[ -n "$missing" ] || [ -z "$lists" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	[ -z "$missing" ] || echo "noexit: missing packages; as root: apt-get install$missing" >&2
	[ -n "$lists" ] || echo "noexit: apt has no package lists; as root: apt-get update" >&2
	exit 0
fi

export DEBIAN_FRONTEND=noninteractive
install()
{
	# shellcheck disable=SC2086 # a list of words
	apt-get -qq install -y --no-install-recommends $missing >/dev/null
}
if [ -z "$lists" ]; then
	echo "noexit: fetching apt's package lists" >&2
	apt-get -qq update || echo "noexit: apt-get update failed; see above" >&2
fi
[ -n "$missing" ] || exit 0
echo "noexit: installing$missing" >&2
# Old lists name versions that the mirror no longer has: fetched anew, it is tried once more.
install || { apt-get -qq update && install; } ||
	echo "noexit: could not install$missing; what needs them will not work" >&2
