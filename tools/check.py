#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Runs every check of the project and ends with one line: N passed, N failed, N skipped.

Counted are the tests that Meson runs, in the build and in three more below it (with clang, under the
address and undefined-behaviour sanitizers, and the KVM host's under the thread sanitizer), and the
checks of the sources themselves.
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Whole machines and foreign programs: nothing that another compiler or a sanitizer adds to.
OUTER_SUITES = ("lab", "kvm", "tools", "fuzz", "valgrind")
# What a host VM of the lab may have, in KiB, with the emulator's own memory.
LAB_KIB = 4 << 20
# Of what a failed test has printed, so many lines stand once more where nobody has to look for them.
LAST_LINES = 25
# Versions differ in how they format and in what they find: one of each judges.
JUDGES = {"clang-format": "clang-format-14", "clang-tidy": "clang-tidy-14"}
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=0:abort_on_error=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


class Tally:
    """What passed, failed and was skipped, and why."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def step(self, name, problem):
        """One check that is no Meson test; problem is empty if it passed."""
        if problem:
            self.fail(name, problem)
            print(f"FAILED: {name}\n{problem.rstrip()}", flush=True)
        else:
            self.passed += 1
            print(f"passed: {name}", flush=True)

    def fail(self, name, said):
        self.failed.append((name, said.strip().splitlines()[-LAST_LINES:]))

    def skip(self, name, reason):
        self.skipped.append((name, reason))

    def meson(self, label, log):
        """Adds the results in Meson's testlog.json; False if there is none."""
        if not log.exists():
            return False
        for line in log.read_text(encoding="utf-8").splitlines():
            test = json.loads(line)
            name = f"{label}{test['name']}"
            said = (test.get("stdout", "") + "\n" + test.get("stderr", "")).strip()
            if test["result"] in ("OK", "EXPECTEDFAIL"):
                self.passed += 1
            elif test["result"] == "SKIP":
                self.skip(name, said.splitlines()[-1] if said else "it did not say why")
            else:
                self.fail(f"{name} ({test['result'].lower()})", said)
        return True

    def close(self):
        print()
        for name, reason in self.skipped:
            print(f"skipped: {name}: {reason}")
        for name, lines in self.failed:
            print(f"failed: {name}", *lines, sep="\n  ")
        print(f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped",
              flush=True)
        return 1 if self.failed or not self.passed else 0


def call(*command, env=None):
    """Runs a command quietly; returns its output if it failed, else nothing."""
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return "" if result.returncode == 0 else result.stdout[-20000:] or "it failed without a word"


def sources(*suffixes):
    """The project's files with these endings; build directories are not ours."""
    for directory in ("engine", "figures", "kvm", "measure", "cli", "examples", "bench", "kernel", "tests", "lab",
                      "tools", ".ci"):
        for file in sorted((ROOT / directory).rglob("*")):
            if file.is_file() and file.suffix in suffixes:
                yield file


def scripts():
    """Shell scripts by their first line: some have no ending."""
    for file in sources("", ".sh"):
        first = file.read_bytes().split(b"\n", 1)[0]
        if first.startswith(b"#!") and first.endswith(b"sh"):
            yield file


def is_there(tally, tool):
    """Whether a tool can judge here; if not, says why it was skipped."""
    program = JUDGES.get(tool, tool)
    if shutil.which(program):
        return True
    known = subprocess.run(["apt-cache", "show", program], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False).returncode == 0
    tally.skip(tool, f"{program} is not installed; run 'make deps' as root" if known
               else f"this release has no {program}, and other versions judge otherwise")
    return False


def check_sources(tally, build):
    """Formatting and static checks."""
    jobs = os.cpu_count() or 1
    if is_there(tally, "clang-format"):
        tally.step("format", call(JUDGES["clang-format"], "--dry-run", "-Werror",
                                  *map(str, sources(".c", ".h"))))
    if is_there(tally, "shellcheck"):
        tally.step("shellcheck", call("shellcheck", "-S", "warning", *map(str, scripts())))
    python = [*sources(".py"), ROOT / "lab/run"]
    problems = []
    for file in python:
        try:
            compile(file.read_bytes(), str(file), "exec")
        except SyntaxError as error:
            problems.append(f"{file}:{error.lineno}: {error.msg}")
    tally.step("python", "\n".join(problems))
    if is_there(tally, "clang-tidy"):
        database = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
        files = sorted({str((Path(entry["directory"]) / entry["file"]).resolve())
                        for entry in database})
        files = [file for file in files if file.endswith(".c") and file.startswith(str(ROOT))]
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            results = pool.map(lambda file: call(JUDGES["clang-tidy"], "--quiet", "-p",
                                                 str(build), file), files)
            tally.step("tidy", "\n".join(filter(None, results)))


def compile_build(directory, options, env, targets=()):
    """Configures a build if it is new, and builds it, or what is named; returns what went wrong."""
    problem = ""
    if not (directory / "build.ninja").exists():
        problem = call("meson", "setup", str(directory), str(ROOT), *options, env=env)
    return problem or call("ninja", "-C", str(directory), *targets)


def test_build(tally, label, directory, arguments=(), env=None):
    """Runs the tests of one build; Meson shows the output of those that fail."""
    log = directory / "meson-logs/testlog.json"
    log.unlink(missing_ok=True)
    known = len(tally.failed)
    status = subprocess.run(["meson", "test", "-C", str(directory), "--no-rebuild",
                             "--print-errorlogs", *arguments], cwd=ROOT, check=False,
                            env={**os.environ, **(env or {})}).returncode
    found = tally.meson(label, log)
    if status and len(tally.failed) == known:
        tally.step(f"{label}meson test", f"it ended with status {status}"
                   + ("" if found else " and left no log"))


def timed(title, action, *arguments, **options):
    """Says what is going on, and how long it took."""
    print(f"== {title}", flush=True)
    start = time.monotonic()
    action(*arguments, **options)
    print(f"== {title}: {time.monotonic() - start:.0f} s\n", flush=True)


def variant(tally, name, build, options, env=None, test_env=None):
    """Builds one more time in another way and runs what does not need whole machines."""
    directory = build / name
    problem = compile_build(directory, options, env)
    tally.step(f"{name} build", problem)
    if not problem:
        outer = [word for suite in OUTER_SUITES for word in ("--no-suite", suite)]
        test_build(tally, f"{name}: ", directory, ["--timeout-multiplier", "4", *outer], test_env)


def race_programs(directory):
    """The programs of suite race, as targets of a build."""
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", str(directory)], text=True,
                                      stdout=subprocess.PIPE, check=True).stdout)
    return [os.path.relpath(test["cmd"][0], directory) for test in tests
            if any(suite.split(":")[-1] == "race" for suite in test["suite"])]


