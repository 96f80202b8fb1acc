# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Guests on the machine's own KVM, with and without noexit: the same accesses in the same order.

Whether taking a guest over pays on this machine is not the question here: weighing is switched off, so
that the engine is what runs, and on once for each guest, where nothing is said of what it finds.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

NOEXIT, VMM, STORM = (os.path.abspath(path) for path in sys.argv[1:4])
SKIPPED = 77
HAS_QEMU = any(os.access(os.path.join(directory, "qemu-system-x86_64"), os.X_OK)
               for directory in os.environ["PATH"].split(":"))


def run(*command):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=600, check=False)


def with_stats(mode, *command, limits="unweighed"):
    """Runs a command under noexit; returns the process and the statistics."""
    with tempfile.TemporaryDirectory() as directory:
        stats = Path(directory) / "stats.json"
        result = run(NOEXIT, "run", f"--limits={limits}", *mode, f"--stats={stats}", "--", *command)
        return result, json.loads(stats.read_text())


class Guests(unittest.TestCase):
    def compare(self, bits, cpl, *extra):
        arguments = (VMM, str(bits), str(cpl), *extra)
        plain = run(*arguments)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertIn("end rax", plain.stdout)
        off, off_stats = with_stats(("--off",), *arguments)
        on, on_stats = with_stats((), *arguments)
        weighed, weighed_stats = with_stats((), *arguments, limits="adaptive")
        for result in (off, on, weighed):
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout, plain.stdout)
            self.assertEqual(result.stderr.count("noexit:"), 1, result.stderr)
        accesses = sum(line.startswith(("io ", "mmio ")) for line in plain.stdout.splitlines())
        self.assertGreater(accesses, 300)
        for stats in (off_stats, on_stats, weighed_stats):
            self.check_counts(stats, accesses)
        self.assertEqual(off_stats["exits_avoided"], 0)
        return off_stats, on_stats

    def check_counts(self, stats, accesses):
        """Every access is counted once, taken or avoided, and all the sums agree."""
        rows = stats["by"]
        self.assertEqual(sum(row["taken"] + row["avoided"] for row in rows), accesses)
        self.assertEqual(sum(row["avoided"] for row in rows), stats["exits_avoided"])
        kinds = stats["taken_by_kind"]
        self.assertEqual(sum(kinds.values()), stats["exits_taken"])
        self.assertEqual(sum(row["taken"] for row in rows), kinds.get("io", 0) + kinds.get("mmio", 0))
        engine = stats["engine"]
        self.assertEqual(sum(cluster["exits_avoided"] for cluster in stats["clusters"]),
                         stats["exits_avoided"] - engine["exits_traced"] - engine["exits_flushed"])

    def avoids(self, bits, cpl, share, *extra):
        """At least this share of the accesses reaches the VMM without an exit."""
        off, on = self.compare(bits, cpl, *extra)
        self.assertGreater(on["exits_avoided"], share * off["exits_taken"])
        self.assertLess(on["exits_taken"], (1 - share) * off["exits_taken"] + 10)

    def test_16_bit(self):
        self.avoids(16, 0, 0.3)

    def test_32_bit(self):
        self.avoids(32, 0, 0.3)

    def test_32_bit_user(self):
        self.avoids(32, 3, 0.3)

    def test_64_bit(self):
        self.avoids(64, 0, 0.3)

    def test_64_bit_user(self):
        self.avoids(64, 3, 0.8)

    def test_no_user_code(self):
        result, stats = with_stats(("--no-user-code",), VMM, "64", "3")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(stats["exits_avoided"], 0)

    def test_strings(self):
        """How many elements come in one exit is nobody's business but KVM's and ours.

        The engine takes INS and OUTS where the I/O privilege level allows them. A backend of KVM that
        emulates may lose that level outside CPL 0, as the flags at the end tell.
        """
        for cpl in ("0", "3"):
            plain = run(VMM, "64", cpl, "strings")
            self.assertEqual(plain.returncode, 0, plain.stderr)
            self.assertGreater(plain.stdout.count("io read"), 400)
            result, stats = with_stats((), VMM, "64", cpl, "strings")
            self.assertEqual(result.stdout, plain.stdout)
            flags = int(re.search(r"^end .* rflags 0x([0-9a-f]+)$", plain.stdout, re.M)[1], 16)
            if cpl == "0" or flags & 0x3000:
                self.assertGreater(stats["exits_avoided"], 100)

    def test_copies(self):
        """KVM emulates a copy from a device as a whole, and stops in its middle for the engine.

        A KVM that does not is left alone; those of Linux 6.1, 6.12 and 6.18 do.
        """
        for cpl in (0, 3):
            for extra in ((), ("look",), ("kick",)):
                _, on = self.compare(64, cpl, "copies", *extra)
                if not on["repeats_stopped"]:
                    self.skipTest("this KVM does not stop inside a string instruction")
                # Signals come by the clock, and where little runs between two of them each ends a stay.
                if extra != ("kick",):
                    self.assertGreater(on["exits_avoided"], 0)

    def test_vmm_that_looks(self):
        self.avoids(64, 3, 0.3, "look")
        self.avoids(16, 0, 0.3, "look")

    def test_vmm_that_syncs(self):
        self.avoids(64, 3, 0.3, "sync")
        self.avoids(16, 0, 0.3, "sync")

    def test_kicks(self):
        for bits, cpl in ((16, 0), (64, 3)):
            self.compare(bits, cpl, "kick")

    def test_memory_slots_that_change(self):
        self.avoids(64, 3, 0.2, "slots")

    def test_steps_that_fail(self):
        """The guest does not notice, and exactly one line says why nothing is avoided."""
        guests = {"segments": ("16", "0")}  # real mode's
        listed = run(NOEXIT, "run", "--fault=list")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        names = [line.split()[0] for line in listed.stdout.splitlines()]
        self.assertGreater(len(names), 10)
        for name in names:
            with self.subTest(name):
                guest = guests.get(name, ("64", "3"))
                result, stats = with_stats((f"--fault={name}",), VMM, *guest)
                self.assertEqual(result.stdout, run(VMM, *guest).stdout)
                said = [line for line in result.stderr.splitlines() if line.startswith("noexit:")]
                self.assertEqual(len(said), 2, result.stderr)
                if name == "watch":
                    self.assertIn("cannot be watched", said[0])
                    self.assertGreater(stats["exits_avoided"], 0)
                    continue
                self.assertRegex(said[0], "avoided.*: ")
                self.assertRegex(said[1], "exits taken, 0 avoided")
                self.assertEqual(stats["exits_avoided"], 0)

    def test_time_does_not_go_back(self):
        """Between a counter read in a cluster and one read by the processor: the guest counts."""
        plain = run(VMM, "64", "0", "tsc")
        result, _ = with_stats((), VMM, "64", "0", "tsc")
        self.assertEqual(result.stdout, plain.stdout)
        self.assertIn("end rax 0 rbx 0 ", result.stdout)

    def test_kernel_that_marks_only_the_preempted(self):
        """By this statistic steal.c knows it."""
        release = tuple(int(number) for number in os.uname().release.split(".")[:2])
        if release >= (5, 19):
            self.assertIn("preemption_other", with_stats((), VMM, "64", "0")[1]["kvm_stats"])

    def test_memory_that_goes_away(self):
        """Under a slot that the guest uses. KVM says what comes of it; the engine must not die."""
        plain = run(VMM, "64", "3", "unmap")
        self.assertLess(len(plain.stdout.splitlines()), 300)
        result, stats = with_stats((), VMM, "64", "3", "unmap")
        self.assertEqual(result.returncode, plain.returncode, result.stderr)
        self.assertEqual(result.stdout, plain.stdout)
        self.assertGreater(stats["exits_avoided"], 100)

        # Who links the library says so himself.
        linked = run(VMM, "64", "3", "linked", "unmap")
        self.assertEqual(linked.returncode, plain.returncode, linked.stderr)
        self.assertEqual(linked.stdout, plain.stdout)

    def test_several_vmms_below_one_command(self):
        """At once and one after the other: each has a file of its own."""
        with tempfile.TemporaryDirectory() as directory:
            stats = Path(directory) / "stats.json"
            script = f"{VMM} 16 0 & {VMM} 16 0; wait; {VMM} 16 0"
            result = run(NOEXIT, "run", "--limits=unweighed", f"--stats={stats}", "--", "sh", "-c",
                         script)
            self.assertEqual(result.returncode, 0, result.stderr)
            files = sorted(path.name for path in Path(directory).iterdir())
            self.assertEqual(len(files), 3, files)
            self.assertEqual(files[0], "stats.json")
            for name in files:
                self.assertRegex(name, r"^stats\.json(\.\d+)?$")
                self.assertGreater(json.loads((Path(directory) / name).read_text())["exits_avoided"], 0)

    def test_children_of_the_vmm(self):
        """From the first VM on, the environment is what it was without noexit."""
        self.compare(16, 0, "spawn")
        self.assertIn("preload none\n0\n", run(VMM, "16", "0", "spawn").stdout)

    def test_linked(self):
        """A VMM that links the library: the same accesses, and exits avoided without preloading."""
        for extra in ((), ("look",), ("kick",), ("slots",)):
            plain = run(VMM, "64", "3", *extra)
            linked = run(VMM, "64", "3", "linked", *extra)
            self.assertEqual(linked.returncode, 0, linked.stderr)
            self.assertEqual(linked.stdout, plain.stdout)
            line = re.search(r"^noexit: (\d+) exits taken, (\d+) avoided", linked.stderr, re.M)
            self.assertGreater(int(line[1]) + int(line[2]), 300)
            self.assertGreater(int(line[2]), 0 if extra == ("kick",) else 100)

    def test_dirty_log(self):
        """Neither the guest nor who reads the log notices."""
        self.assertRegex(run(VMM, "64", "3", "log").stdout, "dirty 0x[1-9a-f]")
        self.compare(64, 3, "log")
        self.compare(16, 0, "log")


