#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Builds the self-test module for the lab's kernel: build.py BUILD

The module is built for the lab's kernel, in BUILD/kernel-module (kernel/parts.py). Its path is printed.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "lab"), str(ROOT / "kernel")]

import parts  # noqa: E402
from image import Images, LabError  # noqa: E402


def assemble(work, zydis):
    """Assembles the sources in one folder, as kbuild needs them."""
    folder = parts.Folder(work)
    for name in ("Kbuild", "module.c", "shim.c", "selftest.h", "code_area.S", "code_area.h"):
        folder.put(HERE / name, name)
    folder.put(ROOT / "kernel/kvm/thunk.S", "thunk.S")
    for header in (HERE / "shim").rglob("*.h"):
        folder.put(header, header.relative_to(HERE))
    # It returns with another stack pointer than it was called with, which objtool cannot follow.
    folder.put(b'#include "thunk.S"\n\tSTACK_FRAME_NON_STANDARD shim_leave\n'
               b'#include "jump_code.S"\n', "jump.S")
    folder.put(HERE / "jump.S", "jump_code.S")
    folder.put_engine()
    folder.put(ROOT / "tests/mock/mock.h", "mock.h")
    folder.put(ROOT / "tests/mock/mock.c", "mock.c")
    folder.put(ROOT / "tests/mock/near.h", "near.h")
    folder.put(ROOT / "tests/mock/secret.h", "secret.h")
    groups = (HERE / "groups").read_text(encoding="ascii").split()
    folder.put(("#define GROUPS(X) " + " ".join(f"X({name})" for name in groups) + "\n").encode(),
               "groups.h")
    for name in groups:
        folder.put(ROOT / f"tests/clusters/{name}_test.c", f"{name}_test.c")
    folder.put_zydis(zydis)
    folder.remove_stale()


def build(build_directory):
    """Builds the module; returns its path and the messages of the compiler and objtool."""
    images = Images(build_directory, parts.say)
    with parts.cache_of(build_directory) as cache:
        release, headers = parts.headers(cache, images, images.host_kernel)
        zydis = parts.zydis(cache)
        work = cache / f"selftest-{release}"
        work.mkdir(exist_ok=True)
        assemble(work, zydis)
        parts.need_tools(headers, images)
        result = subprocess.run(
            ["make", "-C", str(headers), f"M={work}", f"-j{os.cpu_count() or 1}",
             # Newer headers generate type information with tools that are not installed; it is not used.
             "PAHOLE=true", "RESOLVE_BTFIDS=true", "modules"], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"the module does not build:\n{result.stderr}")
    return work / "noexit-selftest.ko", result.stderr


def main():
    try:
        module, words = build(Path(sys.argv[1]).resolve())
    except (LabError, RuntimeError) as error:
        parts.say(error)
        return 1
    sys.stderr.write(words)
    print(module)
    return 0


if __name__ == "__main__":
    sys.exit(main())
