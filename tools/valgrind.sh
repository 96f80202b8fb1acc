#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Runs a test under valgrind; whatever it finds is a failure. usage: valgrind.sh PROGRAM [ARGS...]
# Code is emitted through one mapping and run through another: only smc-check=all sees that. What
# runs guest code on the processor itself is left out, valgrind knows no ports and no segments.
set -eu
if ! command -v valgrind >/dev/null; then
	echo "skipped: valgrind is not installed; run 'make deps' as root"
	exit 77
fi
export NX_NO_NATIVE=1
exec valgrind -q --smc-check=all --error-exitcode=1 "$@"
