# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A guest with 4 vCPUs under load, disturbed from outside and from inside: the scenario "load".

Inside run a console flood by a program and by the kernel in turns, an IDE disk written and read by
programmed I/O, forks, and what changes memory slots: the memory of a PCI device (ivshmem) enabled and
disabled while another processor reads it, and a shadow RAM area (PAM) of the chipset. Outside: signals
to every thread of the VMM, stops and continuations, registers and memory looked at, migrations begun
(dirty logging) and given up, and every so often one to a file and back.

The host VM has one processor, on which the vCPUs' threads take each other's place at any point. With two,
the emulator's host VM or its guest resets itself within minutes, with and without noexit.

There is nothing to compare with: each line has its number, each block its digest, and the count of
all is known to the guest.
"""

import hashlib
import re

from scenario import Scenario

VCPUS = 4
DISK_BYTES = 131072
LINES, KERNEL_LINES = 20, 10  # in each round

GUEST = """
wait_for /dev/sda
pci=/sys/bus/pci/devices/0000:00:10.0
chipset=/sys/bus/pci/devices/0000:00:00.0
wait_for $pci
bar=$(sed -n 3p $pci/resource | cut -d ' ' -f 1)
uptime() { read -r now _ </proc/uptime && now=${now%%.*}; }

# The second digest is of what was written a pass before.
disk_passes()
{
	pass=0
	while [ ! -e /tmp/stop ]; do
		seq $((pass * 100000)) $((pass * 100000 + 29999)) | head -c %(bytes)d >/tmp/block
		dd if=/tmp/block of=/dev/sda bs=4k seek=$((pass %% 16 * 32)) oflag=direct 2>/dev/null
		for which in $pass $((pass + 15)); do
			dd if=/dev/sda bs=4k skip=$((which %% 16 * 32)) count=32 iflag=direct \\
				2>/dev/null | md5sum | cut -d ' ' -f 1
		done | tr '\\n' ' ' >/tmp/digests
		echo "disk $pass $(cat /tmp/digests)" >>/tmp/disk
		pass=$((pass + 1))
	done
}

forks()
{
	begun=0 right=0
	while [ ! -e /tmp/stop ]; do
		digits=$(for digit in 1 2 3 4 5 6 7 8; do echo $digit & done | sort | tr -d '\\n')
		begun=$((begun + 1))
		[ "$digits" != 12345678 ] || right=$((right + 1))
	done
	echo "forks $right of $begun" >>/tmp/forks
}

decode() { printf "\\\\$1\\\\000" | dd of=$pci/config bs=2 seek=2 conv=notrunc 2>/dev/null; }
shadow() { printf "\\\\$1" | dd of=$chipset/config bs=1 seek=90 conv=notrunc 2>/dev/null; }

# What the device's memory holds is there again when it is enabled again.
slots()
{
	begun=0 right=0
	while [ ! -e /tmp/stop ]; do
		decode 002
		begun=$((begun + 1))
		devmem $bar 32 $begun
		decode 000
		shadow 021
		gone=$(devmem $bar 32)
		shadow 063
		decode 002
		kept=$(devmem $bar 32)
		[ $((gone)) != 0 ] || [ $((kept)) != $begun ] || right=$((right + 1))
		usleep 50000
	done
	echo "slots $right of $begun" >/tmp/slots
}

look_at_slots()
{
	while [ ! -e /tmp/stop ]; do
		devmem $bar 32 >/dev/null
		usleep 10000
	done
}

disk_passes &
forks &
slots &
look_at_slots &
uptime
until=$((now + %(seconds)d)) round=0
while [ $now -lt $until ]; do
	line=0
	while [ $line -lt %(lines)d ]; do
		say $((round * %(lines)d + line)) the quick brown fox jumps over the lazy dog
		line=$((line + 1))
	done
	stty -echo </dev/console
	line=0
	while [ $line -lt %(kernel_lines)d ]; do
		echo "<1>guest: $((round * %(kernel_lines)d + line)) by the kernel, five dozen jugs" >/dev/kmsg
		line=$((line + 1))
	done
	round=$((round + 1))
	uptime
done
say $round rounds
touch /tmp/stop
wait
sed 's/^/guest: /' /tmp/disk
say $(cat /tmp/forks)
say $(cat /tmp/slots)
"""

DRIVE = """
limit=240
devices()
{
	echo -m 160 -smp %(vcpus)d -pidfile "$work/pid" -drive "file=$work/disk,format=raw,if=ide" \\
		-object memory-backend-ram,id=shared,size=1M \\
		-device ivshmem-plain,memdev=shared,master=on,addr=0x10
}

# Signals to every thread of the machine's, from now on until it ends.
kick()
{
	/noexit/tests/lab/kick "$(cat "$work/pid")" "$1" >>"$work/kicks" &
}

moved() { [ "$(size "$machine")" -gt "$from" ] || ended "$machine"; }

grown()
{
	from=$(size "$machine")
	until_true moved
}

storm()
{
	turn=0
	while [ $turn -lt 8 ]; do
		hmp $machine stop
		usleep 30000
		hmp $machine cont
		usleep 200000
		turn=$((turn + 1))
	done
	stops=$((stops + turn))
}

look()
{
	hmp $machine info registers -a
	hmp $machine x /16xb 0xffffffff81000000
	hmp $machine xp /16xb 0xa0000
	hmp $machine info mtree
	settled $machine
}

