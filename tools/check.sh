#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# usage: check.sh BUILD; see check.py.
exec python3 "$(dirname "$0")/check.py" "$@"
