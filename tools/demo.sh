#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# usage: demo.sh BUILD [--runs N] [--keep DIR]; see demo.py.
exec python3 "$(dirname "$0")/demo.py" "$@"
