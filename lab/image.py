# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the lab boots: Debian's cloud kernel and the root file systems that go with it.

Two initramfs images are made. The *guest* image is what a guest inside the lab boots: busybox and
lab/guest-init. The *host* image is the lab's host VM: busybox, the KVM modules, QEMU with all that
it needs at the paths it has on this machine (so the same command lines work in both places), and
the guest's kernel and image. It is big and changes rarely, so it is cached, and so are the project's
build outputs. They and what belongs to one run (the command, its files) are archives appended to it,
which the kernel unpacks over the first.

With LAB_KERNEL=debug in the environment the host VM boots a kernel that watches itself (debug_kernel.py);
guests boot Debian's all the same.
"""

import dataclasses
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

import debug_kernel
from modules import Modules
from packages import Apt, kernel_source, own_release
from system import Own, Unpacked, libraries, loader_version
from tool import LabError, locked, replacing, run_tool

LAB = Path(__file__).resolve().parent
SCENARIO_INIT = LAB / "scenario-init"

# By kind of host VM. A nested one runs in QEMU in both labs.
MODULES = {
    "amd": ("virtio_pci", "virtio_console", "kvm-amd"),
    "intel": ("ata_piix", "sd_mod", "kvm-intel"),
    "nested-amd": ("virtio_pci", "virtio_console", "kvm-amd"),
    "nested-intel": ("virtio_pci", "virtio_console", "kvm-intel"),
}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel of Debian's that guests boot: its package, and the drivers that they may load."""
    package: str
    architecture: str
    modules: tuple


KERNELS = {
    "cloud": Kernel("linux-image-cloud-amd64", "amd64",
                    tuple(name for names in MODULES.values() for name in names) + ("button", "evdev")),
    "amd64": Kernel("linux-image-amd64", "amd64",
                    ("ata_piix", "sd_mod", "floppy", "e1000", "8139cp", "virtio_pci",
                     "virtio_net", "virtio_blk")),
    "686-pae": Kernel("linux-image-686-pae", "i386", ("ata_piix", "sd_mod")),
}
# Another one means other libraries.
LIBRARY_CACHE = [file for file in (Path("/etc/ld.so.cache"),) if file.exists()]
# Tests that need neither KVM nor another machine.
APART = ("clusters", "fuzz", "unit")
# One of our own, which host VMs may boot.
DEBUG = "debug"
DEBUG_MODULES = (*MODULES["amd"], "kvm-intel")

DISK_MODULES = ("ata_piix", "sd_mod")
# What is measured lies between the last two lines; nothing else is going on by then.
DISK_GUEST = """
wait_for /dev/sda
say mode $(cat /sys/class/ata_device/dev1.0/xfer_mode 2>/dev/null)
sleep 1
say begins
if grep -q disk=write /proc/cmdline; then
	dd if=/dev/zero of=/dev/sda bs=64k count=4 oflag=direct 2>/dev/null
else
	dd if=/dev/sda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null
fi
say is through
"""


