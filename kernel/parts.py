# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What both modules are made of that is not ours: a kernel's headers and zydis' source.

Both are fetched with the system's apt and unpacked, not installed.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "lab"))

from image import LabError, locked, run_tool  # noqa: E402
from packages import Apt, kernel_version  # noqa: E402

# The sources of zydis that decode; others encode and write text.
ZYDIS_SOURCES = ("Decoder", "DecoderData", "MetaInfo", "Mnemonic", "Register", "Segment",
                 "SharedData", "Utils")


def say(text):
    """Prints one line about the build itself."""
    print(f"kernel: {text}", file=sys.stderr, flush=True)


# ---- A kernel's headers ----

def download(apt, work, *packages):
    """Returns the .deb files of these packages. apt drops its rights, so all may write to the folder."""
    os.chmod(work, 0o777)
    apt.get("download", *packages, cwd=work)
    return sorted(Path(work).glob("*.deb"))


def fits(version, relation, bound):
    """Returns whether a version is in a package's relation to a bound, by dpkg's rules."""
    return subprocess.run(["dpkg", "--compare-versions", version, relation, bound],
                          check=False).returncode == 0


def available(apt, name):
    """Returns the versions that apt can fetch, the newest first."""
    apt.ready()
    return re.findall(rf"^ *{re.escape(name)} \| *(\S+)",
                      run_tool("apt-cache", *apt.options, "madison", name), re.M)


def dependencies(apt, deb):
    """Returns the packages of its own kernel that a headers package depends on, as package=version.

    The package's own relations are kept: common headers are of the same revision, tools may be of
    a later one, which is all that a mirror has when the kernel was fetched some time ago.
    """
    depends = run_tool("dpkg-deb", "-f", str(deb), "Depends")
    found = {}
    for name, relation, bound in re.findall(
            r"\b(linux-(?:headers|kbuild|compiler)-[\w.+-]+)(?::\w+)? *(?:\(([<>=]+) *([^)]+)\))?",
            depends):
        versions = [version for version in available(apt, name)
                    if not relation or fits(version, relation, bound)]
        if not versions:
            raise LabError(f"apt has no {name} {relation} {bound}".rstrip()
                           + ", which the lab kernel's headers need; run 'make clean', and then "
                             "'apt-get update' as root")
        # The kernel's own revision where it is there.
        found[name] = bound if bound in versions else versions[0]
    return [f"{name}={version}" for name, version in found.items()]


def is_program(file):
    """Returns whether a file is a program in machine code."""
    with file.open("rb") as data:
        return os.access(file, os.X_OK) and data.read(4) == b"\x7fELF"


def run_with_libraries(system, tree):
    """Has the programs in a tree run with the libraries of another release, which are unpacked."""
    programs = [file for file in tree.rglob("*")
                if file.is_file() and not file.is_symlink() and is_program(file)]
    for file in programs:
        file.rename(file.with_name(f"{file.name}.program"))
        # Some call others, whose names they make from their own.
        words = " ".join(map(str, system.loader("--argv0", '"$0"')))
        file.write_text(f'#!/bin/sh\nexec {words} "$0.program" "$@"\n', encoding="ascii")
        file.chmod(0o755)


def fetch_headers(target, images, release, version):
    """Unpacks the headers packages and makes the tree independent of where it lies."""
    say(f"fetching the headers of {release} (once)")
    apt = Apt(images.cache, say, images.release)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        first = download(apt, work, f"linux-headers-{release}={version}")
        debs = download(apt, work, *dependencies(apt, first[0]))
        tree = Path(work) / "tree"
        for deb in debs:
            run_tool("dpkg-deb", "-x", str(deb), str(tree))
        makefile = tree / f"usr/src/linux-headers-{release}/Makefile"
        makefile.write_text(re.sub(r"^include /usr/src/", f"include {target}/usr/src/",
                                   makefile.read_text(encoding="ascii"), flags=re.M),
                            encoding="ascii")
        if images.release:
            images.ready()
            run_with_libraries(images.system, tree)
        os.rename(tree, target)


def compiler(headers):
    """Returns the compiler that the kernel was built with, and that kbuild calls."""
    text = (headers / ".config").read_text(encoding="utf-8")
    return re.search(r'^CONFIG_CC_VERSION_TEXT="(\S+)', text, re.M)[1]


