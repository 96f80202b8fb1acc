# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The differential tester against a whole processor: the KVM kind of tests/diff, in the lab."""

import os
import re
import subprocess
import unittest

from lab_testing import BUILD, ROOT, main, need_lab

# The same at each run; `make soak` has others, and more.
SEQUENCES = int(os.environ.get("DIFF_SEQUENCES") or 400)
SEED = int(os.environ.get("DIFF_SEED") or 1)
CPU = os.environ.get("DIFF_CPU") or "amd"


class DiffTest(unittest.TestCase):
    def test_sequences(self):
        result = subprocess.run(
            [str(ROOT / "lab/run"), "--cpu", CPU, "--timeout", str(300 + SEQUENCES), "--",
             f"/noexit/tests/diff/diff_test --kvm --count={SEQUENCES} --seed={SEED} --keep-going"],
            capture_output=True, text=True, env={**os.environ, "NX_BUILD": str(BUILD)},
            check=False)
        print(result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout[-20000:] + result.stderr[-2000:])
        self.assertRegex(result.stdout, re.compile(rf"^{SEQUENCES} sequences in", re.M))


if __name__ == "__main__":
    need_lab(CPU)
    main()