class Cpio:
    """A cpio archive in the format that the kernel unpacks ("newc"), parents made as needed."""

    def __init__(self, out):
        self.out = out
        self.inode = 0
        self.names = {""}

    def _entry(self, name, mode, size, rdev=(0, 0)):
        self.inode += 1
        fields = (self.inode, mode, 0, 0, 1, 0, size, 0, 0, *rdev, len(name) + 1, 0)
        header = "070701" + "".join(f"{f:08x}" for f in fields) + name + "\0"
        self.out.write(header.encode() + bytes(-len(header) % 4))

    def _data(self, data):
        self.out.write(data + bytes(-len(data) % 4))

    def directory(self, path):
        """Makes a directory and those above it."""
        name = path.strip("/")
        if name in self.names:
            return
        self.directory(os.path.dirname(name))
        self.names.add(name)
        self._entry(name, stat.S_IFDIR | 0o755, 0)

    def add(self, path, data, mode=0o644):
        """Adds a regular file, once."""
        name = path.strip("/")
        if name in self.names:
            return
        self.directory(os.path.dirname(name))
        self.names.add(name)
        self._entry(name, stat.S_IFREG | mode, len(data))
        self._data(data)

    def copy(self, source, path=None):
        """Adds a file of this machine, symbolic links resolved."""
        source = Path(source)
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self.add(str(path or source), source.read_bytes(), mode)

    def link(self, path, target):
        """Adds a symbolic link, unless something has that name already."""
        name = path.strip("/")
        if name in self.names:
            return
        self.directory(os.path.dirname(name))
        self.names.add(name)
        self._entry(name, stat.S_IFLNK | 0o777, len(target))
        self._data(target.encode())

    def add_programs(self, programs):
        """Adds programs of this machine, with the libraries that they need."""
        for place, file in {**{program: program for program in programs}, **libraries(programs)}.items():
            self.copy(file, place)
        for name in ("lib", "lib64"):
            self.link(f"/{name}", f"usr/{name}")

    def add_modules(self, modules):
        """Kernel modules, and the order in which they are loaded."""
        for module in modules:
            self.copy(module, f"/modules/{module.name}")
        self.add("/modules/order", "".join(f"{module.name}\n" for module in modules).encode())

    def add_scenario(self, busybox, script, modules):
        """What a guest has that runs a script as scenario-init does."""
        self.copy(busybox, "/bin/busybox")
        self.link("/bin/sh", "busybox")
        self.device("/dev/console", 5, 1)
        self.copy(SCENARIO_INIT, "/init")
        self.add("/scenario", script.encode())
        self.add_modules(modules)

    def device(self, path, major, minor):
        """Adds a character device."""
        self.directory(os.path.dirname(path.strip("/")))
        self._entry(path.strip("/"), stat.S_IFCHR | 0o600, 0, (major, minor))

    def finish(self):
        """Ends the archive; another may follow it in the same file."""
        self._entry("TRAILER!!!", 0, 0)
        self.out.write(bytes(-self.out.tell() % 512))


def unpacked_kernel(image):
    """The kernel proper, where the image is one that takes an emulated guest minutes to unpack.

    QEMU starts both. Where the packed kernel is in an image is in its header (boot.rst, setup_sects,
    payload_offset and payload_length).
    """
    start = ((image[0x1f1] or 4) + 1) * 512 + int.from_bytes(image[0x248:0x24c], "little")
    packed = image[start:start + int.from_bytes(image[0x24c:0x250], "little")]
    if not packed.startswith(b"\xfd7zXZ"):
        return image
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(packed)


