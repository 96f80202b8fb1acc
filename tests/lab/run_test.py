# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""lab/run: what its users rely on."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from lab_testing import BUILD, ROOT, main, need_lab


def lab(*arguments, patience=None):
    """patience: for tests of the limits themselves, which count in seconds."""
    patient = {"LAB_PATIENCE": patience} if patience else {}
    return subprocess.run([str(ROOT / "lab/run"), *arguments], capture_output=True, text=True,
                          env={**os.environ, "NX_BUILD": str(BUILD), **patient}, check=False)


class LabTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)


class Intel(LabTest):
    def test_refuses_what_its_emulator_cannot(self):
        result = lab("--cpu", "intel", "--icount", "--", "true")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("--icount", result.stderr.splitlines()[-1])

    def test_runs_a_script_with_kvm(self):
        share = self.scratch / "share"
        script = "\n".join((
            "echo first; echo second >&2",
            "test -c /dev/kvm && echo has kvm",
            "cat /sys/module/kvm_intel/parameters/ept",
            "head -c 300000 /dev/zero | tr '\\0' x >/out/file",
            "echo status 0",
            "exit 37"))
        result = lab("--cpu", "intel", "--share", str(share), "--", script)
        self.assertEqual(result.returncode, 37, result.stderr)
        self.assertEqual(result.stdout.splitlines(),
                         ["first", "second", "has kvm", "Y", "status 0"])
        self.assertEqual((share / "file").read_bytes(), b"x" * 300000)

    def test_timeout(self):
        result = lab("--cpu", "intel", "--timeout", "5", "--", "true", patience="1")
        self.assertEqual(result.returncode, 124)
        self.assertIn("timed out after 5 s before reaching the command", result.stderr)


