#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# What lab/execs runs in the host VM. Printed are, for ROW and COLUMN of the table:
#   round NUMBER
#   time ROUND COLUMN ROW CENTISECONDS
#   hits 0 COLUMN ROW { exit_reason: ... } hitcount: ...
#   failed: WHAT
set -u
# COLUMNS, ROUNDS, LIMITS, SECONDS_MOST
# shellcheck source=/dev/null
. /root/execs/settings
exits=/sys/kernel/debug/tracing/events/kvm/kvm_exit
histogram=hist:keys=exit_reason:size=512

# In $now, hundredths of a second; without a process, since those cost much here.
time_now() { read -r now _ </proc/uptime && now=${now%.*}${now#*.}; }

begin()
{
	[ "$round" != 0 ] || echo "$histogram" >$exits/trigger
	time_now
	began=$now
}

# end ROW: the guest waits meanwhile.
end()
{
	time_now
	if [ "$round" = 0 ]; then
		sed -n "s/^{ /hits 0 $column $1 { /p" $exits/hist
		echo "!$histogram" >$exits/trigger
	else
		echo "time $round $column $1 $((now - began))"
	fi
}

# guest COLUMN
guest()
{
	column=$1
	prefix=''
	switched=0
	[ "$column" = library ] && prefix="noexit run $LIMITS --"
	[ "$column" = module ] && switched=1
	echo $switched >/sys/module/noexit/parameters/all
	begin
	# shellcheck disable=SC2086 # words
	timeout "$SECONDS_MOST" $prefix qemu-system-x86_64 -accel kvm -cpu host -no-user-config -net none -vga none \
		-display none -monitor none -no-reboot -m 192 -kernel /guest/vmlinuz -initrd /root/execs/initrd \
		-append "console=ttyS0 panic=-1" -serial "file:/out/console-$column-$round" \
		-chardev pipe,id=steps,path=/root/steps -serial chardev:steps </dev/null >/root/words 2>&1 &
	seen=0
	# shellcheck disable=SC3045 # the lab's shell knows -t
	while [ $seen -lt 3 ] && read -r -t "$SECONDS_MOST" _ row <&6; do
		end "$row"
		seen=$((seen + 1))
		[ $seen -eq 3 ] || begin
		echo >&5
	done
	wait $! || sed "s/^/failed: the machine, $column: /" /root/words
	[ $seen -eq 3 ] || echo "failed: the guest stopped, $column: $(tail -n 1 "/out/console-$column-$round")"
}

# Behind a guest that ran 300 programs, each elsewhere, whoever gets its memory next waits for up to two minutes while the kernel
# clears pages, probably since the emulator goes through its translations of these pages at each store (docs/lab.md). So that this
# is none of the guests, all that is free is written to before.
scrub()
{
	mkdir -p /root/scrub
	mount -t tmpfs -o size=100% scrub /root/scrub
	free=$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)
	dd if=/dev/zero of=/root/scrub/zeros bs=1M count=$((free / 1024 - 64)) 2>/dev/null
	umount /root/scrub
}

# What the kernel has said at boot is about the emulated processor.
dmesg -c >/dev/null
insmod /root/noexit.ko latency_us=1000000 || echo "failed: the kernel refused noexit.ko"
mkfifo /root/steps.in /root/steps.out
exec 5<>/root/steps.in 6<>/root/steps.out
round=0 order=$COLUMNS
while [ $round -le "$ROUNDS" ]; do
	echo "round $round"
	# The next round is in reverse order.
	reversed=
	for column in $order; do
		scrub
		guest "$column"
		reversed="$column $reversed"
	done
	order=$reversed
	round=$((round + 1))
done
dmesg >/out/log