class Images:
    """The lab's files under the build directory, made when they are first asked for.

    release: the code name of the Debian release that the lab is made of; None: this machine's.
    """

    def __init__(self, build, say, release=None):
        self.build = build
        self.say = say
        if release and not re.fullmatch(r"[a-z][a-z0-9]*", release):
            raise LabError(f"'{release}' is not the code name of a release")
        self.release = None if release == own_release() else release
        self.runs = build / "lab"
        self.cache = self.runs / self.release if self.release else self.runs
        self.cache.mkdir(parents=True, exist_ok=True)
        self.system = Unpacked(self.cache, say, self.release) if self.release else Own()
        self.host_kernel = os.environ.get("LAB_KERNEL") or "cloud"
        if self.host_kernel not in ("cloud", DEBUG):
            raise LabError(f"LAB_KERNEL is '{self.host_kernel}'; it may be {DEBUG}, or not set")

    def ready(self):
        """Fetches the other release's system, if there is one."""
        if self.release:
            with locked(self.cache / "lock-system"):
                self.system.ready()

    def kernel(self, name="cloud"):
        """The directory of an unpacked kernel package: vmlinuz and *.ko, without their paths.

        The package once fetched is used until `make clean`, so that figures stay comparable
        and no network is needed; apt alone chooses it the first time.
        """
        if name == DEBUG:
            return self._debug_kernel()
        target = self.cache / ("kernel" if name == "cloud" else f"kernel-{name}")
        with locked(self.cache / "lock-kernel"):
            if target.exists() and Modules(target).missing(KERNELS[name].modules):
                shutil.rmtree(target)  # an older table's choice
            if not target.exists():
                self._fetch_kernel(target, KERNELS[name])
        return target

    def _fetch_kernel(self, target, kernel):
        apt = Apt(self.cache, self.say, self.release, kernel.architecture)
        # The package of today that the name stands for: apt names exactly one.
        name = apt.depends(kernel.package, r"linux-image-\d[\w.+-]*")
        with apt.unpacked(name, self.cache) as (deb, tree):
            chosen = tree / "chosen"
            chosen.mkdir()
            image = next(tree.glob("boot/vmlinuz-*")).read_bytes()
            (chosen / "vmlinuz").write_bytes(unpacked_kernel(image))
            Modules(tree).keep(kernel.modules, chosen)
            (chosen / "package").write_text(deb + "\n", encoding="ascii")
            os.rename(chosen, target)

    def kernel_tree(self, name):
        """Where modules for a kernel are built if it is one of our own; None: Debian has packages for that."""
        return self.cache / "kernel-debug-tree" if name == DEBUG else None

    def _debug_kernel(self):
        target, kept = self.cache / "kernel-debug", self.kernel_tree(DEBUG)
        package, version = kernel_source(self.kernel())
        with locked(self.cache / "lock-kernel-debug"):
            if not target.exists():
                apt = Apt(self.cache, self.say, self.release)
                debug_kernel.need_tools()
                shutil.rmtree(kept, ignore_errors=True)
                with apt.unpacked(apt.nearest(package, version), self.cache) as (_, unpacked):
                    self.say("building a kernel that watches itself (once, some ten minutes)")
                    chosen, tree = unpacked / "chosen", unpacked / "tree"
                    chosen.mkdir()
                    release = debug_kernel.build(next(unpacked.glob("usr/src/*.tar.xz")), tree, chosen,
                                                 DEBUG_MODULES)
                    (chosen / "package").write_text(f"linux-image-{release}_{version}_amd64\n",
                                                    encoding="ascii")
                    os.rename(tree, kept)
                    os.rename(chosen, target)
        return target

    def busybox(self, name="cloud"):
        """A static busybox that runs on that kernel."""
        architecture = KERNELS[name].architecture
        if architecture == "amd64":
            return self.system.busybox()
        target = self.cache / f"busybox-{architecture}"
        with locked(self.cache / "lock-busybox"):
            if not target.exists():
                apt = Apt(self.cache, self.say, self.release, architecture)
                with apt.unpacked("busybox-static", self.cache) as (_, tree):
                    os.rename(next(tree.glob("**/bin/busybox")), target)
        return target

    def guest(self):
        """The guest's initramfs."""
        init = LAB / "guest-init"
        busybox = self.system.busybox()
        return self._cached("guest", [init, busybox], self._fill_guest)

    def _fill_guest(self, archive):
        archive.copy(self.system.busybox(), "/bin/busybox")
        archive.link("/bin/sh", "busybox")
        archive.device("/dev/console", 5, 1)
        archive.copy(LAB / "guest-init", "/init")

    def guest_disk(self):
        """The initramfs of `noexit bench ide-pio`: it reads or writes an IDE disk."""
        modules = Modules(self.kernel()).load_order(DISK_MODULES)
        busybox = self.system.busybox()
        return self._cached("disk", [SCENARIO_INIT, busybox, *modules],
                            lambda archive: archive.add_scenario(busybox, DISK_GUEST, modules))

    def host_modules(self, *kinds):
        """The files of the modules that these kinds of host VM load, in that order."""
        return Modules(self.kernel(self.host_kernel)).load_order(
            [name for kind in kinds for name in MODULES[kind]])

    def host(self, cpu):
        """The cached part of the host VM's initramfs."""
        self.ready()
        qemu = self.system.qemu()
        modules = self.host_modules(cpu, f"nested-{cpu}")
        parts = [LAB / "host-init", self.system.busybox(), self.guest(), self.guest_disk(),
                 self.kernel() / "vmlinuz", *modules, *map(Path, qemu.values())]

        def fill(archive):
            self._fill_host(archive, modules, qemu)

        return self._cached(f"host-{cpu}" if self.host_kernel == "cloud" else f"{self.host_kernel}-host-{cpu}",
                            parts, fill)

    def _fill_host(self, archive, modules, qemu):
        for name in ("bin", "sbin", "lib", "lib64"):
            archive.directory(f"/usr/{name}")
            archive.link(f"/{name}", f"usr/{name}")
        for path, file in qemu.items():
            archive.copy(file, path)
        if self.system.library_cache:
            archive.copy(self.system.library_cache)
        archive.copy(self.system.busybox(), "/usr/bin/busybox")
        for applet in run_tool(str(self.system.busybox()), "--list").split():
            archive.link(f"/usr/bin/{applet}", "busybox")
        for module in modules:
            archive.copy(module, f"/modules/{module.name}")
        archive.copy(self.kernel() / "vmlinuz", "/guest/vmlinuz")
        archive.copy(self.guest(), "/guest/initrd")
        archive.copy(self.guest_disk(), "/guest/initrd-disk")
        archive.device("/dev/console", 5, 1)
        archive.copy(LAB / "host-init", "/init")

    def outputs(self, only=None):
        """The project's own programs and libraries in the build directory; only: what is at these places.

        Unless they are asked for, tests that need no KVM are left out: each host VM would unpack them.
        """
        for root, dirs, files in os.walk(self.build):
            # Instrumented builds and what is fetched are not for the lab; *.p are object files.
            dirs[:] = [d for d in dirs if not d.endswith(".p") and not d.startswith("meson-")
                       and not (Path(root) == self.build and d in ("lab", "kernel-module"))
                       and not (only is None and Path(root) == self.build / "tests" and d in APART)
                       and not (Path(root) / d / "build.ninja").exists()]
            for name in files:
                file = Path(root) / name
                if only is not None and not any(file.is_relative_to(self.build / place) for place in only):
                    continue
                if not file.is_symlink() and is_elf(file):
                    yield file

    def outputs_part(self, only=None):
        """Those under /noexit, with the libraries that they need, as a cached archive."""
        outputs = sorted(self.outputs(only))
        name = "outputs" if only is None else f"chosen-{hashlib.sha256(' '.join(sorted(only)).encode()).hexdigest()[:8]}"

        def fill(archive):
            self._fill_outputs(archive, outputs)

        return self._cached(name, [*outputs, *LIBRARY_CACHE], fill)

    def _fill_outputs(self, archive, outputs):
        for path, file in self._output_libraries(outputs).items():
            archive.copy(file, path)
        with tempfile.TemporaryDirectory(dir=self.cache) as work:
            for file in outputs:
                path = Path("/noexit") / file.relative_to(self.build)
                # What a debugger reads is most of a program, and nobody debugs it there.
                small = Path(work) / "small"
                run_tool("objcopy", "--strip-debug", str(file), str(small))
                archive.copy(small, path)
                # Programs ask for a library by its shorter names.
                for name in file.parent.glob("*.so*"):
                    if name.is_symlink() and name.resolve() == file.resolve():
                        archive.link(str(path.parent / name.name), file.name)

    @staticmethod
    def run_part(out, extra, files):
        """Appends what belongs to one run: given files, settings."""
        archive = Cpio(out)
        for path, data in files.items():
            archive.add(path, data)
        for source, target in extra:
            if not source.exists():
                raise LabError(f"there is no file {source} to put into the lab")
            for file in sorted(f for f in source.rglob("*") if f.is_file()) or [source]:
                archive.copy(file, os.path.normpath(f"{target}/{file.relative_to(source)}"))
        archive.finish()

    @staticmethod
    def nested_part(files):
        """What distinguishes a nested host VM from the one around it, as an archive."""
        out = io.BytesIO()
        archive = Cpio(out)
        archive.device("/dev/console", 5, 1)
        for path, data in files.items():
            archive.add(path, data)
        archive.finish()
        return out.getvalue()

    def _output_libraries(self, outputs):
        """What the outputs need, {path: file}: of the C library and what goes with it the newer one."""
        needed = libraries(outputs)
        if not self.release or loader_version(self.system.root) < loader_version(Path("/")):
            return needed
        there = {path: self.system.root / path.strip("/") for path in needed}
        return {path: there[path] if there[path].exists() else file for path, file in needed.items()}

    def _cached(self, name, parts, fill):
        """The archive of that name, made again when any of its parts or this file changed."""
        digest = hashlib.sha256(Path(__file__).read_bytes())
        for part in parts:
            info = part.stat()
            digest.update(f"{part} {info.st_size} {info.st_mtime_ns}\n".encode())
        path = self.cache / f"{name}-{digest.hexdigest()[:16]}.cpio"
        with locked(self.cache / f"lock-{name}"):
            if not path.exists():
                with replacing(path) as out:
                    archive = Cpio(out)
                    fill(archive)
                    archive.finish()
                for old in self.cache.glob(f"{name}-*.cpio"):
                    if old != path:
                        old.unlink()
        return path


def is_elf(file):
    """Whether the file is a linked program or shared library (not an object file)."""
    with open(file, "rb") as data:
        head = data.read(18)
    return head[:4] == b"\x7fELF" and head[16:18] in (b"\x02\0", b"\x03\0")


def settings(values):
    """Shell assignments that survive any character."""
    text = io.StringIO()
    for name, value in values.items():
        quoted = str(value).replace("'", "'\\''")
        text.write(f"{name}='{quoted}'\n")
    return text.getvalue().encode()