class Amd(LabTest):
    def test_refuses_what_its_emulator_cannot(self):
        for words in (("--mips", "1000"), ("--vmcs-shadowing",)):
            result = lab(*words, "--", "true")
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(words[0], result.stderr.splitlines()[-1])

    def test_runs_a_script_with_kvm(self):
        """One boot for all that a well-behaved command can show."""
        given = self.scratch / "given"
        given.write_text("from outside\n", encoding="ascii")
        share = self.scratch / "share"
        script = "\n".join((
            "echo first; echo second >&2; sleep 0.3; echo third",
            "cat /given",
            "test -c /dev/kvm && echo has kvm",
            "cat /sys/module/kvm_amd/parameters/npt",
            "qemu-system-x86_64 --version | head -n 1",
            "mkdir -p /out/deep/er; head -c 300000 /dev/zero | tr '\\0' x >/out/deep/er/file",
            # What a guest prints must not be taken for the lab's own word.
            "echo status 0; echo started; echo 'Kernel panic'",
            "exit 37"))
        result = lab("--share", str(share), "--put", f"{given}:/given", "--", script)
        self.assertEqual(result.returncode, 37, result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual(lines[:4], ["first", "second", "third", "from outside"])
        self.assertEqual(lines[4:6], ["has kvm", "Y"])
        self.assertIn("QEMU emulator version", lines[6])
        self.assertEqual(lines[7:], ["status 0", "started", "Kernel panic"])
        self.assertEqual((share / "deep/er/file").read_bytes(), b"x" * 300000)

    def test_several_words_are_one_command(self):
        """Words keep their spaces and special characters."""
        result = lab("--verbose", "printf", "<%s>", "a b", "$HOME", "'; exit 3;'")
        self.assertEqual((result.returncode, result.stdout), (0, "<a b><$HOME><'; exit 3;'>"))
        self.assertIn("command reached after", result.stderr)

    def test_output_streams(self):
        """The output arrives while the command still runs; a stopped lab leaves nothing."""
        with subprocess.Popen([str(ROOT / "lab/run"), "--", "echo now; sleep 100000"],
                              env={**os.environ, "NX_BUILD": str(BUILD)}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            self.assertEqual(process.stdout.readline(), "now\n")
            self.assertIsNone(process.poll())
            # Other labs may come and go meanwhile: a lab's folder has the number of its process.
            own = f"run-{process.pid}-*"
            self.assertEqual(len(list((BUILD / "lab").glob(own))), 1)
            process.terminate()
            self.assertEqual(process.wait(300), 128 + 15)
        self.assertEqual(list((BUILD / "lab").glob(own)), [])

    def test_killed(self):
        """Not even a lab that had no time to clean up keeps an emulator running."""
        with subprocess.Popen([str(ROOT / "lab/run"), "--", "echo now; sleep 100000"],
                              env={**os.environ, "NX_BUILD": str(BUILD)}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            self.assertEqual(process.stdout.readline(), "now\n")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(
                encoding="ascii").split()
            self.assertEqual(len(children), 1)
            process.kill()
        for _ in range(6000):
            if not Path(f"/proc/{children[0]}").exists():
                return
            time.sleep(0.05)
        self.fail("the emulator survived")

    def test_timeout(self):
        # A busy machine takes longer to get there.
        for limit in 40, 160, 640:
            result = lab("--timeout", str(limit), "--", "echo begun; sleep 100000", patience="1")
            if "before reaching" not in result.stderr:
                break
        self.assertEqual(result.returncode, 124)
        self.assertEqual(result.stdout, "begun\n")
        self.assertIn(f"timed out after {limit} s while the command ran", result.stderr)

    def test_kernel_panic(self):
        result = lab("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")
        self.assertEqual(result.returncode, 125)
        self.assertIn("the host VM's kernel panicked while the command ran", result.stderr)

    def test_modules(self):
        """A module of one's own, and KVM's parameters; a file that is no module is refused."""
        kernel = BUILD / "lab/kernel"
        result = lab("--kvm-args", "npt=0 kvm.halt_poll_ns=12345",
                     "--kmod", f"{kernel / 'scsi_common.ko'}",
                     "--kmod", f"{kernel / 'scsi_mod.ko'} max_luns=7", "--",
                     "cd /sys/module && cat kvm_amd/parameters/npt kvm/parameters/halt_poll_ns "
                     "scsi_mod/parameters/max_luns")
        self.assertEqual((result.returncode, result.stdout), (0, "N\n12345\n7\n"), result.stderr)
        given = self.scratch / "given.ko"
        given.write_text("no module\n", encoding="ascii")
        result = lab("--kmod", f"{given} some=thing", "--", "echo reached")
        self.assertEqual((result.returncode, result.stdout), (125, ""))
        self.assertIn("the host VM's kernel refused", result.stderr)
        self.assertIn("given.ko some=thing", result.stderr)

    def test_nested(self):
        """Output, status and files come out of the inner host VM; each level has its own modules."""
        given = self.scratch / "given"
        given.write_text("from outside\n", encoding="ascii")
        share = self.scratch / "share"
        kernel = BUILD / "lab/kernel"
        script = "\n".join((
            "echo first; cat /given; cat /sys/class/dmi/id/product_name",
            # The outer KVM offers its guest what the outer parameters leave of it.
            "grep -o -w -m 1 -e npt -e vgif /proc/cpuinfo; test -c /dev/kvm && echo has kvm",
            "cat /sys/module/kvm_amd/parameters/vgif /sys/module/scsi_mod/parameters/max_luns",
            "mkdir -p /out/deep; head -c 300000 /dev/zero | tr '\\0' x >/out/deep/file",
            "echo status 0; exit 37"))
        result = lab("--nested", "--outer-kvm-args=vgif=0", "--share", str(share),
                     "--kmod", f"{kernel / 'scsi_common.ko'}",
                     "--kmod", f"{kernel / 'scsi_mod.ko'} max_luns=7",
                     "--put", f"{given}:/given", "--", script)
        self.assertEqual(result.returncode, 37, result.stdout + result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual(lines[:2], ["first", "from outside"])
        # As a number or as a letter, by the kernel's revision.
        self.assertIn(lines[5], ("0", "N"))
        self.assertEqual(lines[3:5] + lines[6:], ["npt", "has kvm", "7", "status 0"])
        self.assertEqual((share / "deep/file").read_bytes(), b"x" * 300000)

    def test_nested_panic(self):
        """What ends the inner host VM alone is told as the lab's failure."""
        result = lab("--nested", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")
        self.assertEqual(result.returncode, 125, result.stdout)
        self.assertIn("level 1: QEMU ended", result.stdout)
        self.assertIn("Kernel panic", result.stdout)

    def test_wrong_use(self):
        self.assertEqual(lab("--cpu", "m68k", "true").returncode, 2)
        self.assertEqual(lab("--outer-kvm-args=npt=0", "true").returncode, 2)
        for option, said in (("--kvm-args=kvm_intel.ept=0", "parameters of kvm_intel"),
                             ("--release=nosuchrelease", "nosuchrelease"),
                             (f"--kmod={self.scratch}/missing.ko x=1", "there is no module")):
            result = lab(option, "true")
            self.assertEqual(result.returncode, 125)
            self.assertIn(said, result.stderr)
        result = lab("--put", str(self.scratch / "missing"), "true")
        self.assertEqual(result.returncode, 125)
        self.assertIn("there is no file", result.stderr)


if __name__ == "__main__":
    need_lab(*(["intel"] if "Intel" in sys.argv else []))
    main()
