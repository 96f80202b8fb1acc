# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The module around a hypervisor of a few instructions, on AMD's kind of processor.

Its guest changes the VMCB that it runs by, is refused now and then, and ends in triple faults (svm in
guests.S). While it runs its pages are replaced, memory slots come and go, and dirty logging is switched. It
must see the same without and with the module, and with virtual GIF and without. nested_test.py has whole
hypervisors, two levels deep.
"""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from module_testing import build_or_skip, complaints, vmms_in_lab  # noqa: E402

from lab_testing import main  # noqa: E402

TURNS = 200
LONG = 400
DISTURBED = ("flip", "slots", "dirty")
SCRIPT = f"""
vmm() {{ timeout 200 /noexit/tests/kernel/host/vmm svm 64 $2 $3 | sed "s/^/$1-$3 /"; }}
disturbed() {{ for how in {" ".join(DISTURBED)}; do vmm $1 {LONG} $how; done; }}
vgif() {{ insmod /modules/kvm-amd.ko vgif=$1; cat /sys/module/kvm_amd/parameters/vgif | sed "s/^/vgif $1 /"; }}
dmesg -c >/dev/null
for vgif in 1 0; do
	rmmod kvm_amd
	vgif $vgif
	vmm stock$vgif {TURNS}
	disturbed stock$vgif
	insmod /root/noexit.ko all=1 latency_us=1000000
	vmm with$vgif {TURNS}
	sed "s/^/first$vgif /" /sys/kernel/debug/noexit/totals
	disturbed with$vgif
	echo 1 >/sys/module/noexit/parameters/check
	vmm checked$vgif {TURNS}
	sed "s/^/total$vgif /" /sys/kernel/debug/noexit/totals
	rmmod noexit
done
dmesg
"""


class HypervisorTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text, found, cls.total = vmms_in_lab(SCRIPT, put={"/root/noexit.ko": MODULE})
        cls.found = {tuple(run.split("-")): figures for (run, _, _), figures in found.items()}

    def test_it_sees_the_same(self):
        for how in ("", *DISTURBED):
            for run in ("stock0", "with1", "with0"):
                with self.subTest((how, run)):
                    want, found = (self.found.get((name, how), self.text) for name in ("stock1", run))
                    self.assertEqual((found[0], found[2]), (want[0], want[2]))
        for run in ("checked1", "checked0"):
            self.assertEqual(self.found[run, ""][0], self.found["stock1", ""][0])

    def test_exits_are_avoided(self):
        """Of an entry and an exit of its guest five exits are its own, seven without virtual GIF."""
        for vgif in "10":
            with self.subTest(vgif):
                self.assertLess(self.found[f"with{vgif}", ""][1] * 3, self.found[f"stock{vgif}", ""][1] * 2)

    def test_what_does_not_exit_is_not_avoided(self):
        """With virtual GIF the processor executes STGI and CLGI by itself."""
        virtual, without = (self.total[f"first{vgif}", "delivered_svm"] for vgif in "10")
        self.assertGreater(virtual, TURNS)
        self.assertGreater(without - virtual, TURNS)

    def test_the_hardware_delivers_the_same(self):
        for vgif in "10":
            with self.subTest(vgif):
                self.assertGreater(self.total[f"total{vgif}", "checked"], TURNS)
                self.assertEqual(self.total[f"total{vgif}", "check_differences"], 0)

    def test_both_kinds_of_processor(self):
        self.assertIn("vgif 1 1\n", self.text)
        self.assertIn("vgif 0 0\n", self.text)

    def test_kernel_is_silent(self):
        self.assertEqual(complaints(self.text, "check: exit"), [], self.text)


if __name__ == "__main__":
    MODULE, _ = build_or_skip()
    main()
