# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Compares what two boots printed on the console.

Two boots of the same kernel without noexit already differ: in times and figures derived from them,
in random kernel addresses, and in where lines appear that a second kernel thread prints. Each of
these differences is named here; whatever is not named must be equal, line by line.
"""

import difflib
import re

# Figures that differ between any two boots.
MASKS = [(re.compile(pattern), replacement) for pattern, replacement in (
    # Terminal control sequences of SeaBIOS's serial console.
    (r"\x1b(c|\[[?0-9;]*[A-Za-z])", ""),
    # That console sends from a timer interrupt: what is unsent when the kernel starts is lost.
    (r"(?m)^(Probing EDD \(edd=off to disable\)\.\.\.).*?(\[ *\d+\.\d+\])", r"\1 ok\n\2"),
    # Printed only when something took long on this occasion, maybe in the middle of a line that a
    # program prints; whole, so that nothing else in that place is overlooked.
    (r"\[ *\d+\.\d{6}\] (pci \S+ \S+ took \d+ usecs|perf: interrupt took too long[^\n]*|"
     r"PM-Timer had inconsistent results[^\n]*|"
     r"hrtimer: interrupt took [^\n]*|hpet: Lost \d+ RTC interrupts|"
     # The watchdog of a machine that is too busy to keep its clocks together.
     r"clocksource: timekeeping watchdog on CPU\d+: Marking clocksource 'tsc' as unstable[^\n]*|"
     r"clocksource: +'(kvm-clock|tsc|hpet|acpi_pm)' [^\n]*|TSC found unstable after boot[^\n]*|"
     r"tsc: Marking TSC unstable due to clocksource watchdog|sched_clock: Marking unstable [^\n]*|"
     r"clocksource: (timekeeping watchdog on CPU\d+: \S+ )?\S+ read-back delay of [^\n]*|"
     r"clocksource: Long readout interval, skipping watchdog check[^\n]*)\n", ""),
    (r"kvm \[\d+\]: (vcpu\d+), guest rIP: 0x[0-9a-f]+ ", r"kvm [N]: \1, guest rIP: N "),
    (r"(node \d+ deferred pages initialised) in \d+ms", r"\1"),
    # What the stack walk of a kernel warning marks as guesses.
    (r"(?m)^\[ *\d+\.\d+\]  \? \S+\n", ""),
    (r"(?m)^\[ *\d+\.\d+\] ", ""),
    (r"using sched offset of \d+ cycles", "using sched offset of N cycles"),
    (r"Marking stable \(.*\)->\(.*\)", "Marking stable (N)->(N)"),
    # A page more or less, without noexit too: the kernel's address is random.
    (r"Memory: \d+K/(\d+K available .*, )\d+K reserved", r"Memory: NK/\1NK reserved"),
    (r"audit\(\d+\.\d+:", "audit(TIME:"),
    (r"setting system clock to \S+ UTC \(\d+\)", "setting system clock to TIME"),
    (r"\d+\.\d+ MHz (TSC|processor)", r"N MHz \1"),
    (r"calibration: \d+\.\d+ MHz", "calibration: N MHz"),
    (r"(clocksource: tsc\S*: mask: \S+) max_cycles: \S+ max_idle_ns: \d+ ns",
     r"\1 max_cycles: N, max_idle_ns: N ns"),
    # 32-bit kernels measure the ACPI timer against the PIT, and a busy machine makes them refuse it.
    (r"(PM-Timer running at invalid rate: \d+% of normal - aborting\.|"
     r"clocksource: acpi_pm: mask: [^\r\n]*)", "PM-Timer taken or refused"),
    (r"[\d.]+ BogoMIPS \(lpj=\d+\)", "N BogoMIPS (lpj=N)"),
    (r"Total of (\d+) processors activated \([\d.]+ BogoMIPS\)",
     r"Total of \1 processors activated (N BogoMIPS)"),
    # A number is given at each attempt. The keyboard driver may be there before the mouse port is:
    # then it tries that one first, and the keyboard is number 1; so too without noexit.
    (r"/input/input\d+", "/input/inputN"),
    # Registers and code bytes in a kernel warning: the kernel is loaded at a random address.
    (r"(?m)^((?:RSP|RAX|RDX|RBP|R10|R13|FS|CS|CR2|Code|Call Trace):).*", r"\1 N"),
)]

# Printed by other kernel threads than the lines around them: anywhere is their right place.
CONCURRENT = re.compile(
    r"^(Freeing initrd memory:|clocksource: (tsc|Switched)|tsc: Refined|input: |rtc_cmos |"
    r"random: crng init|audit: type=2000|Trying to unpack rootfs|serio: |"
    # Each port of an IDE controller is probed by a thread of its own.
    r"ata\d+(\.\d+)?: )")


def normalize(text):
    """The lines in their order, and the sorted lines for which order means nothing."""
    text = text.replace("\r", "")
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    lines = [line.rstrip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    return ([line for line in lines if not CONCURRENT.match(line)],
            sorted(line for line in lines if CONCURRENT.match(line)))


def difference(without, with_noexit):
    """What differs, as lines of a unified diff; empty when the transcripts agree."""
    result = []
    for one, other in zip(normalize(without), normalize(with_noexit)):
        result += unified(one, other)
    return result


def unified(without, with_noexit):
    """Two lists of lines as a unified diff."""
    return list(difflib.unified_diff(without, with_noexit, "without noexit", "with noexit",
                                     lineterm="", n=1))
