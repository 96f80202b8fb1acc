#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# One measured boot, here or in the lab (so: nothing that busybox lacks).
# usage: demo-boot.sh linux|seabios OUT on|off NOEXIT KERNEL INITRD
# Leaves in OUT (a prefix): .console, .stats (by noexit), .messages (QEMU's and noexit's), .result.
set -u
what=$1 out=$2 noexit=$4 kernel=$5 initrd=$6
case $3 in
on) off= ;;
*) off=--off ;;
esac

uptime() { cut -d ' ' -f 1 /proc/uptime; }

# KVM's own count of returns to userspace, by a histogram on its tracepoint: independent of
# everything that noexit counts. Returns with an error (EINTR) are not exits.
trace=/sys/kernel/debug/tracing/events/kvm/kvm_userspace_exit
count_start()
{
	[ -w $trace/trigger ] || return
	echo '!hist:keys=reason,errno' >$trace/trigger
	echo 'hist:keys=reason,errno' >$trace/trigger
} 2>/dev/null
count_end()
{
	[ -r $trace/hist ] || return
	sed -n 's/^{ reason: *\([0-9]*\), errno: *0 } hitcount: *\([0-9]*\)$/kernel_exits_\1 \2/p' \
		$trace/hist
	echo '!hist:keys=reason,errno' >$trace/trigger
} 2>/dev/null

qemu()
{
	# shellcheck disable=SC2086 # $off is one word or none
	"$noexit" run $off --stats="$out.stats" --stats-interval=100 -- qemu-system-x86_64 -accel kvm -net none \
		-vga none -nographic -no-reboot "$@" 2>"$out.messages"
}

boot_linux()
{
	qemu -cpu host -m 256 -kernel "$kernel" -initrd "$initrd" \
		-append "console=ttyS0 panic=-1" </dev/null >"$out.console"
}

# Firmware never powers off by itself: it is told to when its last message has appeared.
boot_seabios()
{
	rm -f "$out.fifo" "$out.ended"
	mkfifo "$out.fifo"
	: >"$out.console"
	{
		qemu -m 64 -serial "file:$out.console" -monitor stdio <"$out.fifo" >/dev/null
		echo $? >"$out.ended"
	} &
	exec 9>"$out.fifo"
	polls=0
	while [ $polls -lt 600 ] && [ ! -e "$out.ended" ]; do
		grep -q "No bootable device\." "$out.console" && break
		polls=$((polls + 1))
		sleep 0.1
	done
	echo quit >&9
	exec 9>&-
	wait
	status=$(cat "$out.ended")
	rm -f "$out.fifo" "$out.ended"
	return "$status"
}

count_start
start=$(uptime)
"boot_$what"
status=$?
end=$(uptime)
{
	echo "status $status"
	echo "start $start"
	echo "end $end"
	count_end
} >"$out.result"
