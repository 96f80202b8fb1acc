#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Runs the kernel's KVM selftests in the lab's host VM: all of them without noexit, and then all with it.
# usage: selftests.sh run|module SECONDS: by `noexit run` or beside noexit.ko; the longest for each test
# /selftests/names has their names; one that is there twice runs twice.
# Leaves in /out/off and /out/on, for each NAME on line NUMBER: NAME.NUMBER.log; .status ("STATUS BEGIN END");
# .kernel, what the kernel said; with noexit .stats, or the module's counters, .before and .after.
set -u
how=$1
limit=$2
totals=/sys/kernel/debug/noexit/totals
mkdir -p /tmp/selftests /out/off /out/on
cd /tmp/selftests || exit 1

# pass PLACE [WORD...]: each test, started by these words.
pass()
{
	place=$1
	shift
	number=0
	while read -r name; do
		number=$((number + 1))
		file=/out/$place/$name.$number
		[ ! -e $totals ] || cat $totals >"$file.before"
		dmesg -c >/dev/null
		read -r begin _ </proc/uptime
		NOEXIT_STATS=$file.stats timeout -s KILL "$limit" "$@" "/selftests/bin/$name" \
			</dev/null >"$file.log" 2>&1
		status=$?
		read -r end _ </proc/uptime
		dmesg >"$file.kernel"
		[ ! -e $totals ] || cat $totals >"$file.after"
		echo "$status $begin $end" >"$file.status"
		echo "$place: $name: $status"
	done </selftests/names
}

pass off
case $how in
run) pass on noexit run --limits=unweighed -- ;;
module)
	insmod /selftests/noexit.ko all=1 || exit 1
	pass on
	rmmod noexit || exit 1
	;;
esac
