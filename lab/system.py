# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The Debian system that the lab's host VM is made of: this machine's own, or another release's.

Of another release its QEMU is unpacked, with the firmware and the libraries that it needs, into a
directory that stands for its root. Nothing is installed.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from packages import Apt
from tool import LabError, run_tool

TRIPLET = "x86_64-linux-gnu"
QEMU = "qemu-system-x86_64"
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
FIRMWARE = ("bios*.bin", "kvmvapic.bin", "linuxboot*.bin", "multiboot*.bin", "pvh.bin", "qboot.rom",
            "vgabios*.bin", "efi-*.rom", "pxe-*.rom", "keymaps/*")
FIRMWARE_DIRS = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
# Loaded by name at run time, so that ldd does not see it.
QEMU_MODULES = f"usr/lib/{TRIPLET}/qemu/accel-tcg-x86_64.so"
PACKAGES = ("qemu-system-x86", "seabios", "busybox-static")
# What is kept of those and of what they depend on.
KEPT = (f"usr/bin/{QEMU}", "usr/bin/busybox", f"usr/lib/{TRIPLET}", "usr/lib64", "usr/lib/ipxe",
        "usr/share/qemu", "usr/share/seabios")


def usr(path):
    """The path below /usr that a top-level directory of merged-/usr Debian stands for."""
    return re.sub(r"^/(bin|sbin|lib|lib64)/", r"/usr/\1/", str(path))


def libraries(files, ldd=("ldd",), remedy="run 'make deps'"):
    """The shared libraries and the loader that the ELF files need, as {path: file}."""
    found = {}
    for file in files:
        result = subprocess.run([*ldd, str(file)], capture_output=True, text=True, check=False)
        for line in result.stdout.splitlines():
            if "not found" in line:
                raise LabError(f"{file} needs {line.split()[0]}, which is not installed; {remedy}")
            match = re.search(r"(?:=> )?(/\S+) \(0x", line)
            if match:
                found[usr(match[1])] = match[1]
    return found


def from_folder(found, folder):
    """Those of the libraries that are in the folder, as {path in the host VM: file}."""
    return {f"/usr/lib/{TRIPLET}/{Path(file).name}": file for file in found.values()
            if folder and Path(file).is_relative_to(folder)}


class Own:
    """This machine."""

    root = Path("/")
    release = None
    # What its loader finds libraries by; of another release there is none, and the usual places do.
    library_cache = Path("/etc/ld.so.cache")

    def emulator(self):
        """The words that start its QEMU here."""
        return [QEMU]

    def environment(self):
        """What they need in the environment."""
        return {}

    def qemu(self):
        """The files of its QEMU, as {path in the host VM: file}."""
        found = shutil.which(QEMU)
        if not found:
            raise LabError(f"{QEMU} is not installed; run 'make deps'")
        return self._files([Path(found)])

    def _files(self, programs):
        modules = self.root / QEMU_MODULES
        programs += [modules] if modules.exists() else []
        firmware = [file for folder in FIRMWARE_DIRS for pattern in FIRMWARE
                    for file in sorted((self.root / folder).glob(pattern))]
        files = {usr(f"/{file.relative_to(self.root)}"): file for file in programs + firmware}
        return {**files, **self.libraries(programs)}

    def libraries(self, programs, more=None):
        """The libraries that programs need, likewise; more: a folder with those that it lacks."""
        if not more:
            return libraries(programs)
        places = f"LD_LIBRARY_PATH=/usr/lib/{TRIPLET}:{more}"
        found = libraries(programs, ("env", places, "ldd"))
        own = {path: file for path, file in found.items() if not Path(file).is_relative_to(more)}
        return {**own, **from_folder(found, more)}

    def busybox(self):
        """Its busybox, which must be a static one: there are no libraries in a guest."""
        busybox = Path("/bin/busybox")
        if not busybox.exists() or libraries([busybox]):
            raise LabError("a static /bin/busybox is missing; run 'make deps' "
                           "(package busybox-static)")
        return busybox


class Unpacked(Own):
    """Another release."""

    library_cache = None

    def __init__(self, cache, say, release):
        self.cache = cache
        self.say = say
        self.release = release
        self.root = cache / "root"

    def ready(self):
        """Fetch it, once; the caller holds the lock."""
        if self.root.exists():
            return
        apt = Apt(self.cache, self.say, self.release)
        debs = apt.closure(PACKAGES)
        with tempfile.TemporaryDirectory(dir=self.cache) as work:
            tree = Path(work) / "tree"
            for deb in debs:
                run_tool("dpkg-deb", "-x", str(deb), str(Path(work) / "one"))
                merge(Path(work) / "one", tree)
            chosen = Path(work) / "chosen"
            for name in KEPT:
                if (tree / name).exists():
                    (chosen / name).parent.mkdir(parents=True, exist_ok=True)
                    os.rename(tree / name, chosen / name)
            if not (chosen / LOADER).exists() or not (chosen / f"usr/bin/{QEMU}").exists():
                raise LabError(f"the packages of {self.release} have no {QEMU} or no {LOADER}")
            os.rename(chosen, self.root)
        for deb in debs:
            deb.unlink()

    def _library_path(self):
        return f"{self.root}/usr/lib/{TRIPLET}"

    def loader(self, *options, more=None):
        """The words in front of a program that start it with this release's libraries."""
        places = self._library_path() + (f":{more}" if more else "")
        return [str(self.root / LOADER), "--inhibit-cache", "--library-path", places, *options]

    def emulator(self):
        return [*self.loader(), str(self.root / f"usr/bin/{QEMU}"),
                *(word for folder in FIRMWARE_DIRS for word in ("-L", str(self.root / folder)))]

    def environment(self):
        return {"QEMU_MODULE_DIR": str((self.root / QEMU_MODULES).parent)}

    def qemu(self):
        return self._files([self.root / f"usr/bin/{QEMU}"])

    def libraries(self, programs, more=None):
        found = libraries(programs, self.loader("--list", more=more), "run 'make clean' to have it fetched again")
        inside = {file: Path(file) for file in found.values()}
        files = {usr(f"/{file.relative_to(self.root)}"): file for file in inside.values()
                 if file.is_relative_to(self.root)}
        return {**files, **from_folder(found, more), f"/{LOADER}": self.root / LOADER}

    def busybox(self):
        return self.root / "usr/bin/busybox"


def merge(one, tree):
    """Move an unpacked package into a tree where bin, sbin, lib and lib64 are below usr."""
    for name in ("bin", "sbin", "lib", "lib64", "usr", "etc"):
        source = one / name
        target = tree / (name if name in ("usr", "etc") else f"usr/{name}")
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            run_tool("cp", "-a", "--", f"{source}/.", f"{target}/")
    shutil.rmtree(one)


def loader_version(root):
    """The version of the C library there, for comparing."""
    said = run_tool(str(root / LOADER), "--version")
    match = re.search(r"release version (\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else (0, 0)
