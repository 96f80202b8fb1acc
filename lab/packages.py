# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Debian packages that the lab takes apart without installing them, of this machine's release or another.

apt does the work: it verifies what it fetches, resolves what depends on what, and knows about mirrors and
proxies. For another release or architecture, and for sources, it gets lists and a state of its own
below the build directory, so that the system's configuration stays as it is. The mirrors are
those that the system itself uses.
"""

import contextlib
import os
import platform
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tool import LabError, NoPackage, run_tool

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# A release without updates is one to work with; without its main suite there is none.
SUITES = (("", "Debian"), ("-updates", "Debian"), ("-security", "Debian-Security"))


def own_release():
    """Return the code name of the release that this machine runs."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def mirrors():
    """Return where the system's apt gets Debian's archives from: {label of the archive: address}."""
    listed = run_tool("apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)",
                      "Created-By: Packages")
    found = {}
    for line in listed.splitlines():
        origin, label, address = line.split("|", 2)
        if origin == "Debian":
            found.setdefault(label, address)
    if "Debian" not in found:
        raise LabError("apt has no lists of Debian's archive; run 'apt-get update' as root")
    return found


def source_lines(release, kind="deb"):
    """Return apt's sources for a release, from the mirrors of this machine."""
    known = mirrors()
    return [f"{kind} [signed-by={KEYRING}] {known[label]} {release}{suffix} main"
            for suffix, label in SUITES if label in known]


def kernel_version(kernel):
    """Return (release, package version) of a kernel in a directory of the lab's, which has its package's name."""
    package = (kernel / "package").read_text(encoding="ascii")
    match = re.match(r"linux-image-(\d+\.\d+[^_]*?)(?:-unsigned)?_([^_]+)_", package)
    if not match:
        raise LabError(f"the lab kernel's version cannot be told from {package.strip()}; "
                       "run 'make clean'")
    return match[1], match[2].replace("%3a", ":")


def kernel_source(kernel):
    """Return (name, version) of the package with that kernel's source."""
    release, version = kernel_version(kernel)
    return f"linux-source-{'.'.join(re.findall('[0-9]+', release)[:2])}", version


def unpack_source(archive, target, parts=("",)):
    """Unpack what begins so of a kernel's source, without the folder that it is in."""
    with tarfile.open(archive, mode="r|xz") as source:
        for member in source:
            member.name = member.name.partition("/")[2]
            if member.name and member.name.startswith(parts) and (
                    member.isfile() or member.issym() or member.isdir()):
                source.extract(member, target)


