# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The tests of the suite "kvm" that want a machine's own KVM, once more in the lab: its kvm_amd and
kvm_intel are complete ones, and a machine without /dev/kvm has them too.

They are run as they are. Those in Python bring the interpreter along, with the modules that they
import and no others.
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from lab_testing import BUILD, ROOT, main, need_lab, run_lab, skip

from system import libraries, usr

CPU = os.environ.get("KVM_CPU") or "amd"
PYTHON = Path("/usr/bin/python3")
# The lab's own shell is a static one, which noexit cannot get into.
SHELL = Path("/bin/dash")
TESTS = ROOT / "tests/kvm"
# Of the terminal that `noexit top` is tried on.
TERMINFO = [path for path in (Path("/lib/terminfo/x/xterm"), Path("/usr/share/terminfo/x/xterm"))
            if path.exists()]
# Prints the files of what the script imports.
LIST_MODULES = """
import importlib.util, os.path, sys
sys.argv = sys.argv[1:] + ["noexit", "vmm", "storm"]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
spec = importlib.util.spec_from_file_location("listed", sys.argv[0])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
for module in list(sys.modules.values()):
    if getattr(module, "__file__", None):
        print(module.__file__)
"""


def python_files(script):
    """What a script needs of Python: {path in the lab: file}. Modules beside it are put beside it."""
    if not PYTHON.exists():
        skip(f"{PYTHON} is missing; install the package python3")
    listed = subprocess.run([PYTHON, "-I", "-B", "-c", LIST_MODULES, script], text=True, check=True,
                            stdout=subprocess.PIPE).stdout.split()
    files = [Path(file) for file in listed if Path(file) != script]
    programs = {str(PYTHON): PYTHON.resolve(), "/usr/sbin/sh": SHELL}
    places = {f"/{file.name}" if file.parent == TESTS else str(file): file for file in files}
    return {**programs, **places,
            **libraries([*programs.values(), *(f for f in files if f.suffix == ".so")])}


def in_lab(command, put=()):
    """Runs a command there; its output and its status."""
    result = run_lab(command, put=dict(put), cpu=CPU, timeout=900 if CPU == "amd" else 3600)
    print(result.stdout)
    return result


class KvmTest(unittest.TestCase):
    names = ()

    def run_script(self, script, programs, names=(), put=()):
        """A script of tests/kvm in the lab; its output."""
        places = [(usr(path), file) for path, file in python_files(TESTS / script).items()]
        words = [f"/noexit/{name}" for name in programs] + list(names)
        result = in_lab(f"cd /tmp && python3 -B /{script} {' '.join(words)}",
                        [*places, *put, (f"/{script}", TESTS / script)])
        self.assertEqual(result.returncode, 0)
        return result.stdout

    def test_real(self):
        said = self.run_script("real_test.py", ("cli/noexit", "tests/kvm/guest_vmm",
                                                "tests/kvm/storm_vmm"), self.names)
        ran = re.search(r"^Ran (\d+) tests? in", said, re.M)
        self.assertGreater(int(ran[1]), 0 if self.names else 15)
        self.assertNotIn("skipped", said)

    def test_watch(self):
        said = self.run_script("watch_test.py", ("cli/noexit", "tests/kvm/watched"))
        ran = re.search(r"^Ran (\d+) tests? in", said, re.M)
        self.assertGreater(int(ran[1]), 18)
        # There is no gdb in the lab.
        self.assertEqual(re.findall(r"^(test_\w+) .*skipped", said, re.M), ["test_gdb"])

    def test_screens(self):
        said = self.run_script("screens_test.py", ("cli/noexit", "tests/kvm/watched"),
                               put=[(usr(path), path) for path in TERMINFO])
        ran = re.search(r"^Ran (\d+) tests? in", said, re.M)
        self.assertGreater(int(ran[1]), 8)
        self.assertNotIn("skipped", said)

    def test_check(self):
        names = [f"Check.test_{name}"
                 for name in ("here", "text", "no_executable_memory", "arguments")]
        said = self.run_script("check_test.py", ("cli/noexit",), names)
        self.assertIn("Ran 4 tests", said)
        self.assertNotIn("skipped", said)

    def test_hostile(self):
        result = in_lab("/noexit/tests/security/hostile_kvm_test")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"PASSED  \] \d+ test")


if __name__ == "__main__":
    need_lab(CPU)
    # Names are those of the tests in there.
    KvmTest.names, sys.argv[1:] = sys.argv[1:], []
    main()
