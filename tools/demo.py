#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Boots real guests without and with noexit and says what it changed.

Debian's cloud kernel with a busybox userspace under QEMU, on this machine's /dev/kvm where that can
run a stock kernel, in the lab otherwise; and SeaBIOS to its last message, on this machine's
/dev/kvm where there is one. Each boot is done by tools/demo-boot.sh, which is the same in both
places. The figures go to demo.json in the build directory, a page for a browser to demo.html.
"""

import argparse
import collections
import fcntl
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "lab"), str(ROOT / "tools")]

from image import Images, LabError  # noqa: E402
import transcript  # noqa: E402

BOOT = ROOT / "tools" / "demo-boot.sh"
PROBE_SECONDS = 2
KVM_GET_API_VERSION = 0xAE00
KVM_API_VERSION = 12
# A scratch kernel without a root file system has gone through its whole boot when it says this.
PROBE_MARK = b"Unable to mount root fs"


class DemoError(Exception):
    """What went wrong, with the remedy."""


@dataclass
class Boot:
    """One boot: what the guest printed, how long it took, what noexit and KVM counted."""
    console: str
    wall: float
    stats: dict
    kernel_exits: dict = field(default_factory=dict)

    @property
    def taken(self):
        return self.stats["exits_taken"]

    @property
    def avoided(self):
        return self.stats["exits_avoided"]


@dataclass
class Comparison:
    """The same boot without and with noexit, once or several times."""
    name: str
    substrate: str
    without: list
    with_noexit: list

    def difference(self):
        """The first difference between console transcripts, as diff lines."""
        reference = self.without[0].console
        for boot in self.without[1:] + self.with_noexit:
            diff = transcript.difference(reference, boot.console)
            if diff:
                return diff
        return []

    def record(self):
        """The entry of demo.json; of several boots the medians."""
        def median(boots, name):
            return statistics.median(getattr(boot, name) for boot in boots)
        without, with_noexit = (median(b, "taken") for b in (self.without, self.with_noexit))
        return {
            "name": self.name,
            "substrate": self.substrate,
            "exits_without": int(without),
            "exits_with": int(with_noexit),
            "avoided_percent": round(100 * (without - with_noexit) / max(without, 1), 2),
            "wall_without_s": round(median(self.without, "wall"), 2),
            "wall_with_s": round(median(self.with_noexit, "wall"), 2),
            "transcripts_equal": not self.difference(),
        }


class Progress:
    """What is going on: a running clock on a terminal, one line per step elsewhere."""

    def __init__(self):
        self.text = None
        self.lock = threading.Lock()
        self.since = time.monotonic()
        self.live = sys.stdout.isatty()
        if self.live:
            threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self):
        while True:
            with self.lock:
                if self.text:
                    print(f"\r\033[K{self.text} ... {time.monotonic() - self.since:.0f} s", end="",
                          flush=True)
            time.sleep(0.5)

    def step(self, text):
        with self.lock:
            if self.live and self.text:
                print("\r\033[K", end="")
            if text and not self.live:
                print(text + " ...", flush=True)
            self.text, self.since = text, time.monotonic()


def parse_boot(prefix):
    """Reads what demo-boot.sh left."""
    def read(suffix):
        path = Path(str(prefix) + suffix)
        return path.read_bytes().decode(errors="replace") if path.exists() else ""
    values = dict(line.split() for line in read(".result").splitlines())
    messages = read(".messages").strip()
    if values.get("status") != "0":
        tail = "\n".join(read(".console").strip().splitlines()[-5:])
        raise DemoError(f"the boot {prefix.name} ended with status {values.get('status')}; "
                        f"QEMU and noexit said:\n{messages}\nand the console ended with:\n{tail}")
    if not read(".stats"):
        raise DemoError(f"noexit wrote no counters in the boot {prefix.name}; it said:\n{messages}")
    kernel = {int(name.removeprefix("kernel_exits_")): int(count) for name, count in values.items()
              if name.startswith("kernel_exits_")}
    return Boot(read(".console"), float(values["end"]) - float(values["start"]),
                json.loads(read(".stats")), kernel)


def boots(guest, runs, directory, place):
    """Boots in turns without and with noexit, so that a busy machine disturbs both alike."""
    names = [(number, mode) for number in range(1, runs + 1) for mode in ("off", "on")]
    place(guest, names, directory)
    result = {"off": [], "on": []}
    for number, mode in names:
        result[mode].append(parse_boot(directory / f"{guest}-{mode}-{number}"))
    return result["off"], result["on"]


class Native:
    """Boots on this machine's /dev/kvm."""
    substrate = "native"

    def __init__(self, build, progress):
        self.build, self.progress = build, progress
        self.images = Images(build, progress.step)

    def __call__(self, guest, names, directory):
        for number, mode in names:
            self.progress.step(describe(guest, mode, number, "here"))
            subprocess.run(["sh", str(BOOT), guest, str(directory / f"{guest}-{mode}-{number}"),
                            mode, str(self.build / "cli/noexit"),
                            str(self.images.kernel() / "vmlinuz"), str(self.images.guest())],
                           stdin=subprocess.DEVNULL, check=False)


