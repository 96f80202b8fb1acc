#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Runs one scenario in the lab's host VM, once: what is sourced below uses these functions.
# usage: drive.sh on|off [SECONDS [PLACE]]: the longest that anything is waited for; PLACE: on or off
# Leaves in /out/PLACE, for each machine NAME: NAME.console, NAME.stats (by noexit),
# NAME.messages (QEMU's and noexit's), NAME.status; and what the scenario itself found out, in "facts".
set -u
mode=$1
place=${3:-$mode}
out=/out/$place
work=/tmp/$place
append= # to the kernel command line
limits=${LIMITS:+--limits=$LIMITS}
options= # of noexit, for machines that are started from now on
mkdir -p "$out" "$work"
export TMPDIR="$work"
limit=${2:-100}

# In $now; without a process, since those cost much here.
seconds() { read -r now _ </proc/uptime && now=${now%.*}; }

# start NAME ARGUMENT...: a machine in the background, with a console and a monitor.
start()
{
	name=$1
	shift
	seconds
	echo "$place: $name started at $now s"
	mkfifo "$work/$name.in" "$work/$name.out"
	# Held open, so that what is said to the monitor early waits for it. Nothing is waited for here.
	exec 3<>"$work/$name.in"
	: >"$out/$name.console"
	cat "$work/$name.out" >"$out/$name.monitor" &
	launch "$@" &
}

launch()
{
	off=--off
	[ "$mode" = off ] || off=
	status=0
	# shellcheck disable=SC2086 # words
	noexit run $off $limits $options --stats="$out/$name.stats" -- qemu-system-x86_64 -accel kvm -cpu host \
		-no-user-config -pidfile "$work/$name.pid" -display none -net none -vga none \
		-chardev "file,id=console,path=$out/$name.console" -serial chardev:console \
		-chardev "pipe,id=monitor,path=$work/$name" -mon monitor "$@" \
		</dev/null >"$out/$name.messages" 2>&1 || status=$?
	echo $status >"$work/$name.ended"
	mv "$work/$name.ended" "$out/$name.status"
}

# boot NAME ARGUMENT...: a machine with the scenario's kernel.
boot()
{
	name=$1
	shift
	start "$name" -no-reboot -kernel /scenario/vmlinuz -initrd /scenario/initrd \
		-append "console=ttyS0 panic=-1 $append" "$@"
}

ended() { [ -e "$out/$1.status" ]; }

# hmp NAME COMMAND...: a command for the machine's monitor.
hmp()
{
	name=$1
	shift
	# For reading too: nobody else may read any more, if the machine ended this moment.
	ended "$name" || echo "$*" 1<>"$work/$name.in"
}

# until_true COMMAND...: waits until the command succeeds; says so if it never does.
until_true()
{
	seconds
	begun=$now
	while ! "$@"; do
		seconds
		if [ $((now - begun)) -gt "$limit" ]; then
			fact "never true: $*"
			# For whoever looks at a lab that came to nothing.
			echo "$place: after $limit s never true: $*"
			tail -n 3 "$out"/*.console
			return 1
		fi
		sleep 0.3
	done
}

printed() { grep -aq "$2" "$out/$1.console" 2>/dev/null; }

# await NAME PATTERN: until the console shows it, or the machine ends.
await()
{
	shown_or_ended() { printed "$1" "$2" || ended "$1"; }
	until_true shown_or_ended "$1" "$2"
}

answers() { grep -a -c "$2" "$out/$1.monitor"; }

# asked NAME COMMAND PATTERN: a command, and its answer waited for.
asked()
{
	before=$(answers "$1" "$3")
	hmp "$1" "$2"
	answered() { ended "$1" || [ "$(answers "$1" "$2")" -gt "$before" ]; }
	until_true answered "$1" "$3"
}

# finish NAME...: until the machines have ended, by force when it takes too long.
finish()
{
	for name; do
		until_true ended "$name" || hmp "$name" quit
		until_true ended "$name"
		seconds
		echo "$place: $name ended by $now s"
	done
}

# counted NAME LABEL: the machine's counters at this moment, for NAME.LABEL.counts.
counted()
{
	ended "$1" || noexit stat -p "$(cat "$work/$1.pid")" --json >"$out/$1.$2.counts"
}

# fact WORD...: a line that must be the same without noexit and with it.
fact() { echo "$*" >>"$out/facts"; }

digest() { fact "$(md5sum <"$1" | cut -d ' ' -f 1)" "$(basename "$1")"; }

# settled NAME: until the machine has done all that its monitor was told.
settled() { asked "$1" "info status" "VM status"; }

# cut_out NAME FROM TO: drops these bytes of the console: what a loaded snapshot took back. They must
# come again.
cut_out()
{
	console=$out/$1.console
	tail -c +$(($2 + 1)) "$console" | head -c $(($3 - $2)) >"$work/dropped"
	tail -c +$(($3 + 1)) "$console" >"$work/rest"
	head -c $(($3 - $2)) "$work/rest" | cmp -s "$work/dropped" - ||
		fact "what followed the snapshot came differently the second time"
	head -c "$2" "$console" | cat - "$work/rest" >"$work/joined"
	mv "$work/joined" "$console"
}

# size NAME: bytes that the console has got so far.
size() { stat -c %s "$out/$1.console"; }

cut -d ' ' -f 1 /proc/uptime >"$out/start"
# shellcheck source=/dev/null
. /scenario/drive
cut -d ' ' -f 1 /proc/uptime >"$out/end"
