#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# The engine built with the kernel's flags may need nothing but Zydis and the four memory functions
# that every freestanding environment has, and its sources may include nothing of libc or Linux.
# Usage: freestanding.sh LIBRARY CC INCLUDE SOURCE...
set -eu
library=$1
cc=$2
include=$3
shift 3
status=0

defined=$(nm --defined-only "$library" | awk 'NF == 3 { print $3 }' | sort -u)
for symbol in $(nm -u "$library" | awk '$1 == "U" { print $2 }' | sort -u); do
	case $symbol in
	Zydis* | memcpy | memset | memcmp | memmove) continue ;;
	esac
	echo "$defined" | grep -qx "$symbol" || {
		echo "undefined in the freestanding engine: $symbol"
		status=1
	}
done

# Mutable globals: nothing in .data or .bss.
if nm "$library" | grep -E ' [bBdDC] '; then
	echo "the engine has mutable globals (above)"
	status=1
fi

for source; do
	for header in $($cc -M -ffreestanding -DZYAN_NO_LIBC -I "$include" "$source" | tr ' \\' '\n\n' | grep '^/usr/include/'); do
		case $header in
		/usr/include/Zydis/* | /usr/include/Zycore/*) ;;
		# clang names it for merely having looked whether it is there.
		/usr/include/stdint.h) ;;
		*)
			echo "$source includes $header"
			status=1
			;;
		esac
	done
done
exit $status
