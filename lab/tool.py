# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the lab's Python files share: its error, tools of the system, files that several labs use."""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LAB = Path(__file__).resolve().parent
SKIPPED = 77  # the exit status where there is no lab

# Words of a kernel's log that complain.
COMPLAINTS = ("BUG", "WARNING", "Oops", "Call Trace", "general protection")


class LabError(Exception):
    """The lab itself cannot do what it was asked to; the text names the remedy."""


class NoPackage(LabError):
    """The release has no such package."""


def say(text):
    """One line about the lab itself, apart from what its commands print."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def patience():
    """By what the limits are multiplied that end a lab which hangs: LAB_PATIENCE, for busy machines."""
    return float(os.environ.get("LAB_PATIENCE") or 1)


@contextlib.contextmanager
def locked(path):
    """Hold a lock file: several labs may start at once, and only one fills the cache."""
    with open(path, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replacing(path):
    """Yield a file that appears under its name only when it is complete."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def run_tool(*command, cwd=None, env=None):
    """Run a tool of the system and return its output; a failure is told in the tool's own words."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd,
                                env=env)
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed; run 'make deps'") from error
    if result.returncode:
        raise LabError(f"'{' '.join(command)}' failed: {result.stderr.strip()[-400:]}")
    return result.stdout


def run_lab(build, arguments, progress, last=0):
    """
    Run lab/run with the files of a build directory; progress gets each line that it prints. A failure is told with the
    last of them, 0: with all.
    """
    # It ends with us, also if we are killed.
    command = ["setpriv", "--pdeathsig", "TERM", "--", str(LAB / "run"), *arguments]
    printed = []
    with subprocess.Popen(command, env={**os.environ, "NX_BUILD": str(build)}, text=True, errors="replace",
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as lab:
        try:
            for line in lab.stdout:
                printed.append(line)
                progress(line.rstrip())
        except BaseException:
            lab.terminate()
            raise
    if lab.returncode:
        raise LabError(f"lab/run ended with status {lab.returncode}:\n{''.join(printed[-last:])}")