class Storm(unittest.TestCase):
    """Several vCPUs, several machines, and a thread that kicks them and changes their memory."""

    def test_storm(self):
        plain = run(STORM, "64", "3")
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertEqual(plain.stdout.count("accesses"), 9)
        result, stats = with_stats((), STORM, "64", "3")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, plain.stdout)
        self.assertEqual(result.stderr.count("noexit:"), 1, result.stderr)
        self.assertEqual(stats["vcpus"], 9)
        self.assertGreater(stats["exits_avoided"], 1000)


class NoSuchChip(Exception):
    """QEMU 10 has no kernel-irqchip=off any more."""


class Seabios(unittest.TestCase):
    """QEMU with its firmware, to the end of a boot without a disk."""

    def boot(self, *mode, chip="on"):
        command = ("qemu-system-x86_64", "-accel", "kvm", "-m", "64", "-display", "none",
                   "-machine", f"graphics=off,kernel-irqchip={chip}", "-net", "none", "-serial", "stdio", "-no-reboot")
        with tempfile.TemporaryDirectory() as directory:
            stats = Path(directory) / "stats.json"
            process = subprocess.Popen((NOEXIT, "run", "--limits=unweighed", *mode,
                                        f"--stats={stats}", "--", *command),
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
            out, deadline = b"", time.monotonic() + 600
            os.set_blocking(process.stdout.fileno(), False)
            while b"No bootable device." not in out and time.monotonic() < deadline:
                out += process.stdout.read() or b""
                time.sleep(0.02)
                if process.poll() is not None:
                    break
            process.terminate()
            messages = process.communicate(timeout=300)[1].decode()
            if "KVM does not support userspace APIC" in messages:
                raise NoSuchChip(messages)
            self.assertEqual(process.returncode, 0, messages)
            self.assertIn(b"No bootable device.", out, messages)
            self.assertRegex(messages, r"noexit: \d+ exits taken, \d+ avoided")
            # What came after the last message depends on when QEMU was ended.
            return out[:out.index(b"No bootable device.")], json.loads(stats.read_text())

    @unittest.skipUnless(HAS_QEMU, "QEMU is not installed")
    def test_boot(self):
        off, off_stats = self.boot("--off")
        on, on_stats = self.boot()
        self.assertEqual(off.split(b"\n"), on.split(b"\n"))
        self.assertEqual(off_stats["exits_avoided"], 0)
        self.assertGreater(on_stats["exits_avoided"], 100)
        self.assertLess(on_stats["exits_taken"], off_stats["exits_taken"])

    @unittest.skipUnless(HAS_QEMU, "QEMU is not installed")
    def test_interrupt_controllers(self):
        """In the VMM, and split between it and the kernel."""
        for chip in ("off", "split"):
            with self.subTest(chip):
                try:
                    off, off_stats = self.boot("--off", chip=chip)
                except NoSuchChip:
                    print("this QEMU knows no local APIC outside the kernel")
                    continue
                on, on_stats = self.boot(chip=chip)
                self.assertEqual(off.split(b"\n"), on.split(b"\n"))
                self.assertLess(on_stats["exits_taken"], off_stats["exits_taken"])


if __name__ == "__main__":
    probe = run(VMM, "16", "0")
    if probe.returncode == SKIPPED:
        print(f"no KVM on this machine: {probe.stderr.strip()}")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
