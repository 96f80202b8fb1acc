# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The two emulated processors of the lab: how each is started and how its channels are reached."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from image import DEBUG, LAB, settings
from modules import plain
from tool import LabError, run_tool

# The emulated time-stamp counter is exact. The kernel may take the emulator's pauses on a busy machine
# for its fault, and then KVM gives its guests another clock, too.
# It also waits for ten ticks of a timer once, and panics if a busy machine gives the emulator no time for
# them: "IO-APIC + timer doesn't work".
KERNEL_LINE = "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check"
# ACPI's interpreter, watched in that way, takes longer than it gives itself.
DEBUG_LINE = f"{KERNEL_LINE} pci=noacpi printk.time=1"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals():
    """A program that is stopped takes its emulator and its files with it, by the usual way out.

    One signal is enough: a Ctrl-C reaches each process of the terminal, and then comes again from
    those that pass it on.
    """
    def end(number, _):
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


# The channels of a host VM that QEMU runs, and the devices that they are in there.
PORTS = ("output", "status", "files")
VIRTIO_DEVICES = {**{f"LAB_{port.upper()}": f"/dev/vport0p{i}" for i, port in enumerate(PORTS, 1)},
                  # A terminal, so that programs inside write line by line.
                  "LAB_OUTPUT": "/dev/hvc0"}
# The machine's clocks count instructions, and do not stand still while it waits.
ICOUNT = ("-icount", "shift=0,sleep=off")
# The outer of two host VMs has the inner one's memory, a copy of both's files, and its own.
OUTER_MIB = 1700


def module_files(modules, vendor, kvm_args, more):
    """Return what tells lab/host-init of modules, as {path in the host VM: data}.

    Those of the lab's own kernel get the parameters of --kvm-args; a kind that none of them is
    named after is a mistake.
    """
    parameters = {}
    for word in kvm_args:
        module, dot, parameter = word.partition(".")
        if not dot or "=" in module:
            module, parameter = vendor, word
        parameters.setdefault(plain(module), []).append(parameter)
    unknown = parameters.keys() - {vendor, "kvm"}
    if unknown:
        raise LabError(f"--kvm-args has parameters of {', '.join(sorted(unknown))}; "
                       f"the lab's modules are {vendor} and kvm")
    own = [shlex.join([f"/modules/{file.name}", *parameters.get(plain(file.name), ())])
           for file in modules]
    files, lines = {}, []
    for number, (file, words) in enumerate(more):
        if not file.is_file():
            raise LabError(f"there is no module {file}")
        path = f"/run/lab/more/{number}/{file.name}"
        files[path] = file.read_bytes()
        lines.append(shlex.join([path, *words]))
    files["/run/lab/modules"] = "".join(f"{line}\n" for line in own).encode()
    files["/run/lab/more-modules"] = "".join(f"{line}\n" for line in lines).encode()
    return files


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
        self.inherited = []
        for name in ("console", "output", "status"):
            (self.directory / name).touch()

    # Programs that the kind of machine takes.
    TOOLS = ()

    @classmethod
    def need(cls):
        """Refuses when something is not installed."""
        for tool in cls.TOOLS:
            if not shutil.which(tool):
                raise LabError(f"{tool} is not installed; run 'make deps' as root")

    def initramfs(self, devices):
        """Host image, the build's outputs and this run's part in one file: the kernel unpacks them one after another."""
        path = self.directory / "initrd"
        shutil.copyfile(self.images.host(self.options.cpu), path)
        files = self.nested_files(devices) if self.options.nested else self.level_files(
            self.options.cpu, devices, self.options.command)
        with open(path, "ab") as out:
            with open(self.images.outputs_part(self.options.outputs), "rb") as outputs:
                shutil.copyfileobj(outputs, out)
            self.images.run_part(out, self.options.put, files)
        return path

    def level_files(self, kind, devices, command, outer=False):
        """What lab/host-init does, at one level."""
        options = self.options
        return {"/run/lab/settings": settings(devices),
                "/run/lab/command": command.encode() + b"\n",
                **module_files(self.images.host_modules(kind), f"kvm_{options.cpu}",
                               options.outer_kvm_args if outer else options.kvm_args,
                               options.outer_kmod if outer else options.kmod)}

    def nested_files(self, devices):
        """Both levels: the outer one's command boots the inner one, whose command is the user's."""
        options = self.options
        if self.images.host_kernel != "cloud":
            raise LabError("a nested lab has Debian's kernel at both levels; unset LAB_KERNEL")
        inner = self.level_files(f"nested-{options.cpu}", VIRTIO_DEVICES, options.command)
        return {**self.level_files(options.cpu, devices, "sh /level1/start", outer=True),
                "/level1/start": (LAB / "level1").read_bytes(),
                "/level1/part": self.images.nested_part(inner),
                "/level1/settings": settings({"LEVEL1_PREFIX": options.outer_prefix,
                                              "LEVEL1_MEM": options.mem, "LEVEL1_SMP": options.smp,
                                              "LEVEL1_APPEND": KERNEL_LINE})}

    @property
    def kernel(self):
        """The kernel that the emulator boots."""
        return self.images.kernel(self.images.host_kernel) / "vmlinuz"

    @property
    def kernel_line(self):
        """What that is told."""
        return DEBUG_LINE if self.images.host_kernel == DEBUG else KERNEL_LINE

    @property
    def mem(self):
        """MiB of the VM that is emulated."""
        return self.options.mem + (OUTER_MIB if self.options.nested else 0)

    def start(self):
        """Starts the emulator; its own messages go to the file "emulator".

        It is told to die with us, and is in a session of its own so that a Ctrl-C reaches
        lab/run alone, which then ends it in good order.
        """
        self.need()
        line = self.command_line()
        with open(self.directory / "emulator", "wb") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *line],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.directory, env=self.environment(),
                                            start_new_session=True,
                                            pass_fds=[end.fileno() for end in self.inherited])
        for end in self.inherited:
            end.close()

    def tend(self):
        """Called several times a second while the machine runs."""

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
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.directory / "files", mode="r:") as archive:
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
        """The emulator's environment.

        Meson has malloc fill memory in tests; Bochs 2.7 uses some that it never set, and aborts.
        """
        return {name: value for name, value in os.environ.items() if name != "MALLOC_PERTURB_"
                } | self.images.system.environment()


