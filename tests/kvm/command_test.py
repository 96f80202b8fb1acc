# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""noexit run as a command: what it refuses, and that what it runs behaves as without it."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

NOEXIT, HELPER, STATIC = (os.path.abspath(path) for path in sys.argv[1:4])
REFUSED = 2


def run(*command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=600, check=False, **options)


def noexit(*arguments, **options):
    return run(NOEXIT, "run", *arguments, **options)


class Base(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = Path(self.directory.name)

    def file(self, name, content, mode=0o755):
        path = self.path / name
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)


class Refusals(Base):
    def refused(self, result, text):
        """One line that says what is wrong, status 2, nothing on standard output."""
        self.assertEqual(result.returncode, REFUSED, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = [line for line in result.stderr.splitlines() if not line.startswith("Try ")]
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertIn("noexit", lines[0])
        self.assertIn(text, lines[0])

    def test_missing(self):
        self.refused(noexit("--", "no-such-vmm"), "no program 'no-such-vmm' in PATH")
        self.refused(noexit("--", "/no/such/vmm"), "No such file")

    def test_not_executable(self):
        self.refused(noexit("--", self.file("vmm", b"\x7fELF", 0o644)), "cannot be executed")

    def test_directory(self):
        self.refused(noexit("--", self.directory.name), "is a directory")

    def test_static(self):
        self.assertEqual(run(STATIC, "status", "5").returncode, 5)
        self.refused(noexit("--", STATIC, "status", "5"),
                     "is statically linked, so noexit cannot get into it; use a dynamically linked build of "
                     "the VMM, or noexit.ko with 'noexit on'")

    def test_32_bit(self):
        header = bytearray(Path(STATIC).read_bytes()[:64])
        header[4] = 1  # ELFCLASS32
        self.refused(noexit("--", self.file("vmm", bytes(header))), "not a 64-bit x86 program")

    def test_truncated(self):
        self.refused(noexit("--", self.file("vmm", b"\x7fELF\x02")), "not a complete program")

    @unittest.skipUnless(os.geteuid() == 0, "only root can make the file")
    def test_set_user_id(self):
        path = self.path / "vmm"
        shutil.copy(HELPER, path)
        os.chown(path, 12345, 0)
        path.chmod(0o4755)
        self.refused(noexit("--", str(path), "status", "0"), "set-user-id")
        # To the same user it changes nothing, and the loader does not mind.
        os.chown(path, 0, 0)
        path.chmod(0o4755)
        self.assertEqual(noexit("--", str(path), "status", "0").returncode, 0)

    def test_script_without_interpreter(self):
        self.refused(noexit("--", self.file("vmm", b"#!/no/such/sh\n")), "/no/such/sh")

    def test_arguments(self):
        self.refused(noexit(), "name the VMM")
        self.refused(noexit("--latency=soon", "--", "/bin/true"), "whole number")
        self.refused(noexit("--latency=-1", "--", "/bin/true"), "whole number")
        self.refused(noexit("--level=none", "--", "/bin/true"), "straight")
        self.refused(noexit("--code-cache=1", "--", "/bin/true"), "must be from")
        self.refused(noexit("--bogus", "--", "/bin/true"), "unrecognized option")
        self.refused(noexit("--stats=/no/such/dir/file", "--", "/bin/true"), "cannot be written")
        self.refused(run(NOEXIT, "frobnicate"), "no command 'frobnicate'")


class Help(unittest.TestCase):
    def test_version(self):
        for result in (run(NOEXIT, "--version"), noexit("--version")):
            self.assertEqual(result.returncode, 0)
            self.assertRegex(result.stdout, r"^noexit \d+\.\d+\.\d+\n$")

    def test_help(self):
        result = run(NOEXIT, "--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("run", result.stdout)
        result = noexit("--help")
        self.assertEqual(result.returncode, 0)
        for option in ("--off", "--stats=FILE", "--latency=US", "--level=NAME"):
            self.assertIn(option, result.stdout)

    def test_nothing(self):
        result = run(NOEXIT)
        self.assertEqual(result.returncode, REFUSED)
        self.assertIn("Usage:", result.stderr)


class Behaviour(Base):
    """The program is the helper; without noexit it does the same."""

    def both(self, *arguments):
        plain = run(HELPER, *arguments)
        ours = noexit("--", HELPER, *arguments)
        self.assertEqual(ours.returncode, plain.returncode, ours.stderr)
        self.assertEqual(ours.stdout, plain.stdout)
        return ours

    def test_true(self):
        result = noexit("--", "/bin/true")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(len(result.stderr.splitlines()), 1)
        self.assertRegex(result.stderr, "never used KVM|did not use KVM")

    def test_status(self):
        for status in ("0", "1", "2", "77", "255"):
            self.both("status", status)
            self.both("_exit", status)
            self.both("quick_exit", status)

    def test_killed(self):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT):
            result = self.both("kill", str(int(number)))
            self.assertEqual(result.returncode, -number)

    def test_arguments_and_input(self):
        self.both("echo", "a b", "", "--off", "--", "\n")
        result = noexit("--", HELPER, "cat", input="through")
        self.assertEqual(result.stdout, "through")

    def test_options_after_the_program_are_its_own(self):
        result = noexit(HELPER, "echo", "--stats=x", "--help")
        self.assertEqual(result.stdout, "--stats=x\n--help\n")

    def test_same_process(self):
        process = subprocess.Popen([NOEXIT, "run", "--", HELPER, "pid"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        out, _ = process.communicate(timeout=600)
        self.assertEqual(int(out), process.pid)

    def test_fork_says_nothing_twice(self):
        result = self.both("fork", "3")
        self.assertEqual(result.stderr, "")

    def test_vfork_child_that_fails_to_exec(self):
        result = self.both("vfork-exec", "/no/such/program")
        self.assertLessEqual(len(result.stderr.splitlines()), 1)

    def test_exec(self):
        result = self.both("exec", "/bin/echo", "hello")
        self.assertEqual(result.stdout, "hello\n")

    def test_wrapper_script(self):
        """A shell script that execs the VMM: the VMM is what gets preloaded."""
        script = self.file("vmm", f"#!/bin/sh\nexec {HELPER} loaded\n".encode())
        self.assertEqual(noexit("--", script).stdout, "yes\n")
        self.assertEqual(run(script).stdout, "no\n")

    def test_preload_of_the_user_stays(self):
        environment = {**os.environ, "LD_PRELOAD": "libnoexit-test-absent.so"}
        result = noexit("--", HELPER, "env", "LD_PRELOAD", env=environment)
        self.assertTrue(result.stdout.strip().endswith("/libnoexit-kvm.so:libnoexit-test-absent.so"),
                        result.stdout)

    def test_descriptors(self):
        """close, dup, dup2, dup3, fcntl and close_range still do what they did."""
        self.both("descriptors")

    def test_errno(self):
        self.both("errno")

    def test_signal_handlers(self):
        """Ours is called first; nobody can tell."""
        result = self.both("signals")
        self.assertIn("handler with info 10 7 1\n", result.stdout)
        self.assertNotIn("unknown", result.stdout)

    def test_closed_stderr(self):
        """Nothing of ours lands in a file that got standard error's number."""
        path = self.path / "disk"
        self.assertEqual(noexit("--", HELPER, "reopen-stderr", str(path)).returncode, 0)
        self.assertEqual(path.read_bytes(), b"disk")

    def test_mode(self):
        self.assertTrue(os.stat(NOEXIT).st_mode & stat.S_IXUSR)

    def test_stats_file_is_emptied_at_once(self):
        """Figures of an earlier run must not be taken for those of a VMM that was killed."""
        path = self.path / "stats"
        path.write_text(json.dumps({"exits_taken": 5}))
        noexit(f"--stats={path}", "--", HELPER, "kill", "9")
        self.assertEqual(path.read_text(), "")


class Manual(unittest.TestCase):
    def test_options(self):
        """Each option of each command is in the manual, by its long name or its letter."""
        page = (Path(__file__).resolve().parents[2] / "docs/noexit.1").read_text().replace("\\-", "-")
        found = 0
        for command in ("run", "stat", "top", "explain", "check", "bench"):
            text = run(NOEXIT, command, "--help").stdout
            for letter, name in re.findall(r"^ +(?:-(\w), )?(?: +)?--([a-z-]+)", text, re.M):
                found += 1
                with self.subTest(command=command, option=name):
                    self.assertTrue(name == "usage" or f"--{name}" in page
                                    or letter and f"-{letter} " in page.replace('"', ""))
        self.assertGreater(found, 30)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
