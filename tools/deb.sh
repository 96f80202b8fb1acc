#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Builds the Debian packages of the files that git knows here, for the release that this machine runs.
# usage: deb.sh BUILD
#   DEB_BUILD_OPTIONS: for dpkg-buildpackage; nocheck: the tests are neither built nor run
# The source package and the packages are in BUILD/deb; the paths of the latter are printed.
# Exit status: 77 if a tool or the network is missing, which a line on the standard error tells.
set -eu
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
work=$build/deb

skip()
{
	echo "deb: $1" >&2
	exit 77
}

[ -e "$root/.git" ] || skip "this is no checkout of git's"
for tool in git dpkg-buildpackage dh dh_dkms; do
	command -v $tool >/dev/null || skip "$tool is not installed; run 'make deps' as root"
done
version=$(sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' "$root/debian/changelog")
rm -rf "$work"
mkdir -p "$work"
tree=$work/noexit-$version

# The parts of the source package: the project, zydis' source, and debian/.
state=$(git -C "$root" -c user.name=deb -c user.email=deb@localhost stash create)
git -C "$root" archive --prefix="noexit-$version/" "${state:-HEAD}" | tar -x -C "$work"
python3 "$root/kernel/build_module.py" "$build" --fetch-zydis "$work/zydis" ||
	skip "zydis' source, which the kernel module needs, cannot be fetched"
pack()
{
	target=$1
	shift
	tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$date" -czf \
		"$work/noexit_$version.$target.tar.gz" "$@"
}
date=$(git -C "$root" log -1 --format=%ct)
pack orig --exclude="noexit-$version/debian" "noexit-$version"
pack orig-zydis zydis
mv "$work/zydis" "$tree/zydis"

cd "$tree"
dpkg-buildpackage -us -uc >"$work/log" 2>&1 || {
	tail -n 30 "$work/log" >&2
	exit 1
}
ls "$work"/*.deb
