# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The differential tester against a whole processor: the KVM kind of tests/diff, in the lab."""

import os
import re
import tempfile
import unittest

from lab_testing import main, need_lab, run_lab, shared_files

# The same at each run; `make soak` has others, and more.
SEQUENCES = int(os.environ.get("DIFF_SEQUENCES") or 400)
SEED = int(os.environ.get("DIFF_SEED") or 1)
CPU = os.environ.get("DIFF_CPU") or "amd"


class DiffTest(unittest.TestCase):
    def test_sequences(self):
        # What it says comes back as a file: the lab's console has been seen to lose a first line.
        with tempfile.TemporaryDirectory() as share:
            result = run_lab(f"/noexit/tests/diff/diff_test --kvm --count={SEQUENCES} --seed={SEED} "
                             "--keep-going >/out/said 2>&1",
                             cpu=CPU, timeout=300 + SEQUENCES, share=share)
            said = shared_files(share).get("said", "")
        print(said)
        self.assertEqual(result.returncode, 0,
                         said[-20000:] + result.stdout[-2000:])
        self.assertRegex(said, re.compile(rf"^{SEQUENCES} sequences in", re.M))


if __name__ == "__main__":
    need_lab(CPU)
    main()
