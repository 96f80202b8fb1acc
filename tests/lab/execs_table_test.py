# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""lab/execs: figures out of what a lab has printed, and what is taken for a failure. No lab runs."""

import argparse
import contextlib
import io
import subprocess
import unittest
from pathlib import Path

from lab_testing import ROOT, lab_tool

execs = lab_tool("execs")

HITS = "hits 0 {} {} {{ exit_reason:        {} }} hitcount:        {}"
PRINTED = ["round 0",
           *(HITS.format(column, row, 114, count) for row in execs.ROWS
             for column, count in (("none", 9900), ("module", 990))),
           HITS.format("none", "dynamic", 96, 200),
           *(f"time {number} {column} {row} {hundredths}" for row in execs.ROWS
             for number, none, module in ((1, 400, 100), (2, 300, 100), (3, 200, 100))
             for column, hundredths in (("none", none), ("module", module)))]


class Table(unittest.TestCase):
    def table(self, printed):
        table = execs.Table(argparse.Namespace(cpu="amd", runs=3, turns=300, columns=["none", "module"]))
        with contextlib.redirect_stderr(io.StringIO()):
            for line in printed:
                table.add(line)
        return table

    def problems(self, printed, log=""):
        with self.assertRaises(execs.LabError) as caught:
            self.table(printed).check(log)
        return str(caught.exception)

    def test_figures(self):
        table = self.table(PRINTED)
        table.check("noexit: beside kvm_amd")
        records = {(record["name"], record["metric"]): record for record in table.records()}
        self.assertEqual(len(records), 6)
        time = records["execs/static", "module: time, s"]
        self.assertEqual((time["without"], time["with"], time["ratio"]), (3, 1, 3))
        exits = records["execs/dynamic", "module: exits of the hardware"]
        self.assertEqual((exits["without"], exits["with"]), (10100, 990))
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            table.show()
        self.assertRegex(shown.getvalue(), r"CPUID +9900 +990\n +INTR +200 +0\n")

    def test_missing(self):
        self.assertIn("round 3 of static, module, is missing",
                      self.problems([line for line in PRINTED if not line.startswith("time 3 module static")]))
        self.assertIn("nothing was counted of boot, none",
                      self.problems([line for line in PRINTED if not line.startswith("hits 0 none boot")]))

    def test_failed(self):
        self.assertIn("the guest stopped", self.problems([*PRINTED, "failed: the guest stopped, none: x"]))
        self.assertIn("WARNING: CPU: 0", self.problems(PRINTED, "x\nWARNING: CPU: 0\n"))

    def test_wrong_arguments(self):
        """One sentence and its remedy."""
        for arguments, words in ((["--module", "/nowhere"], "'make kernel' builds it"), ([], "--module"),
                                 (["--module", str(ROOT / "README.md"), "--columns", "pear"], "there are none,"),
                                 (["--module", str(ROOT / "README.md"), "--turns", "0"], "--turns")):
            result = subprocess.run([str(ROOT / "lab/execs"), *arguments], capture_output=True, text=True, check=False)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(words, result.stderr.splitlines()[-1])


if __name__ == "__main__":
    unittest.main()
