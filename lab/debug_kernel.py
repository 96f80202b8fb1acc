# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A kernel for the host VM that watches itself, built from Debian's source of the kernel that the lab boots.

It has KASAN, lockdep, and checks of RCU and of sleeping where that is not allowed (debug.config). To build it
takes some ten minutes and 4 GiB, so it is kept. Modules for it are built in its tree.
"""

import os
import re
import shutil
from pathlib import Path

from modules import Modules
from packages import unpack_source
from tool import LabError, run_tool

CONFIG = Path(__file__).resolve().parent / "debug.config"
# By what each is called and the package that it is in.
TOOLS = {"make": "make", "gcc": "gcc", "bc": "bc", "flex": "flex", "bison": "bison", "pahole": "dwarves", "lz4": "lz4"}
LIBELF = Path("/usr/include/gelf.h")


def need_tools():
    """Refuse if something is missing that the kernel is built by."""
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if not LIBELF.exists():
        missing.append("libelf-dev")
    if missing:
        raise LabError(f"a kernel cannot be built here; run 'apt-get install {' '.join(missing)}' as root")


def make(tree, *words):
    """Run the kernel's make."""
    run_tool("make", "-s", "-C", str(tree), f"-j{os.cpu_count() or 1}", *words)


def configure(tree):
    """Set all that debug.config asks for; a kernel without it would watch nothing and report nothing."""
    make(tree, "tinyconfig")
    config = tree / ".config"
    with open(config, "a", encoding="ascii") as out:
        out.write(CONFIG.read_text(encoding="ascii"))
    make(tree, "olddefconfig")
    has = set(config.read_text(encoding="utf-8").splitlines())
    lost = [line for line in CONFIG.read_text(encoding="ascii").splitlines()
            if re.match(r"(# )?CONFIG_", line) and line not in has]
    if lost:
        raise LabError(f"the kernel cannot have {', '.join(lost)}")


def thin(tree):
    """Keep what modules are built with: object files are most of the tree."""
    for file in tree.rglob("*"):
        if file.suffix in (".o", ".a", ".ko", ".cmd") and "scripts" not in file.parts and "tools" not in file.parts:
            file.unlink()


def build(archive, tree, chosen, names):
    """Build it in tree and put the kernel and these modules, without their debugging data, into chosen.

    Returns the kernel's release.
    """
    unpack_source(archive, tree)
    configure(tree)
    make(tree, "bzImage", "modules")
    shutil.copy(tree / "arch/x86/boot/bzImage", chosen / "vmlinuz")
    for file in tree.rglob("*.ko"):
        run_tool("strip", "--strip-debug", str(file))
    Modules(tree).keep(names, chosen)
    release = (tree / "include/config/kernel.release").read_text(encoding="ascii").strip()
    thin(tree)
    return release
