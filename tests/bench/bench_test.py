# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""`noexit bench`: what it prints, and what it refuses. The figures themselves are nobody's promise."""

import json
import os
import shutil
import subprocess
import sys
import unittest

NOEXIT = os.path.abspath(sys.argv[1])
KEYS = {"name", "metric", "substrate", "without", "with", "ratio", "spread"}


def bench(*arguments):
    return subprocess.run([NOEXIT, "bench", *arguments], text=True, capture_output=True,
                          timeout=600, check=False)


class Bench(unittest.TestCase):
    def records(self, *arguments):
        result = bench("--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        records = json.loads(result.stdout)
        for record in records:
            self.assertEqual(set(record), KEYS)
        return {(record["name"], record["metric"]): record for record in records}

    def test_list(self):
        result = bench("--list")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        names = [line.split()[0] for line in result.stdout.splitlines()]
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue({"engine", "pair", "halt", "timer-rtc", "timer-acpi", "timer-hpet", "ide-pio",
                         "uncached-pair", "watching", "debian2", "levels-debian", "limits-debian",
                         "distance-debian", "accesses-debian",
                         "nested-table", "execs"} <= set(names))

    def test_wrong_use(self):
        for arguments in (("pear",), ("pair", "pear"), ("--jason",), ("--runs=many",),
                          ("--smp=0",), ("--limits=none",)):
            result = bench(*arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("'pear'", bench("pear").stderr)

    def test_the_module_needs(self):
        """What is missing is named with the remedy, and no lab starts."""
        for words, arguments in (("measure it with --lab", ()), ("'make kernel' builds it", ("--lab",)),
                                 ("there is no module '/nowhere'", ("--lab", "--module=/nowhere")),
                                 ("there is no pear", ("--lab", f"--module={NOEXIT}", "--rows=pear"))):
            result = bench(*arguments, "nested-table")
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(words, result.stderr)
            if "--rows=pear" not in arguments:
                result = bench(*arguments, "execs")
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn(words, result.stderr)

    def test_engine_needs_no_kvm(self):
        """A figure with nothing to compare with is there, and null is what it is compared with."""
        filler = self.records("--quick", "filler-chase")["filler-chase", "a gap filler, ns"]
        for key in ("without", "with", "ratio"):
            self.assertGreater(filler[key], 0)

    def test_steps_need_no_kvm(self):
        """The same of the engine's steps: where there is no KVM, that is said."""
        records = self.records("--quick", "engine")
        self.assertEqual({name for name, _ in records},
                         {"engine/next", "engine/next-10-fillers", "engine/take-over",
                          "engine/translate"})
        for record in records.values():
            self.assertGreater(record["with"], 0)
        if not os.path.exists("/dev/kvm"):
            for record in records.values():
                self.assertIsNone(record["without"])
                self.assertIsNone(record["ratio"])
            self.assertIn("round trip", bench("--quick", "engine").stderr)

    def test_uncached(self):
        """The engine with and without its cache of translations."""
        names = ("uncached-pair", "uncached-console", "uncached-registers")
        for record in self.records("--quick", *names).values():
            for key in ("without", "with", "ratio"):
                self.assertGreater(record[key], 0, record["name"])
            self.assertEqual(record["metric"], "an exit to the next, ns")

    @unittest.skipUnless(shutil.which("qemu-system-x86_64"), "no QEMU on this machine")
    def test_accesses(self):
        """SeaBIOS in QEMU's emulator: each access is in one class, and it makes some thousands."""
        records = self.records("accesses-seabios")
        self.assertGreater(records.pop(("accesses-seabios/all", "all exits"))["without"], 1000)
        self.assertEqual(len(records), 11)
        self.assertAlmostEqual(sum(record["without"] for record in records.values()), 100, delta=0.1)

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no KVM on this machine")
    def test_workload(self):
        """Sixteen exits without noexit, about one with it; in every mode of the guest. Whether that
        pays on this machine is not asked."""
        records = self.records("--quick", "--substrate=here", "--limits=unweighed", "cluster", "halt",
                               "timer-acpi")
        self.assertEqual(len(records), 10)
        for (name, metric), record in records.items():
            self.assertEqual(record["substrate"], "here")
            self.assertGreater(record["without"], 0)
            self.assertGreaterEqual(record["spread"], 0)
            if metric == "exits of a turn":
                self.check_exits(name, record)

        # Three port reads for each reading, sixteen readings for each hardware exit.
        for name in ("timer-acpi/cpl3", "timer-acpi/cpl0"):
            figure = records[name, "exits of a reading"]
            self.assertAlmostEqual(figure["without"], 3, delta=0.2)
            self.assertLess(figure["with"], 1)

    def check_exits(self, name, record):
        if name.startswith("halt"):
            self.assertAlmostEqual(record["with"], record["without"], delta=0.1)
            return
        if name.startswith("timer"):
            return
        self.assertAlmostEqual(record["without"], 16, delta=1)
        self.assertLess(record["with"], 2)
        self.assertAlmostEqual(record["ratio"], record["without"] / record["with"], delta=1)

    def test_text(self):
        result = bench("--quick", "filler-registers")
        self.assertEqual(result.returncode, 0, result.stderr)
        head, line = result.stdout.splitlines()
        self.assertEqual(head.split()[0], "name")
        self.assertEqual(line.split()[0], "filler-registers")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
