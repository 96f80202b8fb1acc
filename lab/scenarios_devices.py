# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Rows of lab/guests about single devices and about what happens around a machine: screens, timers,
a debugger, and steps of noexit's own that fail."""

import re

import transcript
from image import LabError
from scenario import MODES, SHADOW_PAGING, Scenario, guest_lines, same_lines, same_transcript


# What tests/lab/windows.S tries: rows of `ways`, and callers of all_ways.
INTERRUPT_SOURCES = 3
WAYS_TO_LET_IN = 8


def program(name):
    """What is built below tests/lab, for /scenario."""
    def copy(images, directory):
        source = images.build / "tests/lab" / name
        if not source.exists():
            raise LabError(f"{source} is not built; run 'make'")
        (directory / name).write_bytes(source.read_bytes())
    return copy


SCREENS = """
cp /scenario/screens.bin $work/disk
truncate -s 1M $work/disk
start vm -m 32 -vga std -drive file=$work/disk,format=raw,if=ide
drawn() { [ "$(grep -ac 'guest: drawn' $out/vm.console)" -ge $turn ] || ended vm; }
for turn in 1 2 3; do
	until_true drawn
	hmp vm "screendump $work/screen$turn"
	settled vm
	fact $(head -c 15 $work/screen$turn | tr '\\n' ' ' | cut -d ' ' -f 2-3)
	digest $work/screen$turn
	hmp vm sendkey ret
done
finish vm
"""

# One machine for each place in which the interrupt controllers may be.
WINDOWS_DRIVE = """
for chips in kernel split; do
	[ $chips = kernel ] && irqchip=on || irqchip=split
	cp /scenario/windows.bin $work/disk
	truncate -s 1M $work/disk
	start $chips -m 32 -smp 2 -machine pc,kernel_irqchip=$irqchip \\
		-drive file=$work/disk,format=raw,if=ide,snapshot=on
	finish $chips
done
"""

# With one processor, and with another that may write the VMM's ring at any moment.
PLANES_DRIVE = """
for processors in 1 2; do
	cp /scenario/planes.bin $work/disk
	truncate -s 1M $work/disk
	start cpus$processors -m 32 -smp $processors -machine pc -vga std \\
		-drive file=$work/disk,format=raw,if=ide,snapshot=on
	finish cpus$processors
done
"""

LOOKED_AT_DRIVE = """
cp /scenario/looked_at.bin $work/disk
truncate -s 1M $work/disk
start vm -m 32 -machine pc -drive file=$work/disk,format=raw,if=ide
finish vm
"""

PIT_GUEST = """
clock_readings pit
sleep 0.5
say slept
flood 50
"""

# The addresses are those of tests/lab/debugged.S. A guest that is stopped gets no keys.
GDB_DRIVE = """
for kind in hard soft; do
	cp /scenario/debugged.bin $work/disk
	truncate -s 1M $work/disk
	start $kind -m 32 -vga none -gdb tcp:127.0.0.1:1234 -drive file=$work/disk,format=raw,if=ide
	await $kind 'guest: waiting'
	/noexit/tests/lab/gdb_client 1234 $kind 7c40 5 7ca0 120 >$work/hits 2>&1 &
	until_true grep -q 'attached\\|gdb_client' $work/hits
	debugged() { hmp $kind sendkey ret; grep -q 'hits\\|gdb_client' $work/hits; }
	until_true debugged
	finish $kind
	fact $kind breakpoints: $(cat $work/hits)
done
"""

# A flood lasts as long as the timer runs; the first of each kind is there for clusters to be made. Exits
# take so long in the lab that a shorter period would leave no time for the flood.
LATENESS_GUEST = """
by_program() { while :; do echo "flood: the quick brown fox jumps over the lazy dog"; done; }
by_kernel()
{
	while :; do echo "<1>flood: by the kernel, packed my box with five dozen jugs" >/dev/kmsg; done
}
# LABEL COUNT [FLOOD]
late()
{
	[ $# = 2 ] || { $3 & }
	timer $1 20000 $2 >/tmp/late
	[ $# = 2 ] || kill $!
	sleep 0.1
	cat /tmp/late
	stty -echo </dev/console
}
late idle 100
late first-flood 50 by_program
late flood 200 by_program
late first-kernel-flood 50 by_kernel
late kernel-flood 200 by_kernel
"""
# A boot sector, read by the firmware, that prints lines and switches off.
FAULTS_DRIVE = """
lines()
{
	cp /scenario/debugged.bin $work/disk
	truncate -s 1M $work/disk
	start $1 -m 32 -vga none -drive file=$work/disk,format=raw,if=ide
	await $1 'guest: waiting'
	hmp $1 sendkey ret
	finish $1
}
if [ $mode = off ]; then
	lines none
else
	for fault in %s; do
		options=--fault=$fault
		lines $fault
	done
fi
"""
ALL_FAULTS = "$(noexit run --fault=list | cut -d ' ' -f 1)"
# One of each kind: at a VM's first steps, at a vCPU's, in the engine, in the middle of a run.
FEW_FAULTS = "watch sync-regs executable verifier completion"
# Only those who watch notice this one.
STILL_AVOIDS = ("watch",)
# This one is met at the first stay in real mode, before which a firmware may have been in protected mode.
MAY_AVOID = ("segments",)


def lateness(run):
    """Percentiles by phase, in us."""
    found = re.findall(r"timer: (\S+): .*p50 (\d+) p90 (\d+) p99 (\d+) max (\d+)", run.console)
    return {phase: tuple(int(number) for number in numbers) for phase, *numbers in found}


