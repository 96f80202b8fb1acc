#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Builds noexit.ko: build_module.py BUILD [--kernel NAME] [--release NAME] | [--source DIR | --fetch-zydis DIR]
Without a network: build_module.py --zydis DIR --source DIR

The module is built for one of the lab's kernels, from headers that are fetched with the system's
apt and unpacked below BUILD, not installed. Its path is printed; the compiler's messages go to the
standard error.

The sources are assembled in one folder first, because kbuild writes its objects beside the
sources, and because the engine's files are spread over several folders.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parent / "lab")]

import parts  # noqa: E402
from image import Images, LabError, run_tool  # noqa: E402


def assemble(work, zydis):
    """Assembles the module's sources in one folder."""
    folder = parts.Folder(work)
    folder.put(HERE / "Kbuild", "Kbuild")
    for file in (HERE / "dkms").iterdir():
        folder.put(file, file.name)
    for file in (HERE / "kvm").rglob("*.[chS]"):
        folder.put(file, file.relative_to(HERE / "kvm"))
    for file in (HERE / "interface").glob("*.h"):
        folder.put(file, file.name)
    for name in ("kernel_stats.h", "share.h", "share_write.h", "share_write.c", "stats.h", "stats.c"):
        folder.put(HERE.parent / "figures" / name, name)
    for file in (HERE / "offsets").glob("*.[ch]"):
        folder.put(file, f"offsets/{file.name}")
    folder.put_engine()
    folder.put_zydis(zydis)
    folder.remove_stale()


def compile_module(work, release, headers, images, kvm):
    """Builds as DKMS does; returns the module's path and the messages of the compiler and objtool."""
    told = parts.need_tools(headers, images)
    result = subprocess.run(
        ["sh", str(work / "build"), release, str(headers), str(kvm), str(kvm / "vmlinuz"), *told],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"the module does not build:\n{result.stderr}")
    module = work.parent / f"noexit-{work.name.removeprefix('module-')}.ko"
    run_tool("strip", "--strip-debug", "-o", str(module), str(work / "noexit.ko"))
    return module, result.stderr


def build(build_directory, kernel=None, debian=None):
    """Builds the module for a kernel of the lab of a Debian release; None: for the one that host VMs boot, of this
    machine's release.

    Returns its path and the compiler's messages.
    """
    images = Images(Path(build_directory), parts.say, debian)
    kernel = kernel or images.host_kernel
    with parts.cache_of(build_directory) as cache:
        release, headers = parts.headers(cache, images, kernel)
        zydis = parts.zydis(cache)
        work = cache / f"module-{release}"
        work.mkdir(exist_ok=True)
        assemble(work, zydis)
        return compile_module(work, release, headers, images, images.kernel(kernel))


def fetched_zydis(build_directory):
    """Returns the folder of zydis' source, of the version that is installed."""
    with parts.cache_of(build_directory) as cache:
        return parts.zydis(cache)


def write_zydis(zydis, target):
    """Copies what the module needs of zydis' source, and its licence."""
    for name in ("include", "src"):
        shutil.copytree(zydis / name, target / name)
    shutil.copy(zydis / "LICENSE", target)


def write_source(zydis, target):
    """Writes a source tree from which DKMS builds the module for any kernel."""
    target.mkdir(parents=True, exist_ok=True)
    assemble(target, zydis)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path, nargs="?")
    parser.add_argument("--kernel", help="which of the lab's kernels (that of its host VMs)")
    parser.add_argument("--release", metavar="NAME", help="of the lab of this Debian release")
    parser.add_argument("--source", type=Path, metavar="DIR",
                        help="build nothing, but put a source tree for DKMS there")
    parser.add_argument("--fetch-zydis", type=Path, metavar="DIR",
                        help="build nothing, but put what is needed of zydis' source there")
    parser.add_argument("--zydis", type=Path, metavar="DIR",
                        help="where zydis' source is; it is not fetched then")
    options = parser.parse_args()
    if not options.build and not (options.source and options.zydis):
        parser.error("BUILD is needed for what has to be fetched")
    try:
        if options.source or options.fetch_zydis:
            zydis = options.zydis or fetched_zydis(options.build.resolve())
        if options.fetch_zydis:
            write_zydis(zydis, options.fetch_zydis)
            return 0
        if options.source:
            write_source(zydis, options.source)
            return 0
        module, words = build(options.build.resolve(), options.kernel, options.release)
    except (LabError, RuntimeError) as error:
        parts.say(error)
        return 1
    sys.stderr.write(words)
    print(module)
    return 0


if __name__ == "__main__":
    sys.exit(main())
