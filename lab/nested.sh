#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# What lab/nested runs at each level.
# usage: nested.sh level0 QEMU ARGUMENT...: starts level 1 and does what its lines ask that begin with ASK
#        nested.sh level1: measures level 2
# Printed are, for ROW and COLUMN of the table:
#   round NUMBER
#   time ROUND COLUMN ROW CENTISECONDS
#   program ROUND COLUMN ROW: what tests/kernel/host/vmm says
#   hits LEVEL COLUMN ROW { exit_reason: ... } hitcount: ...
#   failed WHAT
set -u
# ROWS, COLUMNS, ROUNDS, TURNS, INNER_ARGS, OUTER_ARGS, LIMITS, SECONDS_MOST
# shellcheck source=/dev/null
. /root/nested/settings
exits=/sys/kernel/debug/tracing/events/kvm/kvm_exit
histogram=hist:keys=exit_reason:size=512

# ---- Both levels: the hardware's exits of this level's guests, by reason ----

count_nothing() { echo "!$histogram" 2>/dev/null >$exits/trigger; }

count_anew()
{
	count_nothing
	echo "$histogram" >$exits/trigger
}

# show_counted LEVEL COLUMN ROW
show_counted() { sed -n "s/^{ /hits $1 $2 $3 { /p" $exits/hist; }

# load_module PARAMETER...; what the kernel has said at boot is about the emulated processor.
load_module()
{
	dmesg -c >/dev/null
	insmod /root/noexit.ko latency_us=1000000 "$@" || echo "failed: a kernel refused noexit.ko"
}

# ---- Level 0 ----

answer() { echo answered >/tmp/answers; }

# switch on|off: the module for level 1's machine.
switch()
{
	[ "$switched" = "$1" ] && return
	noexit "$1" "$(pidof qemu-system-x86_64)" >&2 || echo "failed: noexit $1 in level 0"
	switched=$1
}

level0()
{
	switched=off
	# shellcheck disable=SC2086 # words
	load_module $OUTER_ARGS
	mkfifo /tmp/answers
	# Held open, so that level 1's machine can be started before there is an answer.
	exec 4<>/tmp/answers
	"$@" </tmp/answers | while IFS= read -r line; do
		# shellcheck disable=SC2086 # words
		case $line in
		"ASK switch "*) switch ${line#ASK switch } ;;
		"ASK count") count_anew ;;
		"ASK keep "*)
			[ $switched = off ] || noexit stat --json --pid "$(pidof qemu-system-x86_64)" >"/out/stat-0-${line#ASK keep }"
			;;
		"ASK show "*)
			show_counted 0 ${line#ASK show }
			count_nothing
			;;
		*)
			printf '%s\n' "$line"
			continue
			;;
		esac
		answer
	done
	dmesg >/out/log-0
}

# ---- Level 1 ----

# The answer comes by the terminal that our output goes to.
ask()
{
	echo "ASK $*"
	read -r _ <&1
}

# In $now, hundredths of a second; without a process, since those cost much here.
time_now() { read -r now _ </proc/uptime && now=${now%.*}${now#*.}; }

# Exits are counted in round 0, which is not timed, and which there is once for each level: what counts at level 1
# runs at each exit of level 2, between two exits at level 0, and the module there may not get past it.
begin()
{
	case $round$counted in
	00) ask count ;;
	01) count_anew ;;
	esac
	time_now
	began=$now
}

# end ROW
end()
{
	time_now
	case $round$counted in
	00) ask show "$column" "$1" ;;
	01)
		show_counted 1 "$column" "$1"
		count_nothing
		return
		;;
	*) echo "time $round $column $1 $((now - began))" ;;
	esac
	ask keep "$1-$round-$column"
	case $column in
	inner | both)
		[ ! -e /tmp/pid ] || noexit stat --json --pid "$(cat /tmp/pid)" >"/out/stat-1-$1-$round-$column" 2>/dev/null
		;;
	esac
}

# enter COLUMN: what is switched on from now on.
enter()
{
	column=$1
	prefix=''
	suffix=''
	case $column in
	outer | both) ask switch on ;;
	*) ask switch off ;;
	esac
	case $column in
	inner | both) echo 1 ;;
	*) echo 0 ;;
	esac >/sys/module/noexit/parameters/all
	if [ "$column" = run ]; then
		prefix="noexit run $LIMITS --" suffix=_preloadable
	fi
}

