# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The module around a hypervisor whose machine is stopped, saved, loaded, migrated and reset.

hypervisor.S is the hypervisor, and its guest runs most of the time. QEMU does to it what people do: it is
stopped and goes on, a snapshot is made and loaded, it is migrated to a file and goes on in another process, it is
reset. Its guest ends in a triple fault. What is printed must be the same without and with the module in the
kernel below, and as if nobody had touched the machine.
"""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from module_testing import build_or_skip, complaints  # noqa: E402

from lab_testing import BUILD, ROOT, main, said_in_lab, shared_files  # noqa: E402

# As in hypervisor.S.
LINES, ROUNDS, LOOPS = 200, 6, 60000
MASK = 0xffffffff
# For lab/drive.sh. The machines' disk is a raw file with a layer of QEMU's own for snapshots.
DRIVE = """
append=
machine() { start "$@" -m 16 -snapshot -drive file=/scenario/hypervisor.bin,format=raw,if=ide; }
machine plain
finish plain

machine stopped
for line in 0020 0040 0060 0080; do
	await stopped "^$line "
	hmp stopped stop
	settled stopped
	hmp stopped info registers
	settled stopped
	hmp stopped cont
done
finish stopped

machine saved
await saved '^0020 '
hmp saved stop
settled saved
hmp saved savevm here
settled saved
from=$(size saved)
hmp saved cont
await saved '^0060 '
hmp saved stop
settled saved
to=$(size saved)
hmp saved loadvm here
hmp saved cont
finish saved
cut_out saved $from $to

machine moved
for next in moved2 moved3; do
	await $name '^00[2-9]0 '
	hmp $name "migrate \\"exec:cat >$work/state\\""
	settled $name
	hmp $name quit
	finish $name
	machine $next -incoming "exec:cat $work/state"
done
finish moved3

machine reset
await reset '^0040 '
hmp reset system_reset
began_again() { [ "$(grep -ac begin "$out/reset.console")" -gt 1 ]; }
until_true began_again
finish reset
"""
SCRIPT = """
dmesg -c >/dev/null
sh /scenario/drive.sh off 300 stock
insmod /root/noexit.ko all=1 latency_us=1000000
sh /scenario/drive.sh off 300 with
sed 's/^/total /' /sys/kernel/debug/noexit/totals
rmmod noexit
dmesg >/out/log
"""


def digests(cpuid):
    """Returns the lines that hypervisor.S prints where CPUID has that answer for 0x80000000."""
    factor, summand = 1, 0
    for _ in range(LOOPS):
        factor, summand = factor * 1664525 & MASK, summand * 1664525 + 1013904223 & MASK
    digest, lines = 1, []
    for number in range(LINES):
        for _ in range(ROUNDS):
            digest = digest * factor + summand + cpuid & MASK
        lines.append(f"{number:04x} {digest:08x}")
    return lines


class DisturbedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            put = path / "put"
            put.mkdir()
            (put / "hypervisor.bin").write_bytes((BUILD / "tests/kernel/host/hypervisor.bin").read_bytes())
            (put / "drive.sh").write_bytes((ROOT / "lab/drive.sh").read_bytes())
            (put / "drive").write_text(DRIVE, encoding="ascii")
            cls.text = said_in_lab(SCRIPT, timeout=1500, share=path / "out",
                                   outputs="cli kvm/libnoexit-kvm.so",
                                   put={"/root/noexit.ko": MODULE, "/scenario": put})
            cls.out = shared_files(path / "out")
        cls.total = {words[1]: int(words[2]) for words in map(str.split, cls.text.splitlines())
                     if words[:1] == ["total"]}

    def console(self, place, *machines):
        return "".join(self.out[f"{place}/{name}.console"] for name in machines)

    def setUp(self):
        self.want = self.console("stock", "plain")

    def test_the_guest_computes(self):
        """What all others are compared with is right itself, whatever the processor's CPUID says."""
        lines = self.want.splitlines()
        self.assertEqual((lines[0], lines[-2:]), ("begin", ["ticked", "shutdown"]))
        self.assertIn(lines[1:-2], (digests(0x80000000 + leaf) for leaf in range(0x100)))

    def test_with_the_module(self):
        self.assertEqual(self.console("with", "plain"), self.want)

    def test_disturbed(self):
        for place in ("stock", "with"):
            for machines in (("stopped",), ("saved",), ("moved", "moved2", "moved3")):
                with self.subTest((place, machines)):
                    self.assertEqual(self.console(place, *machines), self.want)

    def test_reset(self):
        """Each start prints the same from its beginning on; the last one comes to the end."""
        for place in ("stock", "with"):
            with self.subTest(place):
                starts = self.console(place, "reset").split("begin\n")[1:]
                self.assertGreaterEqual(len(starts), 2)
                for start in starts[:-1]:
                    # A reset comes in the middle of a line.
                    for line in start.splitlines()[:-1]:
                        self.assertIn(line, self.want)
                self.assertEqual("begin\n" + starts[-1], self.want)

    def test_nothing_took_for_ever(self):
        for place in ("stock", "with"):
            self.assertEqual(self.out.get(f"{place}/facts", ""), "")

    def test_the_module_was_there(self):
        """Without this the others would say nothing."""
        self.assertGreater(self.total["delivered_svm"], 1000)

    def test_kernel_is_silent(self):
        self.assertEqual(complaints(self.out["log"]), [], self.out["log"])


if __name__ == "__main__":
    MODULE, _ = build_or_skip()
    main()