class Apt:
    """One set of package lists: the system's own, or a private one below a directory."""

    def __init__(self, cache, say, release=None, architecture=None, kind="deb"):
        native = run_tool("dpkg", "--print-architecture").strip()
        self.cache = cache
        self.say = say
        self.release = release or own_release()
        self.architecture = architecture or native
        self.kind = kind
        self.state = None
        if (release, self.architecture, kind) != (None, native, "deb"):
            name = "apt-sources" if kind == "deb-src" else f"apt-{self.architecture}"
            self.state = cache / name
        # The system's own lists are good enough for its own release of another architecture.
        self.own_sources = release is None and kind == "deb"

    @property
    def options(self):
        """The words that make apt use these lists."""
        if not self.state:
            return []
        options = [f"APT::Architecture={self.architecture}",
                   f"APT::Architectures::={self.architecture}", f"Dir::State={self.state}",
                   f"Dir::State::status={self.state}/status", f"Dir::Cache={self.state}/cache",
                   "APT::Get::List-Cleanup=0"]
        if not self.own_sources:
            options += ["Dir::Etc::SourceList=/dev/null",
                        f"Dir::Etc::SourceParts={self.state}/sources", "Dir::Etc::Preferences=/dev/null",
                        "Dir::Etc::PreferencesParts=/dev/null"]
        return [word for option in options for word in ("-o", option)]

    def ready(self):
        """Make the private lists, once."""
        if not self.state or self.has_lists():
            return
        if not self.own_sources and not KEYRING.exists():
            raise LabError(f"there is no {KEYRING} to verify packages of {self.release} by; "
                           "install debian-archive-keyring")
        for place in ("lists/partial", "cache/archives/partial", "sources"):
            (self.state / place).mkdir(parents=True, exist_ok=True)
        (self.state / "status").touch()
        if not self.own_sources:
            (self.state / "sources/noexit.list").write_text(
                "".join(f"{line}\n" for line in source_lines(self.release, self.kind)),
                encoding="utf-8")
        # apt drops its rights to download, so its user must reach the directories.
        for place in (self.state, *self.state.rglob("*/")):
            os.chmod(place, 0o777 if place.is_dir() else 0o666)
        self.update()

    def has_lists(self):
        """Return whether lists of packages are there."""
        kind = "Sources" if self.kind == "deb-src" else "Packages"
        return any((self.state / "lists").glob(f"*_{kind}*"))

    def update(self):
        """Fetch the private lists; one that cannot be had does not matter if the package is in another."""
        self.say(f"fetching package lists of {self.release}")
        result = subprocess.run(["apt-get", "-q", *self.options, "update"], capture_output=True,
                                text=True, check=False)
        if not self.has_lists():
            said = [line for line in result.stderr.splitlines() if line.startswith(("E:", "W:"))]
            raise LabError(f"apt has no package lists of {self.release} ({self.architecture}): "
                           f"{' '.join(said)[-400:] or 'there are none on the mirror'}")

    def get(self, *words, cwd=None):
        """Run apt-get. Old lists name versions that the mirror no longer has: then it is tried again."""
        self.ready()
        try:
            return run_tool("apt-get", "-q", *self.options, *words, cwd=cwd)
        except LabError:
            if not self.state:
                raise
            self.update()
            return run_tool("apt-get", "-q", *self.options, *words, cwd=cwd)

    def depends(self, package, pattern):
        """Return the first dependency of a package that matches, which names apt's choice of today."""
        self.ready()
        try:
            text = run_tool("apt-cache", *self.options, "depends", package)
        except LabError:
            text = ""
        match = re.search(rf"Depends: ({pattern})$", text, re.M)
        if match:
            return match[1]
        if self.state:
            raise NoPackage(f"{self.release} has no package {package} ({self.architecture})")
        raise LabError(f"apt knows no {package}; run 'apt-get update' as root")

    def nearest(self, package, version):
        """Return what to ask for: the package of that version, or without it the one that there is."""
        self.ready()
        known = run_tool("apt-cache", *self.options, "madison", package)
        return f"{package}={version}" if f" {version} " in known else package

    @contextlib.contextmanager
    def unpacked(self, name, cache):
        """Fetch and unpack a package: yields its file's name and the tree, which goes away."""
        self.say(f"fetching {name} (once)")
        with tempfile.TemporaryDirectory(dir=cache) as work:
            os.chmod(work, 0o777)
            self.get("download", name, cwd=work)
            deb = next(Path(work).glob("*.deb"))
            tree = Path(work) / "tree"
            run_tool("dpkg-deb", "-x", str(deb), str(tree))
            yield deb.name, tree

    def known(self, names):
        """Return those of the names that are packages of the release: releases cut them differently."""
        self.ready()
        lines = run_tool("apt-cache", *self.options, "madison", *names).splitlines()
        there = {line.split("|")[0].strip() for line in lines}
        return [name for name in names if name in there]

    def closure(self, names):
        """Fetch packages with all that they depend on, as on an empty machine; returns the files."""
        place, empty = self.state, []
        if not place:
            # The system's lists, but nothing of what is installed.
            place = self.cache / "apt-empty"
            (place / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
            (place / "status").touch()
            # apt drops its rights to download, so its user must reach the directories.
            for folder in (place, *place.rglob("*/")):
                os.chmod(folder, 0o777 if folder.is_dir() else 0o666)
            empty = ["-o", f"Dir::State::status={place}/status", "-o", f"Dir::Cache={place}/cache"]
        self.say(f"fetching {', '.join(names)} of {self.release} (once)")
        self.get(*empty, "install", "--download-only", "--yes", "--no-install-recommends", *names)
        return sorted((place / "cache/archives").glob("*.deb"))
