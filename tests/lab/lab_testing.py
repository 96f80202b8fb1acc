# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the lab tests share."""

import os
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NX_BUILD") or ROOT / "build").resolve()
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "lab"), str(ROOT / "tools")]

SKIPPED = 77


def skip(reason):
    """Ends the test as skipped, in Meson's way."""
    print(reason)
    sys.exit(SKIPPED)


def need_lab(cpu="amd", release=None):
    """Skips unless the lab can be put together on this machine."""
    from image import Images, LabError
    from machine import MACHINES
    try:
        MACHINES[cpu].need()
        Images(BUILD, print, release).host(cpu)
    except LabError as error:
        skip(f"no lab on this machine: {error}")


def write_initrd(path, init):
    """Writes a guest's initial file system: busybox, a console, and a script as its first process."""
    from image import Cpio
    with open(path, "wb") as out:
        archive = Cpio(out)
        archive.copy("/bin/busybox", "/bin/busybox")
        archive.device("/dev/console", 5, 1)
        archive.add("/init", init, 0o755)
        archive.finish()


def main():
    """unittest says "OK" for a run without tests; that must not pass."""
    result = unittest.main(exit=False).result
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
