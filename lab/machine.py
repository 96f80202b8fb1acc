# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The two emulated processors of the lab: how each is started and how its channels are reached."""

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from image import LabError, settings

KERNEL_LINE = "console=ttyS0 quiet panic=-1"


class Machine:
    """One host VM. Its channels are files in a directory of the run, which only ever grow.

    console: kernel messages; output: what the command prints; status: "started", then
    "status N"; the files arrive as a tar archive.
    """

    def __init__(self, images, directory, options):
        self.images = images
        self.directory = Path(directory)
        self.options = options
        self.process = None
        for name in ("console", "output", "status"):
            (self.directory / name).touch()

    def initramfs(self, devices):
        """Host image and this run's part in one file: the kernel unpacks them one after another."""
        path = self.directory / "initrd"
        shutil.copyfile(self.images.host(self.options.cpu), path)
        with open(path, "ab") as out:
            self.images.run_part(out, self.options.put, {
                "/run/lab/settings": settings(devices),
                "/run/lab/command": self.options.command.encode() + b"\n",
            })
        return path

    def start(self):
        """Starts the emulator; its own messages go to the file "emulator".

        It is told to die with us, and is in a session of its own so that a Ctrl-C reaches
        lab/run alone, which then ends it in good order.
        """
        line = self.command_line()
        if not shutil.which(line[0]):
            raise LabError(f"{line[0]} is not installed; run 'make deps' as root")
        with open(self.directory / "emulator", "wb") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *line],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.directory, env=self.environment(),
                                            start_new_session=True)

    def ended(self):
        """Whether the host VM has powered off or died."""
        return self.process.poll() is not None

    def stop(self):
        """Ends the emulator, whatever it is doing."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def unpack(self, target):
        """Brings the files back. The host VM is ours, but names that lead out are refused."""
        data = self.files()
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if not (member.isdir() or member.isreg()):
                    continue
                path = Path(os.path.normpath(target / member.name))
                if not path.is_relative_to(os.path.normpath(target)):
                    raise LabError(f"the lab returned a file outside its folder: {member.name}")
                archive.extract(member, target, set_attrs=False)

    def text(self, name):
        """A channel's content so far."""
        return (self.directory / name).read_text(encoding="utf-8", errors="replace")

    def environment(self):
        """The emulator's environment."""
        return dict(os.environ)


class Amd(Machine):
    """QEMU's TCG emulates SVM with nested paging; virtio serial ports carry the channels."""

    def command_line(self):
        ports = ("output", "status", "files")
        devices = {f"LAB_{port.upper()}": f"/dev/vport0p{i}" for i, port in enumerate(ports, 1)}
        # A terminal, so that programs inside write line by line.
        devices["LAB_OUTPUT"] = "/dev/hvc0"
        line = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                "-accel", "tcg", "-cpu", "max", "-no-reboot",
                "-m", str(self.options.mem), "-smp", str(self.options.smp),
                "-kernel", str(self.images.kernel() / "vmlinuz"),
                "-initrd", str(self.initramfs(devices)), "-append", KERNEL_LINE,
                "-serial", "file:console", "-device", "virtio-serial-pci"]
        for number, port in enumerate(ports, 1):
            kind = "virtconsole" if port == "output" else "virtserialport"
            line += ["-chardev", f"file,id={port},path={port}",
                     "-device", f"{kind},chardev={port},nr={number},name=lab.{port}"]
        return line

    def files(self):
        return (self.directory / "files").read_bytes()


MACHINES = {"amd": Amd}