def lateness_figures(run):
    """For `noexit bench`: the medians; what lies above them is the lab's machine more than noexit."""
    return {(f"lateness-{phase}", "a timer's median lateness, us"): numbers[0]
            for phase, numbers in lateness(run).items()}


def lateness_report(runs):
    """How late a timer of 20 ms was, and how long noexit stayed outside guest mode."""
    without, with_noexit = (lateness(runs[mode]) for mode in MODES)
    for phase in with_noexit:
        for name, one, other in zip(("p50", "p90", "p99", "max"), without.get(phase, ()),
                                    with_noexit[phase]):
            yield f"a timer of 20 ms is late, {phase}, {name}: {one} -> {other} us"
    for figures in runs["on"].machines.values():
        yield f"the longest stay outside guest mode: {figures['longest_stay_ns'] / 1000:.0f} us"
        yield f"stays by us (0, 1, 2, 4, ...): {figures['stays_by_us']}"


def same_console(runs):
    """Each of the boots with a fault says what the one without noexit does."""
    reference = runs["off"].console
    return [f"{name}: {line}" for name, console in runs["on"].consoles.items()
            for line in transcript.difference(reference, console)]


def one_line_each(run):
    """Each machine of a run with faults says once why nothing is avoided, and nothing is."""
    problems = []
    for name, figures in run.machines.items():
        if name == "none":
            continue
        lines = [line for line in run.messages[name].splitlines()
                 if line.startswith("noexit: ") and "exits taken" not in line]
        if len(lines) != 1:
            problems.append(f"{name}: one line should say why, there are {lines}")
        if name not in MAY_AVOID and (figures["exits_avoided"] > 0) != (name in STILL_AVOIDS):
            problems.append(f"{name}: {figures['exits_avoided']} exits avoided")
    return problems


def said_by_faults(runs):
    """What noexit says for each fault."""
    for name, messages in runs["on"].messages.items():
        yield f"{name}: " + " | ".join(line for line in messages.splitlines()
                                       if "exits taken" not in line)


def queued_as_by_kvm(runs):
    """What the guests said, and whether noexit wrote the ring where it may and nowhere else."""
    problems = same_lines(runs)
    queued = {name: figures["queued"] for name, figures in runs["on"].machines.items()}
    if not queued["cpus1"] or queued["cpus2"]:
        problems.append(f"writes that went into the ring: {queued}")
    return problems


def all_in_time(run):
    """Each way to let interrupts in was tried with each source of them, and each worked."""
    lines = guest_lines(run)
    problems = [line for line in lines if not line.endswith(": in time")]
    expected = len(run.consoles) * INTERRUPT_SOURCES * WAYS_TO_LET_IN
    if len(lines) != expected:
        problems.append(f"{len(lines)} lines, not {expected}")
    return problems


def faults(name, about, which, **more):
    """Boots with steps that fail, against one without noexit."""
    return Scenario(name, about, FAULTS_DRIVE % which, files=program("debugged.bin"),
                    judge=one_line_each, compare=same_console, report=said_by_faults,
                    expect=("^guest: waiting", "^guest: end"), avoids=False, **more)


DEVICES = (
    Scenario("vga-modes", "graphics modes of a VGA card, drawn by a boot sector", SCREENS,
             files=program("screens.bin"),
             expect=("^640 480", "^800 600", "^[0-9a-f]{32} screen3", "^guest: end"), check=True),
    Scenario("vga-planes", "a VGA card's memory worked on by a boot sector", PLANES_DRIVE,
             files=program("planes.bin"), compare=queued_as_by_kvm,
             expect=("^guest: sum [0-9A-F]{8}", "^guest: end"), check=True),
    Scenario("pit", "the PIT and the PIC in the VMM, as clock and as timer", """
%sboot vm -m 192 -machine pc,kernel_irqchip=split,hpet=off
finish vm
""" % SHADOW_PAGING, PIT_GUEST, kernel="686-pae", append="quiet nolapic noapic clocksource=pit",
             seconds=1800,
             expect=("^guest: pit 300 readings 0 b", "^guest: slept", "^guest: end")),
    Scenario("windows", "interrupts that a guest lets in for a moment only", WINDOWS_DRIVE,
             files=program("windows.bin"), judge=all_in_time, check=True,
             expect=("^guest: pit, sti and in: ", "^guest: ipi, task priority: ")),
    Scenario("looked-at", "exits at which QEMU looks at registers and code, or changes them",
             LOOKED_AT_DRIVE, files=program("looked_at.bin"),
             expect=("^guest: bytes ", "^guest: version ", "^guest: end"), check=True),
    Scenario("gdb", "breakpoints set by a debugger in what clusters run", GDB_DRIVE,
             files=program("debugged.bin"), compare=same_transcript, cpu="intel", seconds=1500,
             expect=tuple(f"^{kind} breakpoints: attached 5 times at the gate, text "
                          "guest: sphinx of black quartz, judge my vow k[.].*, 120 hits$"
                          for kind in ("hard", "soft")) + ("^guest: end",)),
    Scenario("lateness", "a periodic timer during console floods", "boot vm -m 160; finish vm",
             LATENESS_GUEST, append="quiet printk.devkmsg=on printk.time=0 preempt=full",
             expect=("^timer: kernel-flood: ", "^guest: end"), report=lateness_report,
             figures=lateness_figures),
    faults("faults", "each step of noexit's own that can fail, in a boot to power-off", ALL_FAULTS,
           seconds=1500),
    faults("faults-few", "a step of each kind that fails", FEW_FAULTS, check=True),
)
