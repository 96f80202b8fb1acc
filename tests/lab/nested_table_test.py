# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""lab/nested's table: figures out of what a lab has printed, and what is taken for a failure. No lab runs."""

import argparse
import contextlib
import io
import subprocess
import tempfile
import unittest
from pathlib import Path

from lab_testing import ROOT, lab_tool

nested = lab_tool("nested")

PROGRAM = "program {} {} cpuid: cpuid4 64: digest 0123456789abcdef exits 9 vmm 0 us {}"
PRINTED = [
    "round 0",
    "hits 1 none cpuid { exit_reason:        114 } hitcount:        600",
    "hits 0 none cpuid { exit_reason:        114 } hitcount:        600",
    "hits 0 none cpuid { exit_reason:        128 } hitcount:        400",
    PROGRAM.format(0, "none", 9000000),
    "hits 1 both cpuid { exit_reason:        114 } hitcount:        150",
    "hits 0 both cpuid { exit_reason:        114 } hitcount:        200",
    PROGRAM.format(0, "both", 9000000),
    "hits 1 none idle { exit_reason:        120 } hitcount:          4",
    "hits 0 none idle { exit_reason:        120 } hitcount:         16",
    "hits 1 both idle { exit_reason:        120 } hitcount:          4",
    "hits 0 both idle { exit_reason:        120 } hitcount:          8",
    # No level 2, so no exit at level 1.
    "hits 0 none level1 { exit_reason:        114 } hitcount:       3333",
    "hits 0 both level1 { exit_reason:        114 } hitcount:        468",
    *(line for number, one, other in ((1, 4000000, 1000000), (2, 3000000, 1000000), (3, 2000000, 1000000))
      for line in (f"round {number}", f"time {number} none cpuid 777", PROGRAM.format(number, "none", one),
                   f"time {number} both cpuid 777", PROGRAM.format(number, "both", other),
                   f"time {number} none idle 210", f"ran {number} none idle 500000000",
                   f"time {number} both idle 200", f"ran {number} both idle 250000000",
                   f"time {number} none level1 12", f"time {number} both level1 14"))]


class Table(unittest.TestCase):
    def table(self, printed):
        table = nested.Table(argparse.Namespace(cpu="amd", runs=3, rows=["cpuid", "idle", "level1"], turns=150,
                                                columns=["none", "both"]))
        with contextlib.redirect_stderr(io.StringIO()):
            for line in printed:
                table.add(line)
        return table

    def problems(self, printed, **files):
        with tempfile.TemporaryDirectory() as directory:
            for name, text in files.items():
                (Path(directory) / name.replace("_", "-")).write_text(text, encoding="utf-8")
            with self.assertRaises(nested.LabError) as caught:
                self.table(printed).check(Path(directory))
        return str(caught.exception)

    def test_figures(self):
        table = self.table(PRINTED)
        with tempfile.TemporaryDirectory() as directory:
            table.check(Path(directory))
        records = {(record["name"], record["metric"]): record for record in table.records()
                   if record["substrate"] == "lab-amd"}
        time = records["nested-table/cpuid", "both: time, s"]
        self.assertEqual((time["without"], time["with"], time["ratio"]), (3, 1, 3))
        # The middle 80 percent of three are all of them.
        self.assertAlmostEqual(time["spread"], 2 / 3)
        exits = records["nested-table/cpuid", "both: exits at level 0"]
        self.assertEqual((exits["without"], exits["with"], exits["ratio"]), (1000, 200, 5))
        idle = records["nested-table/idle", "both: the VMM's time, s"]
        self.assertEqual((idle["without"], idle["with"]), (0.5, 0.25))
        self.assertIn(("nested-table/level1", "both: exits at level 0"), records)
        self.assertNotIn(("nested-table/level1", "both: exits at level 1"), records)
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            table.show()
        self.assertRegex(shown.getvalue(), r"VMRUN +400 +0\n")
        self.assertRegex(shown.getvalue(), r"an access, us +5000.0 +1666.7\n")

    def test_published(self):
        """What others have published never looks as if it had been measured."""
        records = [record for record in self.table(PRINTED).records() if record["substrate"] != "lab-amd"]
        self.assertTrue(records)
        for record in records:
            self.assertEqual(record["substrate"], "published")
            self.assertFalse(record["name"].startswith("nested-table"))

    def test_missing(self):
        self.assertIn("round 3 of cpuid, both, is missing",
                      self.problems([line for line in PRINTED if not line.startswith("program 3 both")]))
        self.assertIn("nothing was counted of idle, none, at level 0",
                      self.problems([line for line in PRINTED if not line.startswith("hits 0 none idle")]))
        self.assertIn("nothing was counted of level1, both, at level 0",
                      self.problems([line for line in PRINTED if not line.startswith("hits 0 both level1")]))

    def test_failed(self):
        self.assertIn("noexit on in level 0", self.problems([*PRINTED, "failed: noexit on in level 0"]))

    def test_difference(self):
        self.assertIn("have seen different things",
                      self.problems([*PRINTED, PROGRAM.format(3, "both", 1).replace("0123", "0124")]))
        self.assertIn("guest-0-both and guest-0-none differ",
                      self.problems(PRINTED, guest_0_none="one\ntwo\n", guest_0_both="one\nthree\n"))

    def test_complaint(self):
        self.assertIn("log-1: WARNING: CPU: 0", self.problems(PRINTED, log_1="x\nWARNING: CPU: 0\n"))

    def test_wrong_arguments(self):
        """One sentence and its remedy."""
        for arguments, words in ((["--module", "/nowhere"], "'make kernel' builds it"),
                                 (["--module", str(ROOT / "README.md"), "--rows", "pear"], "there are cpuid,"),
                                 ([], "--module")):
            result = subprocess.run([str(ROOT / "lab/nested"), *arguments], capture_output=True, text=True,
                                    check=False)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(words, result.stderr.splitlines()[-1])


if __name__ == "__main__":
    unittest.main()