class Amd(Machine):
    """QEMU's TCG emulates SVM with nested paging; virtio serial ports carry the channels."""

    TOOLS = ("qemu-system-x86_64", "setpriv")
    NUDGE_SECONDS = 0.2

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.monitor = None
        self.nudged = 0

    def open_monitor(self):
        """Opens QEMU's monitor; returns the descriptor that QEMU inherits."""
        self.monitor, theirs = socket.socketpair()
        self.monitor.setblocking(False)
        self.inherited.append(theirs)
        return theirs.fileno()

    def tend(self):
        """Heals lost interrupts.

        QEMU 7.2 changes a vCPU's word of pending interrupts without a lock when it emulates VMRUN
        and #VMEXIT (target/i386/tcg/sysemu/svm_helper.c), so that now and then a timer interrupt
        raised at that moment by QEMU's main thread is forgotten, and an idle host VM then sleeps
        for ever. Any other interrupt makes its APIC look again; a key is one that nobody there
        minds.
        """
        now = time.monotonic()
        if now - self.nudged < self.NUDGE_SECONDS:
            return
        self.nudged = now
        with contextlib.suppress(OSError):
            self.monitor.send(b"sendkey shift 10\n")
            while self.monitor.recv(65536):
                pass

    def command_line(self):
        self.images.ready()
        line = [*self.images.system.emulator(), "-nodefaults", "-no-user-config", "-display", "none",
                "-accel", "tcg", "-cpu", "max", "-no-reboot", *(ICOUNT if self.options.icount else ()),
                "-m", str(self.mem), "-smp", str(self.options.smp),
                "-kernel", str(self.kernel),
                "-initrd", str(self.initramfs(VIRTIO_DEVICES)), "-append", self.kernel_line,
                "-serial", "file:console", "-device", "virtio-serial-pci",
                "-chardev", f"socket,id=monitor,fd={self.open_monitor()}", "-mon", "monitor"]
        for number, port in enumerate(PORTS, 1):
            kind = "virtconsole" if port == "output" else "virtserialport"
            line += ["-chardev", f"file,id={port},path={port}",
                     "-device", f"{kind},chardev={port},nr={number},name=lab.{port}"]
        return line


BOCHS_SETTINGS = """\
cpu: model={model}, count={smp}, ips={ips}, reset_on_triple_fault=1
memory: guest={mem}, host={host}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
# Nobody looks at the screen, but some display there must be; this one waits for nobody.
display_library: rfb, options="timeout=0"
ata0-master: type=cdrom, path=boot.iso, status=inserted
ata1-master: type=disk, path=files, mode=flat
boot: cdrom
com1: enabled=1, mode=file, dev=console
com2: enabled=1, mode=file, dev=output
com3: enabled=1, mode=file, dev=status
log: bochs.log
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""

GRUB_SETTINGS = """\
set timeout=0
linux /vmlinuz {line}
initrd /initrd
boot
"""


class Intel(Machine):
    """Bochs emulates VMX with EPT. It has no virtio: serial ports and a disk carry the channels."""

    TOOLS = ("bochs-bin", "setpriv", "grub-mkrescue", "xorriso", "mformat")
    FILES_BYTES = 256 << 20
    # Bochs holds no more in its own memory, and keeps the rest in a file when it is touched.
    HOST_MIB = 2048
    # Unless --mips says otherwise.
    MIPS = 100
    # Both have EPT and nested virtualization; the second one has VMCS shadowing, too.
    MODEL, SHADOWING_MODEL = "corei7_sandy_bridge_2600k", "corei7_haswell_4770"

    @property
    def model(self):
        """Bochs's name of the processor."""
        return self.SHADOWING_MODEL if self.options.vmcs_shadowing else self.MODEL

    def command_line(self):
        tree = self.directory / "iso"
        (tree / "boot/grub").mkdir(parents=True)
        (tree / "boot/grub/grub.cfg").write_text(GRUB_SETTINGS.format(line=self.kernel_line),
                                                    encoding="ascii")
        shutil.copyfile(self.kernel, tree / "vmlinuz")
        initramfs = self.initramfs({"LAB_OUTPUT": "/dev/ttyS1", "LAB_STATUS": "/dev/ttyS2",
                                    "LAB_FILES": "/dev/sda"})
        os.rename(initramfs, tree / "initrd")
        run_tool("grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o",
                 str(self.directory / "boot.iso"), str(tree))
        shutil.rmtree(tree)
        with open(self.directory / "files", "wb") as disk:
            disk.truncate(self.FILES_BYTES)
        (self.directory / "bochsrc").write_text(
            BOCHS_SETTINGS.format(model=self.model, mem=self.mem, host=min(self.mem, self.HOST_MIB),
                                  smp=self.options.smp, ips=1000000 * (self.options.mips or self.MIPS)),
            encoding="ascii")
        # Debian's Bochs has the debugger built in and waits for a command.
        (self.directory / "debugger").write_text("c\n", encoding="ascii")
        return ["bochs-bin", "-q", "-f", "bochsrc", "-rc", "debugger"]


MACHINES = {"amd": Amd, "intel": Intel}
