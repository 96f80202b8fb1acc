# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The module around hypervisors of a few instructions, on a processor of Intel's kind that has VMCS shadowing.

KVM uses it first and does not use it then, with the same processor. The hypervisors (vmx.inc) have to see the
same both times, without and with the module: one of them writes and reads the fields of its VMCS in stays and,
where they are shadowed, by the processor itself, in turns.
"""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from module_testing import build_or_skip, complaints, vmms_in_lab  # noqa: E402

from lab_testing import main  # noqa: E402

TURNS = 40
PROGRAMS = ("vmx", "vmx_shadow", "vmx_pointers")
SCRIPT = f"""
all() {{
	for program in {" ".join(PROGRAMS)}; do
		timeout 300 /noexit/tests/kernel/host/vmm $program 64 {TURNS} | sed "s/^/$1 /"
	done
}}
dmesg -c >/dev/null
for shadow in Y N; do
	rmmod kvm_intel
	insmod /modules/kvm-intel.ko enable_shadow_vmcs=$shadow
	sed "s/^/shadowing $shadow /" /sys/module/kvm_intel/parameters/enable_shadow_vmcs
	all stock$shadow
	insmod /root/noexit.ko all=1 latency_us=1000000
	all with$shadow
	echo 1 >/sys/module/noexit/parameters/check
	all checked$shadow
	sed "s/^/total$shadow /" /sys/kernel/debug/noexit/totals
	rmmod noexit
done
dmesg
"""


class ShadowTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text, found, cls.total = vmms_in_lab(SCRIPT, "--vmcs-shadowing", cpu="intel",
                                                 put={"/root/noexit.ko": MODULE})
        cls.found = {(run, program): figures for (run, program, _), figures in found.items()}

    def test_kvm_uses_it_and_does_not(self):
        self.assertIn("shadowing Y Y\n", self.text)
        self.assertIn("shadowing N N\n", self.text)

    def test_they_see_the_same(self):
        for program in PROGRAMS:
            want = self.found["stockN", program]
            for run in ("stockY", "withN", "withY", "checkedN", "checkedY"):
                with self.subTest((program, run)):
                    found = self.found.get((run, program), self.text)
                    self.assertEqual((found[0], found[2]), (want[0], want[2]))

    def test_exits_are_avoided(self):
        """The processor itself avoids some where it shadows. The figures are in docs/nested.md."""
        for program in PROGRAMS:
            for shadow in "NY":
                print(f"{program}, shadowing {shadow}: exits without and with the module "
                      + " ".join(str(self.found[f"{run}{shadow}", program][1]) for run in ("stock", "with")))
            with self.subTest(program):
                self.assertLess(self.found["stockY", program][1], self.found["stockN", program][1])
                for shadow in "YN":
                    self.assertLess(self.found[f"with{shadow}", program][1] * 3,
                                    self.found[f"stock{shadow}", program][1] * 2)

    def test_the_hardware_delivers_the_same(self):
        for shadow in "YN":
            with self.subTest(shadow):
                self.assertGreater(self.total[f"total{shadow}", "checked"], 2 * TURNS)
                self.assertEqual(self.total[f"total{shadow}", "check_differences"], 0)

    def test_kernel_is_silent(self):
        self.assertEqual(complaints(self.text, "check: exit"), [], self.text)


if __name__ == "__main__":
    MODULE, _ = build_or_skip("intel")
    main()
