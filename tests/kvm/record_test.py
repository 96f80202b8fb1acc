# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""noexit record: which command lines it refuses, and that its figures are those of the runs."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

NOEXIT, VMM = (os.path.abspath(path) for path in sys.argv[1:3])
REFUSED = 2


def record(*arguments, **environment):
    return subprocess.run((NOEXIT, "record", *arguments), text=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, check=False)


class Base(unittest.TestCase):
    def refused(self, result, text):
        self.assertEqual(result.returncode, REFUSED, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = [line for line in result.stderr.splitlines() if not line.startswith("Try ")]
        self.assertIn(text, lines[-1])
        return lines


class Disks(Base):
    """QEMU is not run: a program of its name in an own directory ends with status 7."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.qemu = f"{directory.name}/qemu-system-x86_64"
        Path(self.qemu).write_text("#!/bin/sh\nexit 7\n")
        os.chmod(self.qemu, 0o755)

    def test_refused(self):
        for line in ("disk.img", "-nographic disk.img", "-hda disk.img", "-m 1 -hdb x", "-fda x",
                     "-drive file=x", "-drive if=none,file=x,id=a", "-drive format=raw,file=x",
                     "-drive file=x,,readonly=on", "-drive file=x,readonly=off", "-pflash x",
                     "-blockdev driver=file,filename=x,node-name=y", "-snapshot -readconfig x",
                     "-snapshot -blockdev driver=file,filename=x,node-name=y",
                     "-virtfs local,path=/", "-snapshot -fsdev local,id=a,path=/",
                     "-object memory-backend-file,id=a,size=1M,mem-path=x,share=on", "--hda x"):
            with self.subTest(line):
                lines = self.refused(record("--", self.qemu, *line.split()), "may write to a disk")
                self.assertEqual(len(lines), 1)
                self.assertIn("--yes", lines[0])

    def test_not_refused(self):
        """They are run, and it is the program that fails."""
        for line in ("", "-m 64 -nographic", "-snapshot disk.img", "disk.img -snapshot",
                     "-snapshot -hda x -drive file=y", "-drive file=x,readonly=on", "-cdrom x",
                     "-drive file=x,snapshot=on", "-drive media=cdrom,file=x", "-kernel x",
                     "-drive if=ide,media=cdrom", "-append -hda", "-device virtio-blk,drive=a",
                     "-blockdev driver=file,filename=x,read-only=on", "-fsdev local,readonly=on",
                     "-object memory-backend-file,mem-path=x,share=off"):
            with self.subTest(line):
                self.refused(record("--", self.qemu, *line.split()), "ended with status 7")
        self.refused(record("--yes", "--", self.qemu, "disk.img"), "ended with status 7")


class Refusals(Base):
    def test_arguments(self):
        self.refused(record(), "name the VMM")
        self.refused(record("-n", "0", "--", "qemu-system-x86_64"), "a number from 1 to 100")
        self.refused(record("--", "/bin/true"), "does not know what '/bin/true' writes to")
        self.refused(record("--yes", "--keep=/no/such/dir", "--", "/bin/true"), "cannot be made")
        self.refused(record("--yes", "--", "/no/such/vmm"), "ended with status 2")
        self.refused(record("--yes", "--", "/bin/sh", "-c", "kill -9 $$"), "signal 9")

    def test_no_kvm(self):
        self.refused(record("--yes", "--", "/bin/true"), "did not use KVM")


class Pairs(Base):
    def test_figures(self):
        with tempfile.TemporaryDirectory() as directory:
            keep, page = Path(directory) / "keep", Path(directory) / "page.html"
            result = record("--yes", "-n", "3", f"--keep={keep}", "-o", str(page), "-t", "a guest",
                            "--", "/bin/sh", "-c", f"yes run | head -3 | {VMM} 1 >&2")
            if "status 77" in result.stderr:
                self.skipTest(f"no VM can be made here: {result.stderr}")
            self.assertEqual(result.returncode, 0, result.stderr)
            runs = {path.stem: json.loads(path.read_text()) for path in keep.iterdir()}
            self.assertEqual(sorted(runs), ["off-1", "off-2", "off-3", "on-1", "on-2", "on-3"])
            for number in (1, 2, 3):
                off, on = runs[f"off-{number}"], runs[f"on-{number}"]
                self.assertEqual((off["clustering"], on["clustering"]), ("off", "on"))
                self.assertRegex(result.stdout,
                                 rf"(?m)^{number} +{off['exits_taken']:,} +"
                                 rf"{on['exits_taken']:,} +{on['exits_avoided']:,} ")
            self.assertRegex(result.stdout, r"With noexit: \d+\.\d% fewer exits")
            self.assertRegex(result.stdout, r"of the time \(\d\.\d+ to \d+\.\d+\)\.\n\S")
            self.assertIn("noexit report: a guest", page.read_text())
        # One pair begins without noexit, the next one with it.
        order = re.findall(r"run \d of 6, (with|without) noexit", result.stderr)
        self.assertEqual(order, ["without", "with", "with", "without", "without", "with"])

    def test_nothing_is_left(self):
        with tempfile.TemporaryDirectory() as scratch:
            result = record("--yes", "-n", "1", "--", "/bin/sh", "-c", f"echo run | {VMM} 1 >&2", TMPDIR=scratch)
            self.assertEqual(list(Path(scratch).iterdir()), [])
        if "status 77" in result.stderr:
            self.skipTest(f"no VM can be made here: {result.stderr}")
        self.assertIn("So few pairs", result.stdout)

    def test_nowhere(self):
        self.refused(record("--yes", "--", "/bin/true", TMPDIR="/nowhere"), "name a directory with --keep")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