def headers(cache, images, name):
    """Returns the release of a kernel of the lab and its headers, fetched if they are not in the cache, which
    is locked."""
    release, version = kernel_version(images.kernel(name))
    tree = images.kernel_tree(name)
    if tree:
        return release, tree
    target = cache / f"headers-{version}-{release}"
    if not target.exists():
        fetch_headers(target, images, release, version)
    return release, target / f"usr/src/linux-headers-{release}"


# ---- Zydis ----

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


def zydis(cache):
    """Returns the source of the zydis that is installed, fetched if it is not in the cache, which is
    locked."""
    version = run_tool("dpkg-query", "-W", "-f", "${source:Version}", "libzydis-dev")
    target = cache / f"zydis-{version}"
    if not target.exists():
        fetch_zydis(target, version)
    return target


# ---- The folder that kbuild works in ----

@contextlib.contextmanager
def cache_of(build_directory):
    """Yields the folder of fetched and built things, locked: several tests may build at once."""
    cache = Path(build_directory) / "kernel-module"
    cache.mkdir(exist_ok=True)
    with locked(cache / "lock"):
        yield cache


def need_tools(tree, images):
    """Refuses to build with this kernel's headers if a tool is missing. Returns what make is told.

    Another release's compiler is not here. The system's own is taken, and the options that it does not
    know are switched off.
    """
    own = shutil.which(compiler(tree))
    for tool in ("make", "cc" if images.release and not own else compiler(tree)):
        if not shutil.which(tool):
            raise LabError(f"{tool}, which this kernel's modules are built with, is not installed; "
                           "run 'make deps'")
    return [] if own else ["CC=cc", *(f"{option}=" for option in unknown_options("cc"))]


def unknown_options(command):
    """Returns the settings of a kernel's configuration for options that a compiler does not know."""
    known = {"CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT": "-fmin-function-alignment=16"}
    return [name for name, option in known.items()
            if subprocess.run([command, option, "-c", "-x", "c", "/dev/null", "-o", "/dev/null"],
                              stderr=subprocess.DEVNULL, check=False).returncode]


class Folder:
    """A folder of sources from several places. Files that stay the same keep their times, for make."""

    def __init__(self, path):
        self.path, self.kept = path, set()

    def put(self, source, name):
        """Copies a file, or bytes, unless the target is equal."""
        target = self.path / name
        data = source.read_bytes() if isinstance(source, Path) else source
        if not target.exists() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        self.kept.add(target)

    def put_engine(self):
        """Puts the engine there; its assembly is built with the kernel's return thunks."""
        engine = ROOT / "engine"
        for file in engine.rglob("*.[hS]"):
            self.put(file, file.relative_to(ROOT))
            if file.suffix == ".S":
                include = f'#include "thunk.S"\n#include "{file.relative_to(ROOT)}"\n'
                self.put(include.encode(), file.name)
        for file in engine.rglob("*.c"):
            self.put(file, f"nx_{file.name}")

    def put_zydis(self, zydis_source):
        """Puts zydis there."""
        for name in ZYDIS_SOURCES:
            self.put(zydis_source / f"src/{name}.c", f"Zydis_{name}.c")
        for file in [*(zydis_source / "include").rglob("*.h"),
                     *(zydis_source / "src/Generated").glob("*")]:
            base = zydis_source / ("include" if file.suffix == ".h" else "src")
            self.put(file, Path("include") / file.relative_to(base))
        for file in Path("/usr/include/Zycore").rglob("*.h"):
            # In a kernel, newer versions include Linux' own headers, whose types are not the compiler's.
            text = file.read_bytes().replace(b"defined(ZYAN_LINUX) && defined(ZYAN_KERNEL)", b"0")
            self.put(text, Path("include/Zycore") / file.relative_to("/usr/include/Zycore"))

    def remove_stale(self):
        """Removes sources that have not been put there this time, so that kbuild does not find them."""
        for stale in {*self.path.glob("*.[cS]"), *(self.path / "engine").rglob("*.[hS]")} - self.kept:
            if not stale.name.endswith(".mod.c"):
                stale.unlink()
