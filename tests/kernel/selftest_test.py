# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The self-test module has to print the same lines in a kernel as the self-test process."""

import re
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE)]

from module_testing import build_or_skip, complaints, warnings  # noqa: E402

import build  # noqa: E402
from lab_testing import main, run_lab  # noqa: E402

SCRIPT = """
/noexit/tests/kernel/selftest
echo "process: $?"
dmesg -c >/dev/null
insmod /root/noexit-selftest.ko
echo "module: $?"
dmesg
rmmod noexit_selftest
echo "removed: $?"
"""
LOG = re.compile(r"^(?:\[[ .\d]+\] )?noexit_selftest: (\| |stack: )(.*)$")


class SelftestTest(unittest.TestCase):
    def test_same_results_in_the_kernel(self):
        # Neither the compiler nor objtool may warn about code of ours.
        self.assertEqual(warnings(WORDS), [])
        said = run_lab(SCRIPT, put={"/root/noexit-selftest.ko": MODULE}).stdout
        lines = said.splitlines()
        self.assertIn("process: 0", lines, said)
        middle = lines.index("process: 0")
        process = lines[:middle]
        logged = list(filter(None, map(LOG.match, lines[middle:])))
        module = [match[2] for match in logged if match[1] == "| "]
        stack = [match[2] for match in logged if match[1] == "stack: "]
        print(*module[-1:], *("stack: " + depth for depth in stack), sep="\n")
        self.assertEqual(module, process)
        self.assertRegex(process[-1], r"^[1-9]\d+ passed, 0 failed, 0 skipped$")
        self.assertIn("module: 0", lines)
        self.assertIn("removed: 0", lines)
        # The stack has 16 KiB; the engine's caller needs the rest.
        self.assertLess(int(stack[0].split()[0]), 12288)
        # The kernel has logged no complaint.
        self.assertEqual(complaints("\n".join(lines[middle:])), [])


if __name__ == "__main__":
    MODULE, WORDS = build_or_skip(build=build.build)
    main()
