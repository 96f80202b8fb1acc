#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# What lab/shadow-paging runs in the host VM: a guest that goes through steps, each of them traced.
# Leaves in /out for each step STEP.trace, and the guest's console.
set -u
# STEPS, EVENTS, BUFFER_KIB, SECONDS_MOST
# shellcheck source=/dev/null
. /root/shadow/settings
tracing=/sys/kernel/debug/tracing

begin()
{
	echo >$tracing/trace
	echo 1 >$tracing/tracing_on
}

# end STEP: the guest waits meanwhile.
end()
{
	echo 0 >$tracing/tracing_on
	cat $tracing/trace >"/out/$1.trace"
}

for parameter in kvm_amd/parameters/npt kvm_intel/parameters/ept; do
	[ ! -e /sys/module/$parameter ] || echo "$parameter $(cat /sys/module/$parameter)"
done
echo 0 >$tracing/tracing_on
# With --icount it counts instructions.
echo x86-tsc >$tracing/trace_clock
echo "$BUFFER_KIB" >$tracing/buffer_size_kb
for event in $EVENTS; do echo 1 >"$tracing/events/$event/enable"; done
mkfifo /tmp/steps.in /tmp/steps.out
# Held open, so that nobody waits for the other to open them.
exec 5<>/tmp/steps.in 6<>/tmp/steps.out
begin
# QEMU's patches of a 32-bit guest's TPR accesses: lab/scenarios.py says why not.
timeout "$SECONDS_MOST" qemu-system-x86_64 -accel kvm -cpu host -no-user-config -net none -vga none -display none \
	-monitor none -no-reboot -m 256 -global kvm-apic.vapic=off \
	-kernel /root/shadow/vmlinuz -initrd /root/shadow/initrd -append "console=ttyS0 panic=-1 quiet" \
	-serial file:/out/console -chardev pipe,id=steps,path=/tmp/steps -serial chardev:steps </dev/null &
machine=$!
for step in $STEPS; do
	# The guest asks for the next step, by which this one is over.
	# shellcheck disable=SC3045 # the lab's shell knows -t
	if ! read -r -t "$SECONDS_MOST" _ <&6; then
		echo "failed: the guest stopped in step $step, $(tail -n 1 /out/console)"
		exit 1
	fi
	end "$step"
	echo "step $step is over"
	begin
	echo >&5
done
wait $machine
