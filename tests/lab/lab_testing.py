# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the lab tests share."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NX_BUILD") or ROOT / "build").resolve()
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "lab"), str(ROOT / "tools")]

SKIPPED = 77
APPARMOR_PARSER = Path("/usr/sbin/apparmor_parser")
# The lab's shell and tools are one program; these are what a Debian system has in their places.
TOOLS = {"dash": "sh", "dirname": "dirname", "printenv": "printenv", "readlink": "readlink", "tr": "tr"}


def lab_tool(name):
    """One of the lab's programs as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(ROOT / "lab" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def skip(reason):
    """Ends the test as skipped, in Meson's way."""
    print(reason)
    sys.exit(SKIPPED)


def need_lab(cpu="amd", release=None):
    """Skips unless the lab can be put together on this machine."""
    from image import Images, LabError
    from machine import MACHINES
    try:
        MACHINES[cpu].need()
        Images(BUILD, print, release).host(cpu)
    except LabError as error:
        skip(f"no lab on this machine: {error}")


def run_lab(command, *options, put=None, **values):
    """Runs a command there; returns its status and what it has said. lab/run's own words are the test's.

    options are words for lab/run, put is {place there: file or folder}, and values are more of
    its options: cpu="intel" is --cpu intel. Those that are None are left out.
    """
    words = [word for name, value in values.items() if value is not None
             for word in (f"--{name}", str(value))]
    for place, source in (put or {}).items():
        words += ["--put", f"{source}:{place}"]
    return subprocess.run([str(ROOT / "lab/run"), *words, *options, "--", command],
                          stdout=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, "NX_BUILD": str(BUILD)})


def said_in_lab(command, *options, **values):
    """Likewise, for a command that has to end well; returns what it has said."""
    result = run_lab(command, *options, **values)
    if result.returncode:
        raise AssertionError(f"the lab failed: {result.stdout}")
    return result.stdout


def shared_files(folder):
    """Returns the texts of the files that came out of the lab (--share), by their paths there."""
    return {str(file.relative_to(folder)): file.read_text(encoding="utf-8", errors="replace")
            for file in Path(folder).rglob("*") if file.is_file()}


def put_package():
    """What the package noexit has, as {place in the lab: file}."""
    return {"/usr/bin/noexit": BUILD / "cli/noexit",
            "/usr/bin/noexit-qemu-x86_64": BUILD / "cli/noexit-qemu-x86_64",
            "/usr/lib/x86_64-linux-gnu/noexit/libnoexit-kvm.so": BUILD / "kvm/libnoexit-kvm.so"}


def put_apparmor(rules, libvirts):
    """AppArmor's rules with libvirt's (a folder) and the package's, made in the folder rules; as above."""
    subprocess.run(("cp", "-r", "/etc/apparmor.d", rules), check=True)
    subprocess.run(("cp", "-r", f"{libvirts}/.", rules), check=True)
    (rules / "abstractions/noexit").write_bytes((ROOT / "debian/apparmor/noexit").read_bytes())
    # They include the site's own, of which there are none.
    for name in ("abstractions/libvirt-qemu", "usr.sbin.libvirtd", "usr.lib.libvirt.virt-aa-helper"):
        (rules / "local" / name).parent.mkdir(parents=True, exist_ok=True)
        (rules / "local" / name).touch()
    return {"/etc/apparmor.d": rules, APPARMOR_PARSER: APPARMOR_PARSER,
            **{f"/usr/bin/{place}": f"/usr/bin/{tool}" for tool, place in TOOLS.items()}}


def write_initrd(path, init, programs=()):
    """Writes a guest's initial file system: busybox, a console, and a script as its first process.

    programs: of this system, with the libraries that they need."""
    from image import Cpio
    with open(path, "wb") as out:
        archive = Cpio(out)
        archive.copy("/bin/busybox", "/bin/busybox")
        archive.device("/dev/console", 5, 1)
        archive.add_programs(programs)
        archive.add("/init", init, 0o755)
        archive.finish()


def main():
    """unittest says "OK" for a run without tests; that must not pass."""
    result = unittest.main(exit=False).result
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
