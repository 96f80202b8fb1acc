#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Configures the build directory once; ninja reconfigures it by itself when meson.build changes.
set -eu
[ -f "$1/build.ninja" ] || meson setup "$1" "$(dirname "$0")/.." >/dev/null || {
	echo "noexit: meson setup failed; see $1/meson-logs/meson-log.txt" >&2
	exit 1
}