# program ROW NAME
program()
{
	begin
	# shellcheck disable=SC2086 # words
	timeout "$SECONDS_MOST" $prefix /noexit/tests/kernel/host/vmm$suffix "$2" 64 "$TURNS" \
		>/tmp/program 2>/tmp/words || cat /tmp/program /tmp/words | sed "s/^/failed: $1, $column: /"
	end "$1"
	sed "s/^/program $round $column $1: /" /tmp/program
}

# start NAME ARGUMENT...: a machine in the background, its console in a file.
start()
{
	name=$1
	shift
	# shellcheck disable=SC2086 # words
	timeout "$SECONDS_MOST" $prefix qemu-system-x86_64 -accel kvm -cpu host -no-user-config -net none -vga none \
		-display none -monitor none -no-reboot -kernel /guest/vmlinuz -pidfile /tmp/pid \
		-serial "file:/out/$name-$round-$column" "$@" </dev/null >/tmp/words 2>&1 &
}

# Waits for that machine's end.
finish() { wait $! || sed "s/^/failed: a machine, $column: /" /tmp/words; }

# Nanoseconds that the machine's VMM has run.
ran() { awk '{ sum += $1 } END { printf "%.0f\n", sum }' "/proc/$(cat /tmp/pid)/task/"*/schedstat; }

# The guest says "ready ROW" and waits for a line, does it, and says "done ROW"; at last "end", and waits.
steps()
{
	# shellcheck disable=SC3045 # the lab's shell knows -t
	while read -r -t "$SECONDS_MOST" word row <&6; do
		case $word in
		ready)
			[ "$row" = boot ] && end boot
			[ "$row" = idle ] && before=$(ran)
			[ "$row" = boot ] || begin
			echo >&5
			;;
		done)
			end "$row"
			[ "$row" = idle ] && [ "$round" != 0 ] &&
				echo "ran $round $column idle $(($(ran) - before))"
			;;
		end)
			echo >&5
			return
			;;
		esac
	done
	echo "failed: the guest stopped, $column, $(tail -n 1 "/out/guest-$round-$column")"
}

guest()
{
	begin
	start guest -m 192 -initrd /root/nested/initrd -append "console=ttyS0 panic=-1 libata.dma=0 steps=$1" \
		-chardev pipe,id=steps,path=/tmp/steps -serial chardev:steps \
		-drive if=ide,driver=null-co,read-zeroes=on,size=16M
	steps
	finish
}

long()
{
	begin
	start long -m 256 -initrd /guest/initrd -append "console=ttyS0 panic=-1"
	finish
	end long
}

# Level 1 itself, while there is no level 2.
alone()
{
	begin
	programs=0
	while [ $programs -lt 100 ]; do
		/usr/bin/true
		programs=$((programs + 1))
	done
	end level1
}

# each COMMAND...: in each column.
each() { for column in $order; do enter "$column" && "$@"; done; }

# The next round is in reverse order.
go_round()
{
	echo "round $round"
	inside=
	for row in $ROWS; do
		case $row in
		cpuid) each program "$row" cpuid4 ;;
		msr) each program "$row" msr ;;
		port-kernel) each program "$row" port_kernel ;;
		port-vmm) each program "$row" port_vmm ;;
		level1) [ "$round$counted" = 01 ] || each alone ;;
		long) ;;
		*) inside=$inside,$row ;;
		esac
	done
	[ -z "$inside" ] || each guest "${inside#,}"
	case " $ROWS " in *" long "*) each long ;; esac
	reversed=
	for column in $order; do reversed="$column $reversed"; done
	order=$reversed
}

level1()
{
	# shellcheck disable=SC2086 # words
	load_module $INNER_ARGS
	mkfifo /tmp/steps.in /tmp/steps.out
	exec 5<>/tmp/steps.in 6<>/tmp/steps.out
	round=0 order=$COLUMNS
	for counted in 0 1; do go_round; done
	while [ $round -lt "$ROUNDS" ]; do
		round=$((round + 1))
		go_round
	done
	dmesg >/out/log-1
}

place=$1
shift
case $place in
level0) level0 "$@" ;;
level1) level1 ;;
esac