class Lab:
    """Boots in the lab: one host VM for all of them."""

    def __init__(self, build, progress, cpu="amd"):
        self.build, self.progress, self.cpu = build, progress, cpu
        self.substrate = f"lab-{cpu}"

    def __call__(self, guest, names, directory):
        script = "".join(
            f"echo step {number} {mode}\n"
            f"sh /demo-boot.sh {guest} /out/{guest}-{mode}-{number} {mode} /noexit/cli/noexit "
            "/guest/vmlinuz /guest/initrd\n" for number, mode in names)
        self.progress.step("starting the lab")
        said = []
        with subprocess.Popen(
                [str(ROOT / "lab/run"), "--cpu", self.cpu, "--put", f"{BOOT}:/demo-boot.sh",
                 "--share", str(directory), "--timeout", str(600 + 600 * len(names)), "--",
                 script],
                env={**os.environ, "NX_BUILD": str(self.build)}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as lab:
            reader = threading.Thread(target=lambda: said.extend(lab.stderr))
            reader.start()
            for line in lab.stdout:
                words = line.split()
                if words[:1] == ["step"]:
                    self.progress.step(describe(guest, words[2], int(words[1]), "in the lab"))
                else:
                    said.append(line)
            lab.wait()
            reader.join()
        if lab.returncode:
            raise DemoError(f"lab/run ended with status {lab.returncode}:\n{''.join(said)}")


def describe(guest, mode, number, where):
    name = {"linux": "Debian's kernel", "seabios": "SeaBIOS"}[guest]
    again = f", boot {number}" if number > 1 else ""
    return f"booting {name} {'with' if mode == 'on' else 'without'} noexit {where}{again}"


def kvm_here():
    """Whether /dev/kvm can be used at all, and why not."""
    try:
        with open("/dev/kvm", "rb+", buffering=0) as kvm:
            version = fcntl.ioctl(kvm, KVM_GET_API_VERSION)
    except FileNotFoundError:
        return "there is no /dev/kvm"
    except OSError as error:
        return f"/dev/kvm cannot be opened ({error.strerror})"
    return "" if version == KVM_API_VERSION else f"/dev/kvm speaks version {version}, not 12"


def stock_kernel_here(kernel):
    """Whether /dev/kvm carries the demo's kernel through its boot within the probe's time.

    An emulating or otherwise restricted /dev/kvm looks like any other until a real kernel runs
    on it, so that is what is tried. The answer is "" or the reason why not.
    """
    reason = kvm_here()
    if reason:
        return reason
    with tempfile.TemporaryFile() as output:
        qemu = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256", "-net", "none",
             "-vga", "none", "-nographic", "-no-reboot", "-kernel", str(kernel),
             "-append", "console=ttyS0 quiet panic=-1"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            qemu.wait(PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            qemu.kill()
            qemu.wait()
        output.seek(0)
        text = output.read()
    if PROBE_MARK in text:
        return ""
    for line in text.decode(errors="replace").splitlines():
        if "KVM internal error" in line or line.startswith("qemu-system-x86_64:"):
            return f"/dev/kvm cannot run a stock kernel ({line.strip()[:100]})"
    return f"/dev/kvm did not boot a stock kernel within {PROBE_SECONDS} s"


def by_device(boot_list, what):
    """{"kind device": exits}, the median over the boots."""
    sums = []
    for boot in boot_list:
        total = collections.Counter()
        for row in boot.stats["by"]:
            total[f"{row['kind']} {row['device'] or row['address']}"] += row[what]
        sums.append(total)
    return {key: int(statistics.median(total[key] for total in sums))
            for key in set().union(*sums)}


def fold(rows, limit):
    """Rows in order, those with few exits added up in one."""
    rows = sorted(rows, key=lambda row: -max(row[1:]))
    few = [row for row in rows if max(row[1:]) < limit]
    kept = [row for row in rows if row not in few]
    if few:
        kept.append((f"{len(few)} others", *(sum(row[i] for row in few) for i in (1, 2, 3))))
    return kept


def ratio(without, with_noexit):
    return f"{with_noexit / without:.3f}" if without else "-"


def table(comparison, out=sys.stdout):
    """The figures of one guest for people."""
    print(f"\n{comparison.name} ({comparison.substrate}; "
          f"{len(comparison.without)} boot(s) each way)", file=out)
    exit_table(comparison, out)
    for mode, boot in (("without", comparison.without[-1]), ("with", comparison.with_noexit[-1])):
        if boot.kernel_exits:
            print(f"  KVM itself counted {sum(boot.kernel_exits.values())} returns to userspace "
                  f"{mode} noexit, noexit {boot.taken}", file=out)
    diff = comparison.difference()
    print("  console transcripts: " + ("equal" if not diff else "DIFFERENT"), file=out)
    for line in diff:
        print(f"    {line}", file=out)


def exit_table(comparison, out):
    """Exits by device and the wall time."""
    record = comparison.record()
    without, with_noexit, avoided = (
        by_device(comparison.without, "taken"), by_device(comparison.with_noexit, "taken"),
        by_device(comparison.with_noexit, "avoided"))
    counts = [(name, without.get(name, 0), with_noexit.get(name, 0), avoided.get(name, 0))
              for name in without.keys() | with_noexit.keys()]
    counts = fold(counts, record["exits_without"] / 1000)
    counts.append(("all exits", record["exits_without"], record["exits_with"],
                   int(statistics.median(boot.avoided for boot in comparison.with_noexit))))
    rows = [("exits to userspace", "without", "with", "avoided", "ratio")]
    rows += [(name, str(one), str(other), str(saved), ratio(one, other))
             for name, one, other, saved in counts]
    one, other = record["wall_without_s"], record["wall_with_s"]
    rows.append(("wall time, s", f"{one:.2f}", f"{other:.2f}", "", ratio(one, other)))
    width = max(len(row[0]) for row in rows)
    for row in rows:
        print(f"  {row[0]:{width}}  {row[1]:>8}  {row[2]:>8}  {row[3]:>8}  {row[4]:>6}", file=out)
    print(f"  {record['avoided_percent']}% fewer exits", file=out)


def report(build, directory):
    """Makes the page of the first pair of Linux boots; its path."""
    page = build / "demo.html"
    result = subprocess.run(
        [str(build / "cli/noexit"), "report", "--title=Debian's kernel on a serial console", "-o",
         str(page), *(str(directory / f"linux-{mode}-1.stats") for mode in ("off", "on"))],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise DemoError(f"noexit report: {result.stderr.strip()}")
    return page


def run(build, runs, keep):
    if not (build / "cli/noexit").exists():
        raise DemoError(f"{build}/cli/noexit is not built; run 'make'")
    if not shutil.which("qemu-system-x86_64"):
        raise DemoError("qemu-system-x86_64 is not installed; run 'make deps' as root")
    progress = Progress()
    native, lab = Native(build, progress), Lab(build, progress)
    progress.step("trying a stock kernel on /dev/kvm")
    linux_reason = stock_kernel_here(native.images.kernel())
    seabios_reason = kvm_here()
    progress.step(None)
    for what, reason in (("Debian's kernel", linux_reason), ("SeaBIOS", seabios_reason)):
        if reason:
            print(f"{what} boots in the lab, a KVM under emulation: {reason}.", flush=True)

    comparisons = []
    with tempfile.TemporaryDirectory(prefix="noexit-demo-") as temporary:
        directory = Path(keep or temporary)
        directory.mkdir(parents=True, exist_ok=True)
        for name, guest, reason in (("debian-serial-boot", "linux", linux_reason),
                                    ("seabios", "seabios", seabios_reason)):
            place = lab if reason else native
            comparisons.append(Comparison(name, place.substrate,
                                          *boots(guest, runs, directory, place)))
        progress.step(None)
        page = report(build, directory)
    for comparison in comparisons:
        table(comparison)
    records = [comparison.record() for comparison in comparisons]
    (build / "demo.json").write_text(json.dumps({"runs": records}, indent=1) + "\n",
                                     encoding="utf-8")
    print(f"\nwritten: {build / 'demo.json'}")
    print(f"a page of it, for a browser: {page}")
    good = True
    for comparison, record in zip(comparisons, records):
        if not record["transcripts_equal"]:
            print(f"{comparison.name}: the transcripts differ", file=sys.stderr)
            good = False
        if not all(boot.avoided for boot in comparison.with_noexit):
            print(f"{comparison.name}: noexit avoided nothing", file=sys.stderr)
            good = False
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(prog="demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="the build directory")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="boots each way")
    parser.add_argument("--keep", metavar="DIR", help="keep transcripts and counters there")
    options = parser.parse_args()
    try:
        return run(options.build.resolve(), options.runs, options.keep)
    except (DemoError, LabError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
