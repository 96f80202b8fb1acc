#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Builds noexit.ko: build_module.py BUILD [--kernel NAME | --source DIR | --fetch-zydis DIR]
Without a network: build_module.py --zydis DIR --source DIR

The module is built for one of the lab's kernels, from headers that are fetched with the system's
apt and unpacked below BUILD, not installed. Its path is printed; the compiler's messages go to the
standard error.

The sources are assembled in one folder first, because kbuild writes its objects beside the
sources, and because the engine's files are spread over several folders.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "lab"))

from image import Images, LabError, locked, run_tool  # noqa: E402

# The sources of zydis but for those that write text.
ZYDIS_SOURCES = ("Decoder", "DecoderData", "Encoder", "EncoderData", "MetaInfo", "Mnemonic",
                 "Register", "Segment", "SharedData", "Utils")


def say(text):
    """Prints one line about the build itself."""
    print(f"kernel: {text}", file=sys.stderr, flush=True)


# ---- Fetching ----

def kernel_version(images, name):
    """Returns (release, package version) of a kernel of the lab."""
    text = (images.kernel(name) / "package").read_text(encoding="ascii")
    match = re.match(r"linux-image-([^_]+?)(?:-unsigned)?_([^_]+)_", text)
    if not match:
        raise LabError(f"the lab kernel's version cannot be told from {text.strip()}; "
                       "run 'make clean'")
    return match[1], match[2].replace("%3a", ":")


def download(work, *packages):
    """Returns the .deb files of these packages. apt drops its rights, so all may write to the folder."""
    os.chmod(work, 0o777)
    run_tool("apt-get", "-q", "download", *packages, cwd=work)
    return sorted(Path(work).glob("*.deb"))


def offered(package, version):
    """Returns package=version if the archive still offers it, and the bare name otherwise.

    linux-kbuild and linux-compiler are built from each upload of the source, also where the kernel
    itself is not the newest; the headers ask for that version or a later one.
    """
    known = run_tool("apt-cache", "madison", package)
    return f"{package}={version}" if f" {version} " in known else package


def dependencies(deb, version):
    """Returns the packages of its kernel that a headers package depends on."""
    depends = run_tool("dpkg-deb", "-f", str(deb), "Depends")
    names = re.findall(r"\b(linux-(?:headers|kbuild|compiler)-[\w.+-]+)", depends)
    return [offered(name, version) for name in dict.fromkeys(names)]


def fetch_headers(target, release, version):
    """Unpacks the headers packages and makes the tree independent of where it lies."""
    say(f"fetching the headers of {release} (once)")
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        first = download(work, f"linux-headers-{release}={version}")
        debs = download(work, *dependencies(first[0], version))
        tree = Path(work) / "tree"
        for deb in debs:
            run_tool("dpkg-deb", "-x", str(deb), str(tree))
        makefile = tree / f"usr/src/linux-headers-{release}/Makefile"
        makefile.write_text(re.sub(r"^include /usr/src/", f"include {target}/usr/src/",
                                   makefile.read_text(encoding="ascii"), flags=re.M),
                            encoding="ascii")
        os.rename(tree, target)


def compiler(headers):
    """Returns the compiler that the kernel was built with, and that kbuild calls."""
    text = (headers / ".config").read_text(encoding="utf-8")
    return re.search(r'^CONFIG_CC_VERSION_TEXT="(\S+)', text, re.M)[1]


def check_kernel(headers):
    """Refuses a kernel with rules for code under which the module has not run yet (docs/kernel.md)."""
    text = (headers / ".config").read_text(encoding="utf-8")
    if re.search("^CONFIG_X86_KERNEL_IBT=y", text, re.M):
        raise LabError("this kernel tracks indirect branches (CONFIG_X86_KERNEL_IBT), and the module "
                       "has not been tried on one that does")


def source_list(parts):
    """Writes the system's package sources again, as sources of source packages."""
    for file in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".sources":
            text = re.sub(r"^Types:.*$", "Types: deb-src", text, flags=re.M)
        elif file.suffix == ".list":
            text = re.sub(r"^deb ", "deb-src ", text, flags=re.M)
        else:
            continue
        (parts / file.name).write_text(text, encoding="utf-8")


def zydis_version():
    """Returns the version of the zydis that is installed."""
    return run_tool("dpkg-query", "-W", "-f", "${source:Version}", "libzydis-dev")


def fetch_zydis(target, version):
    """Fetches the zydis source of this version; apt's own state is left alone."""
    say(f"fetching the source of zydis {version} (once)")
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        work = Path(name)
        parts, lists, cache = work / "parts", work / "lists", work / "cache"
        for directory in (parts, lists / "partial", cache / "archives/partial"):
            directory.mkdir(parents=True)
        source_list(parts)
        apt = ["apt-get", "-q", "-o", "Dir::Etc::SourceList=/dev/null",
               "-o", f"Dir::Etc::SourceParts={parts}", "-o", f"Dir::State::Lists={lists}",
               "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User=root"]
        run_tool(*apt, "update")
        # A mirror may have the archive alone, which apt has checked and which is all that is needed.
        failed = None
        try:
            run_tool(*apt, "source", "--download-only", f"zydis={version}", cwd=name)
        except LabError as error:
            failed = error
        archive = next(work.glob("zydis_*.orig.tar.*"), None)
        if not archive and failed:
            raise failed
        if not archive:
            raise LabError(f"the source package of zydis {version} has no archive; "
                           "see 'apt-get source zydis'")
        with tarfile.open(archive) as tar:
            tar.extractall(work / "source")
        os.rename(next((work / "source").iterdir()), target)


