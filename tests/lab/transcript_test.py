# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The comparison of console transcripts: blind to what differs anyway, and to nothing else."""

import unittest

from lab_testing import main

import transcript

BOOT = """\x1bc\x1b[?7l\x1b[2JSeaBIOS (version 1.16.2)\r
Booting from ROM...\r
Probing EDD (edd=off to disable)... o\x1bc\x1b[?7l[    0.000000] Linux version 6.1\r
[    0.000000] tsc: Detected 2596.086 MHz processor\r
[    0.001000] kvm-clock: using sched offset of 1071062297 cycles\r
[    0.002000] Calibrating delay loop (skipped) preset value.. 5192.17 BogoMIPS (lpj=10384344)\r
[    0.003000] audit: type=2000 audit(1795353419.581:1): state=initialized\r
[    1.000000] Freeing initrd memory: 1940K\r
[    1.001000] Initialise system trusted keyrings\r
[    1.002000] RSP: 0000:ffffffffa6403e70 EFLAGS: 00010282\r
guest: 300 processes forked and reaped\r
[    2.000000] reboot: Power down\r
"""


class TranscriptTest(unittest.TestCase):
    def agree(self, other):
        return transcript.difference(BOOT, other) == []

    def test_times_and_derived_figures(self):
        other = (BOOT.replace("[    0.", "[   12.").replace("2596.086", "2601.5")
                 .replace("1071062297", "7").replace("5192.17", "5203.00")
                 .replace("lpj=10384344", "lpj=1").replace("1795353419.581", "1795353440.6")
                 .replace("ffffffffa6403e70", "ffffffff8c803e70"))
        self.assertTrue(self.agree(other))

    def test_a_page_more(self):
        line = ("[    0.400000] Memory: %dK/261624K available (14343K kernel code, 2612K init, "
                "%dK reserved, 0K cma-reserved)\r\n")
        self.assertEqual(transcript.difference(BOOT + line % (211128, 50292),
                                               BOOT + line % (211124, 50296)), [])
        self.assertNotEqual(transcript.difference(
            BOOT + line % (211128, 50292), BOOT + line.replace("14343", "14344") % (211128, 50292)), [])

    def test_busy_clocks(self):
        watchdog = "".join(f"[   46.944831] {line}\r\n" for line in (
            "clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable because "
            "the skew is too large:",
            "clocksource:                       'kvm-clock' wd_nsec: 520366761 wd_now: 136be43c85",
            "clocksource:                       'tsc' cs_nsec: 531162547 cs_now: 27b29fe12c",
            "clocksource:                       'kvm-clock' (not 'tsc') is current clocksource.",
            "tsc: Marking TSC unstable due to clocksource watchdog"))
        self.assertTrue(self.agree(BOOT + watchdog))
        self.assertFalse(self.agree(BOOT + watchdog.replace("clocksource 'tsc'", "clocksource 'hpet'")))

    def test_refused_timer(self):
        """One line or the other, but one of them."""
        taken = "[    2.1] clocksource: acpi_pm: mask: 0xffffff max_cycles: 0xffffff, max_idle_ns: 5 ns\r\n"
        refused = "[    2.1] PM-Timer running at invalid rate: 106% of normal - aborting.\r\n"
        self.assertEqual(transcript.difference(BOOT + taken, BOOT + refused), [])
        self.assertNotEqual(transcript.difference(BOOT + taken, BOOT), [])

    def test_concurrent_and_slow_lines(self):
        lines = BOOT.splitlines(keepends=True)
        lines[7], lines[8] = lines[8], lines[7]
        lines.insert(5, "[    0.100000] pci 0000:00:00.0: quirk_natoma+0x0/0x20 took 10456 usecs\r\n")
        self.assertTrue(self.agree("".join(lines)))

    def test_ports_probed_at_once(self):
        first, second = ("[    1.5] ata1: found unknown device (class 0)\r\n",
                         "[    1.6] ata2: found unknown device (class 0)\r\n")
        self.assertEqual(transcript.difference(BOOT + first + second, BOOT + second + first), [])
        self.assertNotEqual(transcript.difference(BOOT + first + second, BOOT + first), [])

    def test_slow_line_within_a_line(self):
        """A kernel message may come between a program's text and its line end; no more than it
        is taken away."""
        late = "[   95.834344] clocksource: Long readout interval, skipping watchdog check: x\r\n"
        self.assertTrue(self.agree(BOOT.replace("reaped", "reaped" + late)))
        self.assertFalse(self.agree(BOOT.replace("reaped\r\n", "reaped" + late.rstrip())))
        self.assertFalse(self.agree(BOOT.replace("reaped", "reape" + late)))

    def test_clock_that_is_read_late(self):
        for late in ("timekeeping watchdog on CPU0: kvm-clock wd-wd read-back delay of 7521288ns",
                     "wd-tsc-early-wd read-back delay of 2999532ns, clock-skew test skipped!"):
            self.assertTrue(self.agree(
                BOOT.replace("reaped", f"reaped[   95.834344] clocksource: {late}\r\n")))

    def test_serial_console_of_the_firmware(self):
        self.assertTrue(self.agree(BOOT.replace("... o\x1b", "... ok\x1b")))

    def test_anything_else_is_a_difference(self):
        self.assertTrue(self.agree(BOOT))
        for old, new in (("300 proc", "299 proc"), ("1940K", "1941K"), ("6.1", "6.2"),
                         ("EFLAGS: 00010282\r\n", "EFLAGS: 00010282\r\nOops\r\n"),
                         ("guest: 300 processes forked and reaped\r\n", ""),
                         ("Detected", "Refined"), ("ROM...", "RO...")):
            with self.subTest(old=old):
                self.assertIn(old, BOOT)
                self.assertFalse(self.agree(BOOT.replace(old, new)))

    def test_lost_and_doubled_characters(self):
        """A serial driver that loses or repeats a byte is what this must never miss."""
        index = BOOT.index("forked")
        self.assertFalse(self.agree(BOOT[:index] + BOOT[index + 1:]))
        self.assertFalse(self.agree(BOOT[:index] + "f" + BOOT[index:]))

    def test_order(self):
        lines = BOOT.splitlines(keepends=True)
        lines[8], lines[9] = lines[9], lines[8]
        self.assertFalse(self.agree("".join(lines)))


if __name__ == "__main__":
    main()
