# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The differential tester against a whole processor: the KVM kind of tests/diff, in the lab."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from lab_testing import BUILD, ROOT, main, need_lab

# The same at each run; `make soak` has others, and more.
SEQUENCES = int(os.environ.get("DIFF_SEQUENCES") or 400)
SEED = int(os.environ.get("DIFF_SEED") or 1)
CPU = os.environ.get("DIFF_CPU") or "amd"


class DiffTest(unittest.TestCase):
    def test_sequences(self):
        # What it says comes back as a file: the lab's console has been seen to lose a first line.
        with tempfile.TemporaryDirectory() as share:
            result = subprocess.run(
                [str(ROOT / "lab/run"), "--cpu", CPU, "--timeout", str(300 + SEQUENCES),
                 "--share", share, "--",
                 f"/noexit/tests/diff/diff_test --kvm --count={SEQUENCES} --seed={SEED} "
                 "--keep-going >/out/said 2>&1"],
                capture_output=True, text=True, env={**os.environ, "NX_BUILD": str(BUILD)},
                check=False)
            file = Path(share) / "said"
            said = file.read_text(encoding="utf-8") if file.exists() else ""
        print(said)
        self.assertEqual(result.returncode, 0,
                         said[-20000:] + result.stdout[-2000:] + result.stderr[-2000:])
        self.assertRegex(said, re.compile(rf"^{SEQUENCES} sequences in", re.M))


if __name__ == "__main__":
    need_lab(CPU)
    main()
