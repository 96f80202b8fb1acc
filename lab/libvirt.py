# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""libvirt for the lab's host VM: Debian's packages, unpacked, with the libraries that the lab lacks.

Kept is what a system's libvirtd takes to run domains by QEMU, with the rules that AppArmor has for it.
"""

import os
import shutil
import tempfile
from pathlib import Path

from packages import Apt
from system import TRIPLET, libraries, merge
from tool import LabError, locked, run_tool

# Debian 12 has some of these in libvirt-daemon.
PACKAGES = ("libvirt-daemon", "libvirt-clients", "libvirt-daemon-driver-qemu", "libvirt-daemon-driver-storage",
            "libvirt-daemon-driver-secret", "qemu-utils")
# What depends on a whole system, of which nothing but the files for AppArmor and the settings are wanted.
ALONE = ("libvirt-daemon-system", "libvirt-daemon-common", "libvirt-common")
PROGRAMS = ("usr/sbin/libvirtd", "usr/sbin/virtlogd", "usr/bin/virsh", "usr/bin/qemu-img",
            "usr/lib/libvirt/virt-aa-helper", "usr/lib/libvirt/libvirt_iohelper")
PLUGINS = ("connection-driver/libvirt_driver_qemu.so", "connection-driver/libvirt_driver_storage.so",
           "connection-driver/libvirt_driver_secret.so", "storage-backend/libvirt_storage_backend_fs.so",
           "storage-file/libvirt_storage_file_fs.so")
FOLDERS = ("etc/libvirt", "etc/apparmor.d", "usr/share/libvirt/cpu_map", "usr/share/libvirt/schemas")


class Libvirt:
    """The files, below a directory that stands for the host VM's root; fetched once."""

    def __init__(self, images):
        self.images = images
        self.root = images.cache / "libvirt"

    def ready(self):
        """Return the directory, which is for lab/run --put."""
        self.images.ready()
        with locked(self.images.cache / "lock-libvirt"):
            if not self.root.exists():
                self._fetch()
        return self.root

    def _fetch(self):
        apt = Apt(self.images.cache, self.images.say, self.images.release)
        debs = apt.closure(apt.known(PACKAGES))
        with tempfile.TemporaryDirectory(dir=self.images.cache) as work:
            os.chmod(work, 0o777)
            tree, chosen = Path(work) / "tree", Path(work) / "chosen"
            for name in apt.known(ALONE):
                apt.get("download", name, cwd=work)
            for deb in [*debs, *Path(work).glob("*.deb")]:
                run_tool("dpkg-deb", "-x", str(deb), str(Path(work) / "one"))
                merge(Path(work) / "one", tree)
            self._choose(tree, chosen)
            os.rename(chosen, self.root)
        for deb in debs:
            deb.unlink()

    def _choose(self, tree, chosen):
        plugins = [f"usr/lib/{TRIPLET}/libvirt/{name}" for name in PLUGINS]
        programs = [tree / name for name in (*PROGRAMS, *plugins) if (tree / name).exists()]
        if tree / PROGRAMS[0] not in programs:
            raise LabError(f"libvirt's packages have no {PROGRAMS[0]}")
        files = {file.relative_to(tree): file
                 for file in [*programs, *(file for folder in FOLDERS for file in (tree / folder).rglob("*")
                                           if file.is_file())]}
        for path, file in self._libraries(tree, programs).items():
            files[Path(path.strip("/"))] = file
        for path, file in files.items():
            (chosen / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, chosen / path)

    def _libraries(self, tree, programs):
        """The lab's libraries are taken for those of the packages where it has them."""
        return self.images.system.libraries(programs, tree / "usr/lib" / TRIPLET)
