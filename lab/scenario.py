# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""One scenario: a guest (or several) in the lab, without and with noexit, and what must be equal.

The table is lab/scenarios.py. A scenario's guest runs `guest` after lab/scenario-init; beside it, in
the lab's host VM, runs `drive` with the functions of lab/drive.sh.
"""

import io
import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "lab"), str(ROOT / "tools")]

import demo  # noqa: E402
import transcript  # noqa: E402
from image import Cpio, Images, LabError  # noqa: E402
from modules import Modules  # noqa: E402
from tool import patience, run_lab  # noqa: E402

MODES = ("off", "on")
# QEMU 7.2's emulation of nested paging does not translate by a guest's PAE tables: its kernel does
# not get to its first line, with noexit and without. With shadow paging KVM walks them itself.
SHADOW_PAGING = "rmmod kvm_amd && insmod /modules/kvm-amd.ko npt=0\n"

# What a guest of a boot does: a checksum, and fifty processes.
SOME_WORK = """seq 200000 | md5sum | sed 's/^/guest: /'
forked=0
while [ $forked -lt 50 ]; do
	true &
	forked=$((forked + 1))
done
wait
say $forked processes
"""


class NotEmulated(LabError):
    """The lab's emulator cannot run the guest, also without noexit."""


@dataclass
class Run:
    """What a scenario left in one mode."""
    consoles: dict  # by machine, in the order of their names
    facts: str
    boot: demo.Boot  # the figures of all its machines together
    machines: dict = field(default_factory=dict)  # their figures one by one, as by --stats
    messages: dict = field(default_factory=dict)  # what QEMU and noexit said, by machine
    counts: dict = field(default_factory=dict)  # (machine, label): figures meanwhile, by counted

    @property
    def console(self):
        return "".join(self.consoles.values())


def guest_lines(run):
    """What the guests said themselves, and the facts that the scenario collected."""
    text = run.console.replace("\r", "")
    return re.findall(r"guest: .*", text) + run.facts.splitlines()


def same_lines(runs):
    """The default comparison."""
    lines = {mode: guest_lines(runs[mode]) for mode in MODES}
    return transcript.unified(lines["off"], lines["on"])


def same_transcript(runs):
    """Everything on the console, but for what differs between any two boots."""
    return transcript.difference(runs["off"].console, runs["on"].console)


