# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The lab of another Debian release: its kernels, its KVM and its QEMU, and Debian boots there as it does in
the lab of this machine's own release."""

import dataclasses
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from lab_testing import BUILD, main, need_lab, said_in_lab, skip

from image import Images
from scenarios import SCENARIOS
from tool import LabError

RELEASE = os.environ.get("LAB_RELEASE") or "trixie"


class ReleaseTest(unittest.TestCase):
    def test_debian_boots(self):
        scenario = dataclasses.replace(next(one for one in SCENARIOS if one.name == "debian-1"),
                                       seconds=1600)
        with tempfile.TemporaryDirectory() as keep:
            runs = scenario.run(BUILD, print, Path(keep), RELEASE, "unweighed")
        self.assertEqual(scenario.problems(runs), [])
        # The guest's kernel is of that release, and not of this machine's.
        name = (Images(BUILD, print, RELEASE).kernel() / "package").read_text(encoding="ascii")
        version = re.match(r"linux-image-([^_]+)_", name)[1]
        for run in runs.values():
            self.assertIn(f"Linux version {version} ", run.console)

    def test_host(self):
        """The host VM's kernel, KVM and QEMU are the release's, too; noexit starts there."""
        images = Images(BUILD, print, RELEASE)
        said = said_in_lab("uname -r; test -c /dev/kvm && echo kvm; qemu-system-x86_64 --version | head -n 1; "
                           "noexit run --off -- qemu-system-x86_64 --version >/dev/null 2>&1 && echo runs",
                           release=RELEASE)
        kernel, kvm, qemu, runs = said.splitlines()
        name = (images.kernel() / "package").read_text(encoding="ascii")
        self.assertEqual((kernel, kvm, runs), (re.match(r"linux-image-([^_]+)_", name)[1], "kvm", "runs"))
        own = subprocess.run([*images.system.emulator(), "--version"], text=True, check=True,
                             env={**os.environ, **images.system.environment()},
                             stdout=subprocess.PIPE).stdout.splitlines()[0]
        self.assertEqual(qemu, own)

    def test_unknown_release(self):
        """Its name is told, and nothing of it stays that would be taken for a release."""
        with tempfile.TemporaryDirectory() as build:
            with self.assertRaises(LabError) as caught:
                Images(Path(build), print, "nosuchrelease").host("amd")
        self.assertIn("nosuchrelease", str(caught.exception))


if __name__ == "__main__":
    need_lab(release=RELEASE)
    if not (BUILD / "cli/noexit").exists():
        skip("cli/noexit is not built")
    main()
