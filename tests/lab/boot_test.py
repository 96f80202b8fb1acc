# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Debian's kernel and a userspace boot in the lab, without and with noexit: the same transcript,
and figures that agree with KVM's own. How many exits it pays to avoid is not judged here."""

import shutil
import tempfile
import unittest
from pathlib import Path

from lab_testing import BUILD, ROOT, main, need_lab, skip

import demo

KVM_EXIT_IO = 2
KVM_EXIT_MMIO = 6


class BootTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as directory:
            place = demo.Lab(BUILD, demo.Progress())
            cls.comparison = demo.Comparison(
                "debian-serial-boot", place.substrate,
                *demo.boots("linux", 1, Path(directory), place))
        demo.table(cls.comparison)

    def test_userspace_works(self):
        """Both boots come to the end of the guest's init, with the right results."""
        expected = (
            "guest: 300 processes forked and reaped",
            "guest: 67108864 bytes, md5 d3850c33e620fb49f6711eb119d4fd2d",
            "guest: done",
            "reboot: Power down",
        )
        for boot in self.comparison.without + self.comparison.with_noexit:
            for text in expected:
                self.assertIn(text, boot.console)

    def test_transcripts_are_equal(self):
        self.assertEqual(self.comparison.difference(), [])

    def test_nothing_is_avoided_without(self):
        self.assertEqual(self.comparison.without[0].avoided, 0)

    def test_avoided_exits_are_explained(self):
        """Every exit that was avoided is accounted for, by device and by who delivered it."""
        stats = self.comparison.with_noexit[0].stats
        avoided = stats["exits_avoided"]
        self.assertEqual(sum(row["avoided"] for row in stats["by"]), avoided)
        engine = stats["engine"]
        clusters = sum(row["exits_avoided"] for row in stats["clusters"])
        self.assertEqual(clusters + engine["exits_traced"] + engine["exits_flushed"],
                         avoided + stats["internal"])

    def test_counts_agree_with_kvm(self):
        """The kernel's tracepoint counts the same returns to userspace, to within 1%."""
        for boot in self.comparison.without + self.comparison.with_noexit:
            self.assertTrue(boot.kernel_exits, "the lab's kernel counted nothing")
            kernel = sum(boot.kernel_exits.get(r, 0) for r in (KVM_EXIT_IO, KVM_EXIT_MMIO))
            ours = sum(row["taken"] for row in boot.stats["by"] if row["kind"] in ("io", "mmio"))
            self.assertGreater(kernel, 1000)
            self.assertLessEqual(abs(ours - kernel), kernel / 100)


if __name__ == "__main__":
    need_lab()
    if not (BUILD / "cli/noexit").exists():
        skip("cli/noexit is not built")
    main()