status()
{
	asked $machine "info migrate" "Migration status"
	grep -a "Migration status" "$out/$machine.monitor" | tail -n 1
}

over()
{
	case $(status) in
	*completed*|*cancelled*|*failed*) true ;;
	*) ended $machine ;;
	esac
}

give_up()
{
	hmp $machine migrate_set_parameter max-bandwidth 1M
	hmp $machine "migrate -d \\"exec:cat >/dev/null\\""
	sleep 1
	hmp $machine migrate_cancel
	until_true over
	hmp $machine cont
	logged=$((logged + 1))
}

# Live, but if it is not done after a while the guest has to wait for it.
move()
{
	hmp $machine migrate_set_parameter max-bandwidth 1G
	hmp $machine "migrate -d \\"exec:cat >$work/state\\""
	tries=0
	while ! over; do
		tries=$((tries + 1))
		[ $tries != 20 ] || hmp $machine stop
		[ $tries -lt 200 ] || break
	done
	! ended $machine || return
	case $(status) in
	*completed*) ;;
	*) fact "a migration that does not end: $(status)" ;;
	esac
	hmp $machine quit
	finish $machine
	moves=$((moves + 1))
	machine=$(printf m%%03d $moves)
	boot $machine $(devices) -incoming "exec:cat $work/state"
	settled $machine
	hmp $machine cont
	grown
}

truncate -s 8M $work/disk
moves=0 stops=0 logged=0 machine=m000
boot $machine $(devices)
await $machine 'guest: 5 '
while ! ended $machine; do
	kick $((%(interval)d * 2))
	seconds
	deadline=$((now + %(interval)d))
	while ! ended $machine && [ $now -lt $deadline ]; do
		storm
		look
		give_up
		grown
		seconds
	done
	if grep -aq 'guest: [0-9]* rounds' $out/*.console; then
		finish $machine
	else
		move
	fi
done
wait
fact $stops stops, $logged migrations begun, $moves done, \\
	$(awk '{ kicks += $1 } END { print kicks }' "$work/kicks") signals
"""


def digest_of(number):
    """What the guest must have read back of its pass of that number."""
    if number < 0:
        return hashlib.md5(bytes(DISK_BYTES)).hexdigest()
    text = "".join(f"{i}\n" for i in range(number * 100000, number * 100000 + 30000))
    return hashlib.md5(text[:DISK_BYTES].encode()).hexdigest()


def is_sequence(lines, expected):
    """The first difference of what must be equal, as one line."""
    for number, (line, wanted) in enumerate(zip(lines, expected)):
        if line != wanted:
            return [f"line {number} is {line!r}, not {wanted!r}"]
    return [] if len(lines) == len(expected) else [f"{len(lines)} lines, not {len(expected)}"]


def flood(rounds):
    """The lines of that many rounds."""
    lines = []
    for number in range(rounds):
        lines += [f"guest: {number * LINES + i} the quick brown fox jumps over the lazy dog"
                  for i in range(LINES)]
        lines += [f"guest: {number * KERNEL_LINES + i} by the kernel, five dozen jugs"
                  for i in range(KERNEL_LINES)]
    return lines


def judge(run):
    """What was lost, doubled or changed."""
    text = run.console.replace("\r", "")
    # What the kernel says by itself may stand in the middle of a program's line.
    text = re.sub(r"\[ *\d+\.\d{6}\] (?!guest: )[^\n]*\n", "", text)
    text = re.sub(r"(?m)^\[ *\d+\.\d{6}\] ", "", text)
    found = re.search(r"^guest: 0 the.*?(?=^guest: (\d+) rounds$)", text, re.M | re.S)
    if not found:
        return ["the flood has no end"]
    problems = is_sequence(found[0].splitlines(), flood(int(found[1])))
    disk = re.findall(r"^guest: (disk .*?) *$", text, re.M)
    wanted = [f"disk {number} {digest_of(number)} {digest_of(number - 1)}"
              for number in range(len(disk))]
    problems += is_sequence(disk, wanted) if disk else ["the disk was never read"]
    for what in ("forks", "slots"):
        counts = re.findall(rf"^guest: {what} (\d+) of (\d+)$", text, re.M)
        if len(counts) != 1 or counts[0][0] != counts[0][1] or counts[0][0] == "0":
            problems.append(f"{what}: {counts}")
    moves = re.search(r"(\d+) stops, (\d+) migrations begun, (\d+) done, (\d+) signals", run.facts)
    if not moves or "0" in moves.groups():
        problems.append(f"it was not disturbed: {run.facts!r}")
    return problems


def load(minutes):
    """For so many minutes of the guest's time."""
    seconds = int(minutes * 60)
    return Scenario(
        "load", f"4 vCPUs under load and disturbed, for {minutes:g} minutes of the guest's",
        DRIVE % {"vcpus": VCPUS, "interval": min(60, max(15, seconds // 4))},
        GUEST % {"bytes": DISK_BYTES, "seconds": seconds, "lines": LINES,
                 "kernel_lines": KERNEL_LINES},
        modules=("ata_piix", "sd_mod"), append="quiet libata.dma=0 printk.devkmsg=on",
        modes=("on",), judge=judge, expect=("^guest: end",), mem=1536,
        seconds=1200 + 6 * seconds)
