# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""noexit check: its JSON, its exit status, and what it says where exits cannot be avoided."""

import json
import os
import resource
import signal
import subprocess
import sys
import unittest

NOEXIT = os.path.abspath(sys.argv[1])
USABLE, NOT_USABLE, REFUSED = 0, 1, 2
COSTS = {"pio_cpl0", "pio_cpl3", "mmio_cpl0", "mmio_cpl3", "immediate_exit", "get_regs",
         "engine_cpl0", "engine_cpl3"}
KEYS = {"usable": bool, "reason": (str, type(None)), "kvm_present": bool, "kvm_accessible": bool,
        "capabilities": dict, "executable_memory": bool, "stock_kernel": (bool, type(None)),
        "costs": (dict, type(None)), "cpl0": (dict, type(None)), "cpl3": (dict, type(None))}
NOBODY = 65534


def run(*command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=600, check=False, **options)


def in_namespace(mount):
    """A command line that runs noexit check --json after a mount that only it sees."""
    return ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", NOEXIT, "check",
            "--json")


def can_mount():
    return run("unshare", "--mount", "mount", "--bind", "/dev/null", "/dev/null").returncode == 0


def forbid_files():
    """Files of this process cannot grow: so there is no code cache either."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


class Check(unittest.TestCase):
    def report(self, result):
        """The JSON of a run, after what holds for all of them."""
        report = json.loads(result.stdout)
        self.assertEqual(set(report), set(KEYS))
        for key, types in KEYS.items():
            self.assertIsInstance(report[key], types, key)
        self.assertEqual(result.returncode, USABLE if report["usable"] else NOT_USABLE)
        self.assertEqual(report["reason"] is None, report["usable"])
        self.assertEqual(result.stderr, "")
        return report

    def not_usable(self, result, text):
        report = self.report(result)
        self.assertFalse(report["usable"])
        self.assertIn(text, report["reason"])
        return report

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no /dev/kvm")
    def test_here(self):
        report = self.report(run(NOEXIT, "check", "--json"))
        self.assertTrue(report["kvm_accessible"])
        self.assertTrue(report["usable"], report["reason"])
        self.assertEqual(set(report["costs"]), COSTS)
        for cost in report["costs"].values():
            self.assertGreater(cost["ns"], 0)
            self.assertGreater(cost["cycles"], 0)
        for level in ("cpl0", "cpl3"):
            costs, verdict = report["costs"], report[level]
            self.assertAlmostEqual(
                verdict["saved_ns"], costs[f"pio_{level}"]["ns"] - costs[f"engine_{level}"]["ns"],
                delta=0.2)
            if verdict["break_even_exits"] is not None:
                needed = verdict["price_ns"] / verdict["saved_ns"]
                self.assertAlmostEqual(verdict["break_even_exits"], needed + 0.5, delta=0.51)

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no /dev/kvm")
    def test_text(self):
        result = run(NOEXIT, "check")
        self.assertEqual(result.returncode, USABLE, result.stdout)
        self.assertEqual(result.stderr, "")
        for line in ("port read to the VMM and back, CPL 0", "Guest code at CPL 3: ",
                     "Usable: noexit can avoid exits on this machine."):
            self.assertIn(line, result.stdout)

    @unittest.skipUnless(can_mount(), "mount namespaces need root")
    def test_no_device(self):
        report = self.not_usable(run(*in_namespace("mount -t tmpfs none /dev")),
                                 "/dev/kvm cannot be opened: No such file or directory; load")
        self.assertFalse(report["kvm_present"])
        self.assertIsNone(report["costs"])

    @unittest.skipUnless(can_mount() and os.path.exists("/dev/kvm"), "it needs root and /dev/kvm")
    def test_something_else(self):
        report = self.not_usable(run(*in_namespace("mount --bind /dev/null /dev/kvm")),
                                 "does not speak version 12")
        self.assertTrue(report["kvm_accessible"])

    @unittest.skipUnless(os.getuid() == 0 and os.path.exists("/dev/kvm"), "it needs root and /dev/kvm")
    def test_no_rights(self):
        # A group would let it in; the program may lie in a directory that nobody may enter.
        command = f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
        result = run("sh", "-c", f'exec 3<"$0"; {command} /proc/self/fd/3 check --json', NOEXIT)
        if result.returncode not in (USABLE, NOT_USABLE):
            self.skipTest(f"another user cannot start it: {result.stderr.strip()}")
        if json.loads(result.stdout)["kvm_accessible"]:
            self.skipTest("everybody may use /dev/kvm here")
        report = self.not_usable(result, "Permission denied; become a member of the group kvm")
        self.assertTrue(report["kvm_present"])

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no /dev/kvm")
    def test_no_executable_memory(self):
        report = self.not_usable(run(NOEXIT, "check", "--json", preexec_fn=forbid_files),
                                 "forbids memory for translated code")
        self.assertFalse(report["executable_memory"])
        self.assertIsNone(report["costs"])

    def test_arguments(self):
        for arguments in (("--wrong",), ("something",)):
            result = run(NOEXIT, "check", *arguments)
            self.assertEqual((result.returncode, result.stdout), (REFUSED, ""))
            self.assertIn("noexit check: ", result.stderr)
        self.assertEqual(run(NOEXIT, "check", "--help").returncode, 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
