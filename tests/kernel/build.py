#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Builds the self-test module for the lab's kernel: build.py BUILD

Fetches, once, with the system's apt and its sources: the headers of exactly the lab's kernel, and
the source of the zydis whose library is installed here. Prints the module's path. Everything lies
in BUILD/lab/selftest, which the lab does not take along.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "lab"), str(ROOT / "kernel")]

from build_module import check_kernel, compiler  # noqa: E402
from image import Images, LabError, locked, run_tool  # noqa: E402

# The sources of zydis but for those that write text.
ZYDIS_SOURCES = ("Decoder", "DecoderData", "Encoder", "EncoderData", "MetaInfo", "Mnemonic",
                 "Register", "Segment", "SharedData", "Utils")


def say(text):
    print(f"selftest: {text}", file=sys.stderr, flush=True)


def kernel_version(images):
    """Returns (release, package version) of the lab's kernel."""
    name = (images.kernel() / "package").read_text(encoding="ascii")
    match = re.match(r"linux-image-([^_]+)_([^_]+)_", name)
    if not match:
        raise LabError(f"cannot tell the lab kernel's version from {name.strip()}; "
                       "run 'make clean'")
    return match[1], match[2]


def download(work, *packages):
    """Returns the .deb files of these packages. apt drops its rights, so all may write to the folder."""
    os.chmod(work, 0o777)
    run_tool("apt-get", "-q", "download", *packages, cwd=work)
    return sorted(Path(work).glob("*.deb"))


def fits(version, relation, bound):
    """Returns whether a version is in a package's relation to a bound, by dpkg's rules."""
    return subprocess.run(["dpkg", "--compare-versions", version, relation, bound],
                          check=False).returncode == 0


def available(name):
    """Returns the versions that apt can fetch, the newest first."""
    return re.findall(rf"^ *{re.escape(name)} \| *(\S+)", run_tool("apt-cache", "madison", name), re.M)


def dependencies(deb):
    """Returns the packages of its own kernel that a headers package depends on, as package=version.

    The package's own relations are kept: common headers are of the same revision, tools may be of
    a later one, which is all that a mirror has when the kernel was fetched some time ago.
    """
    depends = run_tool("dpkg-deb", "-f", str(deb), "Depends")
    found = {}
    for name, relation, bound in re.findall(
            r"\b(linux-(?:headers|kbuild|compiler)-[\w.+-]+)(?::\w+)? *(?:\(([<>=]+) *([^)]+)\))?",
            depends):
        versions = [version for version in available(name)
                    if not relation or fits(version, relation, bound)]
        if not versions:
            raise LabError(f"apt has no {name} {relation} {bound}".rstrip()
                           + ", which the lab kernel's headers need; run 'make clean', and then "
                             "'apt-get update' as root")
        # The kernel's own revision where it is there.
        found[name] = bound if bound in versions else versions[0]
    return [f"{name}={version}" for name, version in found.items()]


def fetch_headers(target, release, version):
    """Unpacks the headers packages and makes the tree independent of where it lies."""
    say(f"fetching the headers of {release} (once)")
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        first = download(work, f"linux-headers-{release}={version}")
        debs = download(work, *dependencies(first[0]))
        tree = Path(work) / "tree"
        for deb in debs:
            run_tool("dpkg-deb", "-x", str(deb), str(tree))
        makefile = tree / f"usr/src/linux-headers-{release}/Makefile"
        makefile.write_text(re.sub(r"^include /usr/src/", f"include {target}/usr/src/",
                                   makefile.read_text(encoding="ascii"), flags=re.M),
                            encoding="ascii")
        os.rename(tree, target)


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


def zydis_version():
    return run_tool("dpkg-query", "-W", "-f", "${source:Version}", "libzydis-dev")


def refresh(source, target):
    """Copies a file, or bytes, unless the target is equal: make then has nothing to do."""
    data = source.read_bytes() if isinstance(source, Path) else source
    if not target.exists() or target.read_bytes() != data:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return target


def wrapped(name, path):
    """Returns assembly with the kernel's return thunks, and its name."""
    return (f'#include "thunk.S"\n#include "{path}"\n').encode(), name


def assemble(work, zydis):
    """Assembles the sources in one folder, as kbuild needs them."""
    kept = set()

    def put(source, name):
        kept.add(refresh(source, work / name))

    for name in ("Kbuild", "module.c", "shim.c", "selftest.h", "thunk.S", "code_area.S",
                 "code_area.h"):
        put(HERE / name, name)
    for header in (HERE / "shim").rglob("*.h"):
        put(header, header.relative_to(HERE))
    put(*wrapped("jump.S", "jump_code.S"))
    put(HERE / "jump.S", "jump_code.S")
    for header in (ROOT / "engine").rglob("*.h"):
        put(header, header.relative_to(ROOT))
    put(ROOT / "engine/run/enter.S", "engine/run/enter.S")
    put(*wrapped("enter.S", "engine/run/enter.S"))
    for source in (ROOT / "engine").rglob("*.c"):
        put(source, f"nx_{source.name}")
    put(ROOT / "tests/mock/mock.h", "mock.h")
    put(ROOT / "tests/mock/mock.c", "mock.c")
    put(ROOT / "tests/mock/near.h", "near.h")
    groups = (HERE / "groups").read_text(encoding="ascii").split()
    put(("#define GROUPS(X) " + " ".join(f"X({name})" for name in groups) + "\n").encode(),
        "groups.h")
    for name in groups:
        put(ROOT / f"tests/clusters/{name}_test.c", f"{name}_test.c")
    for name in ZYDIS_SOURCES:
        put(zydis / f"src/{name}.c", f"Zydis_{name}.c")
    for file in [*(zydis / "include").rglob("*.h"), *(zydis / "src/Generated").glob("*")]:
        base = zydis / ("include" if file.suffix == ".h" else "src")
        put(file, Path("include") / file.relative_to(base))
    for file in Path("/usr/include/Zycore").rglob("*.h"):
        # In a kernel, newer versions divide by Linux' own headers, whose types are not the compiler's.
        text = file.read_bytes().replace(b"defined(ZYAN_LINUX) && defined(ZYAN_KERNEL)", b"0")
        put(text, Path("include/Zycore") / file.relative_to("/usr/include/Zycore"))
    # Kbuild must not find a source that has been removed.
    for stale in set(work.glob("*.[cS]")) - kept:
        if not stale.name.endswith(".mod.c"):
            stale.unlink()


def build(build_directory):
    """Builds the module; returns its path and the messages of the compiler and objtool."""
    images = Images(build_directory, say)
    cache = images.cache / "selftest"
    cache.mkdir(exist_ok=True)
    release, version = kernel_version(images)
    headers, zydis = cache / f"headers-{version}", cache / f"zydis-{zydis_version()}"
    with locked(cache / "lock"):
        if not headers.exists():
            fetch_headers(headers, release, version)
        check_kernel(headers / f"usr/src/linux-headers-{release}")
        if not zydis.exists():
            fetch_zydis(zydis, zydis_version())
        work = cache / "module"
        work.mkdir(exist_ok=True)
        assemble(work, zydis)
        for tool in ("make", compiler(headers / f"usr/src/linux-headers-{release}")):
            if not shutil.which(tool):
                raise LabError(f"{tool} is not installed; run 'make deps'")
        result = subprocess.run(
            ["make", "-C", str(headers / f"usr/src/linux-headers-{release}"), f"M={work}",
             f"-j{os.cpu_count() or 1}",
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
        say(error)
        return 1
    sys.stderr.write(words)
    print(module)
    return 0


if __name__ == "__main__":
    sys.exit(main())
