# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the tests of kernel modules share."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / part) for part in ("kernel", "tests/lab", "tools")]

from lab_testing import BUILD, need_lab, run_lab, skip  # noqa: E402

import build_module  # noqa: E402
from image import LabError  # noqa: E402
from tool import COMPLAINTS  # noqa: E402


# What host/vmm.c prints, behind what has been put before it.
VMM = re.compile(r"^(\S+) (\w+) (\w+): digest (\w+) exits (\d+) vmm (\d+) us (\d+)$", re.M)
COUNTER = re.compile(r"^(\S+) (\w+) +(\d+)$", re.M)


def vmm_figures(text):
    """Returns {(word before it, program, mode): (digest, exits, exits for the VMM, us)} of what VMMs have said."""
    return {match.group(1, 2, 3): (match[4], *map(int, match.group(5, 6, 7))) for match in VMM.finditer(text)}


def counters(text):
    """Returns {(word before it, name): value} of what the module has counted."""
    return {match.group(1, 2): int(match[3]) for match in COUNTER.finditer(text)}


def vmms_in_lab(script, *options, **values):
    """Runs VMMs there as run_lab() runs a command; returns what was said, the figures and the counters in it."""
    result = run_lab(script, *options, outputs="tests/kernel/host/vmm", **values)
    if result.returncode == 125:
        raise AssertionError(f"the lab failed: {result.stdout}")
    return result.stdout, vmm_figures(result.stdout), counters(result.stdout)


def build_or_skip(cpu="amd", build=build_module.build, **options):
    """Returns the module and the messages of the compiler and objtool; skips if it cannot be built."""
    need_lab(cpu, options.get("debian"))
    try:
        return build(BUILD, **options)
    except LabError as error:
        return skip(f"the module cannot be built here: {error}")


def complaints(log, *more):
    """Returns the words of complaint that are in a kernel's log."""
    return [word for word in (*COMPLAINTS, *more) if word in log]


def warnings(words):
    """Returns what the compiler and objtool have said about code of ours."""
    return [line for line in words.splitlines() if "warning" in line.lower()
            and "Assembler" not in line and "shortened to" not in line]
