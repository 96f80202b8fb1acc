# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the tests of kernel modules share."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / part) for part in ("kernel", "tests/lab", "tools")]

from lab_testing import BUILD, need_lab, skip  # noqa: E402

import build_module  # noqa: E402
from image import LabError  # noqa: E402
from tool import COMPLAINTS  # noqa: E402


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
