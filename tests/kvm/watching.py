# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A VMM to watch, and what the tests of watching share; their arguments are noexit and that VMM."""

import json
import os
import subprocess
import sys
import unittest

NOEXIT, VMM = (os.path.abspath(path) for path in sys.argv[1:3])
REFUSED, SKIPPED = 2, 77


def run(*command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=600, check=False, **options)


class Vmm:
    """The VMM, started by noexit run; it obeys one word after the other. Weighing is switched off:
    what there is to see must not depend on what exits cost on this machine."""

    def __init__(self, *options, vms=1):
        self.process = subprocess.Popen((NOEXIT, "run", "--limits=unweighed", *options, "--", VMM,
                                         str(vms)), text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pid = self.process.pid
        self.answer("ready")

    def answer(self, last):
        lines = []
        while not lines or lines[-1] != last:
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"the VMM ended: {self.process.stderr.read()}")
            lines.append(line.strip())
        return lines

    def do(self, word):
        print(word, file=self.process.stdin, flush=True)
        return self.answer("done")

    def end(self):
        out, errors = self.process.communicate(timeout=300)
        return out + errors

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Base(unittest.TestCase):
    def refused(self, result, *texts):
        """One sentence, status 2, nothing on standard output."""
        self.assertEqual(result.returncode, REFUSED, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = [line for line in result.stderr.splitlines() if not line.startswith("Try ")]
        self.assertEqual(len(lines), 1, result.stderr)
        for text in texts:
            self.assertIn(text, lines[0])

    def stat(self, *arguments):
        result = run(NOEXIT, "stat", "--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        return json.loads(result.stdout)

    def run_until_costs_are_known(self, vmm):
        """A run takes over once or a few times, and what that costs is known after sixteen."""
        for _ in range(100):
            vmm.do("run")
            cost = self.stat("-p", str(vmm.pid))["cost_ns"]
            if all(cost[key] for key in ("exit_io", "takeover", "resume")):
                return
        self.fail(f"costs are not known: {cost}")

    def check_sums(self, stats):
        """What is listed in parts adds up to the whole."""
        self.assertEqual(sum(row["taken"] for row in stats["by"]),
                         stats["taken_by_kind"].get("io", 0))
        self.assertEqual(sum(row["avoided"] for row in stats["by"]), stats["exits_avoided"])
        self.assertEqual(sum(stats["taken_by_kind"].values()), stats["exits_taken"])
        self.assertEqual(sum(stats["avoided_by_kind"].values()), stats["exits_avoided"])
        engine = stats["engine"]
        self.assertEqual(engine["exits_io"] + engine["exits_mmio"], stats["exits_avoided"])
        self.assertEqual(sum(stats["distance"]) + engine["exits_traced"], stats["exits_avoided"])
        self.assertEqual(sum(stats["stays_by_us"]), stats["takeovers"])
        self.assertGreaterEqual(stats["stays_ns"], stats["longest_stay_ns"])


def main():
    probe = run(VMM, "1", input="")
    if probe.returncode == SKIPPED:
        print(f"no KVM on this machine: {probe.stderr.strip()}")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