@dataclass(frozen=True)
class Scenario:
    """A row of the table."""
    name: str
    about: str
    drive: str = "boot vm -m 192; finish vm"
    guest: str = ""
    kernel: str = "cloud"  # of image.KERNELS
    modules: tuple = ()
    append: str = "quiet"
    expect: tuple = ()  # regular expressions: what each run must have said
    compare: Callable = same_lines
    judge: Callable = lambda run: []  # problems of one run by itself
    report: Callable = lambda runs: []  # lines for people, below the table of exits
    figures: Callable = None  # of a run, {(name, metric): number}, for bench
    avoids: bool = True  # whether noexit has something to avoid here
    cpu: str = "amd"  # the lab's; intel is emulated by Bochs, and slow
    smp: int = 1  # of the lab's host VM
    mem: int = 1024
    seconds: int = 600  # for all runs
    nested: bool = False  # whether the guest is two levels deep: lab/run --nested
    modes: tuple = MODES  # without "off", the guest is judged by what it must have said alone
    needs_luck: bool = False  # may end before noexit comes in: then nothing is said of noexit
    check: bool = False  # part of `make check`
    soak: int = 1  # times in `make soak`
    files: Callable = lambda images, directory: ()  # more for the host VM's /scenario

    def run(self, build, say, keep=None, release=None, limits=""):
        """Runs it in its modes and returns the runs by mode; what they left is kept there.

        release: of the lab, as in lab/run; limits: noexit's, as in noexit run.
        """
        limit = int(self.seconds / 4 * patience())
        with tempfile.TemporaryDirectory(prefix="noexit-guests-") as temporary:
            share = keep or Path(temporary) / "out"
            try:
                self.in_lab(Images(build, say, release), share,
                            f"for mode in {' '.join(self.modes)}; do "
                            f"LIMITS={limits} sh /scenario/drive.sh $mode {limit}; done")
            except LabError as error:
                # What drive.sh says of a run begins with its mode.
                if self.needs_luck and "\non: " not in str(error):
                    raise NotEmulated(str(error)) from error
                raise
            return {mode: self._read(share, mode) for mode in self.modes}

    def _read(self, share, mode):
        try:
            run = read_run(share / mode)
        except LabError as error:
            if self.needs_luck and mode == "off":
                raise NotEmulated(str(error)) from error
            raise
        if self.needs_luck and mode == "off" and self._unmatched(run):
            raise NotEmulated("\n".join(run.console.splitlines()[-8:]))
        return run

    def _unmatched(self, run):
        text = run.console.replace("\r", "") + run.facts
        return [f"nothing matches {pattern!r}" for pattern in self.expect
                if not re.search(pattern, text, re.M)]

    def in_lab(self, images, share, script, progress=lambda line: None):
        """Runs a script that calls drive.sh in one host VM; progress gets each line it prints."""
        with tempfile.TemporaryDirectory(prefix="noexit-guests-") as temporary:
            put = Path(temporary) / "put"
            self._fill(images, put)
            run_lab(images.build,
                    ("--cpu", self.cpu, "--share", str(share), "--smp", str(self.smp),
                     "--mem", str(self.mem), "--timeout", str(self.seconds), "--put", f"{put}:/scenario",
                     *(["--release", images.release] if images.release else ()),
                     *(["--nested"] if self.nested else ()), "--", script), progress)

    def _fill(self, images, put):
        """What /scenario holds in the host VM."""
        put.mkdir()
        kernel = images.kernel(self.kernel)
        (put / "vmlinuz").write_bytes((kernel / "vmlinuz").read_bytes())
        (put / "initrd").write_bytes(self._initrd(images, kernel))
        (put / "drive.sh").write_bytes((ROOT / "lab/drive.sh").read_bytes())
        (put / "drive").write_text(f"append='{self.append}'\n{self.drive}\n", encoding="utf-8")
        self.files(images, put)

    def _initrd(self, images, kernel):
        out = io.BytesIO()
        archive = Cpio(out)
        archive.add_scenario(images.busybox(self.kernel), self.guest + "\n",
                             Modules(kernel).load_order(self.modules))
        timer = images.build / "tests/lab/timer"
        if timer.exists():
            archive.copy(timer, "/bin/timer")
        archive.finish()
        return out.getvalue()

    def problems(self, runs):
        """What is wrong with the runs, as lines; none if noexit changed nothing but exits."""
        found = []
        for mode, run in runs.items():
            found += [f"{mode}: {problem}" for problem in self._unmatched(run) + self.judge(run)]
            found += [f"{mode}: {line}" for line in run.facts.splitlines() if "never true" in line]
        if self.avoids and not runs["on"].boot.avoided:
            found.append("noexit avoided nothing")
        if "off" not in runs:
            return found
        if runs["off"].boot.avoided:
            found.append("noexit avoided exits although it was off")
        return found + list(self.compare(runs))

    def table(self, runs, out):
        """Exits by device, for people."""
        if "off" in runs and runs["off"].machines.keys() == runs["on"].machines.keys():
            demo.exit_table(demo.Comparison(self.name, f"lab-{self.cpu}", [runs["off"].boot],
                                            [runs["on"].boot]), out)
        for line in self.report(runs):
            print(f"  {line}", file=out)


def read_run(directory):
    """Reads what lab/drive.sh left in one mode."""
    def text(name):
        path = directory / name
        return path.read_bytes().decode(errors="replace") if path.exists() else ""

    names = sorted(path.stem for path in directory.glob("*.messages"))
    stats = {"exits_taken": 0, "exits_avoided": 0, "by": []}
    consoles = {}
    machines, said = {}, {}
    for name in names:
        consoles[name] = text(f"{name}.console")
        messages = said[name] = text(f"{name}.messages").strip()
        status = text(f"{name}.status").strip()
        if status != "0":
            tail = "\n".join(consoles[name].strip().splitlines()[-8:])
            raise LabError(f"{directory.name}: machine {name} ended with status {status or 'none'};"
                           f" QEMU and noexit said:\n{messages}\nand the console ended with:\n"
                           f"{tail}\nthe scenario found:\n{text('facts')}")
        figures = machines[name] = json.loads(text(f"{name}.stats"))
        stats["by"] += figures["by"]
        for key in ("exits_taken", "exits_avoided"):
            stats[key] += figures[key]
    wall = float(text("end") or 0) - float(text("start") or 0)
    counts = {tuple(path.name.split(".")[:2]): json.loads(text(path.name))
              for path in directory.glob("*.counts")}
    return Run(consoles, text("facts"), demo.Boot("".join(consoles.values()), wall, stats),
               machines, said, counts)