def thread_sanitizer(tally, build):
    """The KVM host's tests once more, for data races. They end in less than a minute."""
    directory = build / "tsan"
    # Fences are not understood, which GCC says; nobody here depends on one but a reader elsewhere.
    problem = compile_build(directory, ["-Db_sanitize=thread", "-Db_lundef=false",
                                        "-Dc_args=-Wno-tsan"], None, ["build.ninja"])
    problem = problem or compile_build(directory, [], None, race_programs(directory))
    tally.step("tsan build", problem)
    if not problem:
        test_build(tally, "tsan: ", directory, ["--timeout-multiplier", "8", "--suite", "race"])


def test_jobs():
    """How many tests may run side by side: as many as there are processors, if memory has room for a
    host VM of the lab in each."""
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    available = int(meminfo.split("MemAvailable:")[1].split()[0])
    return max(1, min(os.cpu_count() or 1, available // LAB_KIB))


def main():
    build = Path(sys.argv[1]).resolve()
    tally = Tally()
    timed("sources", check_sources, tally, build)
    if shutil.which("clang"):
        timed("clang build", variant, tally, "clang", build, ["-Dfuzzers=false"], env={"CC": "clang"})
    else:
        tally.skip("clang build", "clang is not installed; run 'make deps' as root")
    timed("sanitizer build", variant, tally, "asan", build,
          ["-Db_sanitize=address,undefined", "-Db_lundef=false"], test_env=SANITIZER_ENV)
    timed("thread sanitizer", thread_sanitizer, tally, build)
    # A limit is there to end what hangs; on a busy machine everything takes a few times as long.
    timed("tests", test_build, tally, "", build,
          ["--timeout-multiplier", "4", "--num-processes", str(test_jobs())],
          {"LAB_PATIENCE": os.environ.get("LAB_PATIENCE") or "4"})
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
