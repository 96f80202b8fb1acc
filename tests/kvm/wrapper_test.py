# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""noexit-qemu-x86_64: what it passes on, what QEMU answers through it, what it refuses."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

NOEXIT, WRAPPER = (os.path.abspath(path) for path in sys.argv[1:3])
QEMU = shutil.which("qemu-system-x86_64")
REFUSED = 2
FAKE_QEMU = b"""#!/bin/sh
for argument; do printf '%s\\0' "$argument"; done
printf '%s\\0' "preload=${LD_PRELOAD-}" "latency=${NOEXIT_LATENCY-}" "gap=${NOEXIT_MAX_GAP-}"
exit 7
"""
PROBE = ("-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=kvm:tcg")


class Base(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)
        # As installed: the wrapper beside the command.
        self.wrapper = self.path / "noexit-qemu-x86_64"
        shutil.copy(WRAPPER, self.wrapper)
        (self.path / "noexit").symlink_to(NOEXIT)
        self.fake = self.path / "fake-qemu"
        self.fake.write_bytes(FAKE_QEMU)
        self.fake.chmod(0o755)
        self.config = self.path / "qemu.conf"
        self.config.write_text("")
        self.environment = {**os.environ, "NOEXIT_QEMU_CONFIG": str(self.config),
                            "NOEXIT_QEMU": str(self.fake)}

    def run_wrapper(self, *arguments, **environment):
        return subprocess.run((self.wrapper, *arguments), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=600, check=False,
                              env={**self.environment, **environment})


class Wrapper(Base):
    """With a stand-in for QEMU that says what it was given."""

    def told(self, result):
        """What the stand-in for QEMU was given: arguments, and variables."""
        self.assertEqual(result.returncode, 7, result.stderr)
        words = result.stdout.decode().split("\0")[:-1]
        return words[:-3], dict(word.split("=", 1) for word in words[-3:])

    def refused(self, result, text):
        self.assertEqual(result.returncode, REFUSED)
        self.assertEqual(result.stdout, b"")
        self.assertRegex(result.stderr.decode(), f"^noexit: [^\n]*{text}[^\n]*\n$")

    def test_arguments_and_status(self):
        arguments = ["-name", "two words", "", "*", "$HOME", "a'b\"c\\", "line\nline", "-machine",
                     "pc,accel=kvm", "-append", "-machine none"]
        given, variables = self.told(self.run_wrapper(*arguments))
        self.assertEqual(given, arguments)
        self.assertIn("libnoexit-kvm.so", variables["preload"])

    def test_probes_are_left_alone(self):
        for probe in (PROBE, ("-M", "none"), ("-machine", "type=none,accel=tcg")):
            given, variables = self.told(self.run_wrapper(*probe))
            self.assertEqual(given, list(probe))
            self.assertEqual(variables["preload"], "")

    def test_options(self):
        self.config.write_text("# a comment\n\nlatency=70\nmax-gap=9")
        _, variables = self.told(self.run_wrapper())
        self.assertEqual((variables["latency"], variables["gap"]), ("70", "9"))
        _, variables = self.told(self.run_wrapper(NOEXIT_LATENCY="30"))
        self.assertEqual((variables["latency"], variables["gap"]), ("30", "9"))

    def test_qemu_of_the_configuration(self):
        self.config.write_text(f"qemu={self.fake}\n")
        del self.environment["NOEXIT_QEMU"]
        self.told(self.run_wrapper())

    def test_qemu_in_the_path(self):
        del self.environment["NOEXIT_QEMU"]
        self.fake.rename(self.path / "qemu-system-x86_64")
        self.told(self.run_wrapper(PATH=f"{self.path}:{os.environ['PATH']}"))

    def test_refusals(self):
        self.refused(self.run_wrapper(NOEXIT_QEMU="/no/such/qemu"), "'/no/such/qemu' is no program")
        self.refused(self.run_wrapper(NOEXIT_QEMU_CONFIG="/no/such"), "cannot be read")
        self.config.write_text("latency\n")
        self.refused(self.run_wrapper(), "'latency' is not option=value")
        self.config.write_text("LATENCY;rm=1\n")
        self.refused(self.run_wrapper(), "there is no option")

    def test_without_the_command(self):
        """QEMU starts all the same."""
        (self.path / "noexit").unlink()
        result = self.run_wrapper("-x", PATH="/usr/bin:/bin")
        self.assertEqual(self.told(result)[0], ["-x"])
        self.assertIn(b"the command noexit is missing", result.stderr)

    def test_signals(self):
        """The wrapper's process becomes QEMU: a signal to it is one to QEMU."""
        self.fake.write_bytes(b"#!/bin/sh\necho $$\nexec sleep 60\n")
        with subprocess.Popen((self.wrapper, "-x"), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, env=self.environment) as process:
            self.assertEqual(int(process.stdout.readline()), process.pid)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(10), -signal.SIGTERM)


@unittest.skipUnless(QEMU, "QEMU is not installed")
class Qemu(Base):
    """What libvirt does, with QEMU itself and through the wrapper."""

    QUESTIONS = ("query-version", "query-kvm", "query-target", "query-machines",
                 "query-cpu-definitions", "query-commands", "qom-list-types")

    def setUp(self):
        super().setUp()
        self.environment["NOEXIT_QEMU"] = QEMU

    def ask(self, program):
        """QEMU's answers on a socket, started in the background as libvirt's probe does it."""
        monitor, pidfile = self.path / "monitor", self.path / "pid"
        started = subprocess.run(
            (program, *PROBE, "-qmp", f"unix:{monitor},server=on,wait=off", "-pidfile", pidfile,
             "-daemonize"), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=600, check=False)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(monitor))
            stream = connection.makefile("rw")
            answers = [json.loads(stream.readline())]
            for question in ("qmp_capabilities", *self.QUESTIONS):
                stream.write(json.dumps({"execute": question}))
                stream.flush()
                answers.append(json.loads(stream.readline()))
            stream.write('{"execute": "quit"}')
            stream.flush()
        for _ in range(15000):
            if not pidfile.exists():
                break
            time.sleep(0.02)
        return started.returncode, started.stdout, started.stderr, answers

    def test_probe(self):
        plain, wrapped = self.ask(QEMU), self.ask(self.wrapper)
        self.assertEqual(plain[0], 0, plain[2])
        self.assertEqual(len(plain[3]), len(self.QUESTIONS) + 2)
        self.assertNotIn("error", plain[3][3])
        self.assertEqual(plain, wrapped)

    def test_words(self):
        """What QEMU prints about itself, and its complaints."""
        for arguments in (("-version",), ("-machine", "help"), ("-no-such-option",)):
            plain = subprocess.run((QEMU, *arguments), capture_output=True, check=False)
            wrapped = self.run_wrapper(*arguments)
            self.assertEqual(wrapped.returncode, plain.returncode)
            self.assertEqual(wrapped.stdout, plain.stdout)

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no /dev/kvm")
    def test_machine(self):
        result = subprocess.run(
            (self.wrapper, "-accel", "kvm", "-display", "none", "-net", "none", "-S", "-monitor",
             "stdio"), input=b"quit\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.environment, timeout=600, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stderr, rb"noexit: \d+ exits taken, \d+ avoided")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