# ---- The folder that kbuild works in ----

def refresh(source, target):
    """Copies a file, or bytes, unless the target is equal: make then has nothing to do."""
    data = source.read_bytes() if isinstance(source, Path) else source
    if not target.exists() or target.read_bytes() != data:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return target


def assemble(work, zydis):
    """Assembles the module's sources in one folder."""
    kept = set()

    def put(source, name):
        kept.add(refresh(source, work / name))

    put(HERE / "Kbuild", "Kbuild")
    for file in (HERE / "dkms").iterdir():
        put(file, file.name)
    for file in (HERE / "kvm").rglob("*.[chS]"):
        put(file, file.relative_to(HERE / "kvm"))
    for file in (HERE / "interface").glob("*.h"):
        put(file, file.name)
    for file in (HERE / "offsets").glob("*.[ch]"):
        put(file, f"offsets/{file.name}")
    for file in (ROOT / "engine").rglob("*.[hS]"):
        put(file, Path("engine") / file.relative_to(ROOT / "engine"))
        if file.suffix == ".S":
            include = Path("engine") / file.relative_to(ROOT / "engine")
            put(f'#include "thunk.S"\n#include "{include}"\n'.encode(), file.name)
    for file in (ROOT / "engine").rglob("*.c"):
        put(file, f"nx_{file.name}")
    for name in ZYDIS_SOURCES:
        put(zydis / f"src/{name}.c", f"Zydis_{name}.c")
    for file in [*(zydis / "include").rglob("*.h"), *(zydis / "src/Generated").glob("*")]:
        base = zydis / ("include" if file.suffix == ".h" else "src")
        put(file, Path("include") / file.relative_to(base))
    for file in Path("/usr/include/Zycore").rglob("*.h"):
        # Newer versions divide by Linux' own headers in a kernel, whose types are not the compiler's.
        text = file.read_bytes().replace(b"defined(ZYAN_LINUX) && defined(ZYAN_KERNEL)", b"0")
        put(text, Path("include/Zycore") / file.relative_to("/usr/include/Zycore"))
    # Kbuild must not find a source that has been removed.
    for stale in {*work.glob("*.[cS]"), *(work / "engine").rglob("*.[hS]")} - kept:
        if not stale.name.endswith(".mod.c"):
            stale.unlink()


def compile_module(work, release, headers, kvm):
    """Builds as DKMS does; returns the module's path and the messages of the compiler and objtool."""
    for tool in ("make", compiler(headers)):
        if not shutil.which(tool):
            raise LabError(f"{tool}, which this kernel's modules are built with, is not installed")
    result = subprocess.run(
        ["sh", str(work / "build"), release, str(headers), str(kvm), str(kvm / "vmlinuz")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"the module does not build:\n{result.stderr}")
    module = work.parent / f"noexit-{work.name.removeprefix('module-')}.ko"
    run_tool("strip", "--strip-debug", "-o", str(module), str(work / "noexit.ko"))
    return module, result.stderr


def build(build_directory, kernel="cloud"):
    """Builds the module for a kernel of the lab; returns its path and the compiler's messages."""
    images = Images(Path(build_directory), say)
    release, version = kernel_version(images, kernel)
    cache = Path(build_directory) / "kernel-module"
    cache.mkdir(exist_ok=True)
    headers, zydis = cache / f"headers-{version}-{release}", cache / f"zydis-{zydis_version()}"
    with locked(cache / "lock"):
        if not headers.exists():
            fetch_headers(headers, release, version)
        check_kernel(headers / f"usr/src/linux-headers-{release}")
        if not zydis.exists():
            fetch_zydis(zydis, zydis_version())
        work = cache / f"module-{release}"
        work.mkdir(exist_ok=True)
        assemble(work, zydis)
        return compile_module(work, release, headers / f"usr/src/linux-headers-{release}",
                              images.kernel(kernel))


def fetched_zydis(build_directory):
    """Return the folder of zydis' source, of the version that is installed."""
    cache = Path(build_directory) / "kernel-module"
    cache.mkdir(exist_ok=True)
    zydis = cache / f"zydis-{zydis_version()}"
    with locked(cache / "lock"):
        if not zydis.exists():
            fetch_zydis(zydis, zydis_version())
    return zydis


def write_zydis(zydis, target):
    """Copy what the module needs of zydis' source, and its licence."""
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
    parser.add_argument("--kernel", default="cloud", help="which of the lab's kernels")
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
        module, words = build(options.build.resolve(), options.kernel)
    except (LabError, RuntimeError) as error:
        say(error)
        return 1
    sys.stderr.write(words)
    print(module)
    return 0


if __name__ == "__main__":
    sys.exit(main())
