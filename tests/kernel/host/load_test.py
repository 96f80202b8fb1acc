# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Loading: the vendor module cannot be unloaded before noexit.ko, and each refusal is one sentence.
Fault injection (fail=NAME): the guest sees the same, and unloading finds nothing left."""

import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent)]

from module_testing import build_or_skip, complaints  # noqa: E402

from image import Images  # noqa: E402
from lab_testing import BUILD, main, run_lab  # noqa: E402

SCRIPT = """
try() {
	dmesg -c >/dev/null
	insmod /root/noexit.ko >/dev/null 2>&1
	echo "$1: $?"
	dmesg | sed "s/^/$1: /"
}
vmm() { timeout 100 /noexit/tests/kernel/host/vmm $1 64 20 | sed "s/^/$2 /"; }
for guest in cpuid_gap mixed mmio_vmm; do vmm $guest none; done
dmesg -c >/dev/null
for step in arena code cache verify session page kick handler; do
	insmod /root/noexit.ko all=1 latency_us=1000000 fail=$step
	for guest in cpuid_gap mixed mmio_vmm; do vmm $guest $step; done
	sed "s/^/total $step /" /sys/kernel/debug/noexit/totals
	rmmod noexit
	echo "fails $step: $?"
done
dmesg | sed "s/^/fails: /"
try stock
rmmod kvm_amd >/dev/null 2>&1
echo "vendor: $?"
rmmod noexit
rmmod kvm_amd
try without
insmod /root/kvm-amd.ko npt=0
try shadow
rmmod kvm_amd
insmod /root/kvm-amd.ko
try again
rmmod noexit
echo "removed: $?"
"""


STEPS = ("arena", "code", "cache", "verify", "session", "page", "kick", "handler")
# With these faults the engine delivers exits all the same.
DELIVERS = ("kick", "handler")


class LoadTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        images = Images(BUILD, print)
        vendor = images.kernel(images.host_kernel) / "kvm-amd.ko"
        cls.text = run_lab(SCRIPT, put={"/root/noexit.ko": MODULE, "/root/kvm-amd.ko": vendor}).stdout
        cls.lines = cls.text.splitlines()

    def test_it_loads_beside_its_own_kvm(self):
        self.assertIn("stock: 0", self.lines)
        self.assertIn("again: 0", self.lines)
        self.assertIn("removed: 0", self.lines)

    def test_the_vendor_module_stays(self):
        self.assertIn("vendor: 1", self.lines)

    def digests(self, step):
        return [line.split()[4] for line in self.lines
                if line.startswith(f"{step} ") and " digest " in line]

    def test_guests_see_the_same_when_steps_fail(self):
        self.assertEqual(len(self.digests("none")), 3)
        for step in STEPS:
            with self.subTest(step):
                self.assertEqual(self.digests(step), self.digests("none"))

    def test_steps_do_fail(self):
        for step in STEPS:
            with self.subTest(step):
                total = {words[2]: int(words[3]) for words in map(str.split, self.lines)
                         if words[:2] == ["total", step]}
                # Without an engine a vCPU is left alone.
                self.assertEqual(total["exits"] > 0, step not in ("arena", "code"))
                self.assertEqual(total["delivered"] > 0, step in DELIVERS)

    def test_nothing_is_left(self):
        for step in STEPS:
            self.assertIn(f"fails {step}: 0", self.lines)
        said = "\n".join(line for line in self.lines if line.startswith("fails: "))
        self.assertEqual(said.count("there is no memory for its engine"), 6)
        self.assertEqual(complaints(said), [])

    def test_branches_are_forgotten_on_each_way_to_c(self):
        relocations = subprocess.run(["readelf", "-rW", MODULE], stdout=subprocess.PIPE, text=True,
                                     check=True).stdout
        alternatives = [line.split()[4] for line in
                        relocations.partition(".rela.altinstr_replacement'")[2]
                        .partition("Relocation section")[0].splitlines() if "PLT32" in line]
        for function in ("clear_bhb_loop", "entry_untrain_ret", "srso_alias_untrain_ret"):
            self.assertEqual(alternatives.count(function), 3, alternatives)

    def refused(self, name, sentence):
        self.assertNotIn(f"{name}: 0", self.lines)
        # insmod tries in two ways, so it may be said twice.
        said = {line.partition("] ")[2] for line in self.lines
                if line.startswith(f"{name}: [") and "] noexit: " in line}
        self.assertEqual(len(said), 1, self.text)
        self.assertIn(sentence, said.pop())

    def test_no_vendor_module(self):
        self.refused("without", "neither kvm_amd nor kvm_intel is loaded")

    def test_shadow_paging(self):
        self.refused("shadow", "KVM uses shadow paging")


if __name__ == "__main__":
    MODULE, _ = build_or_skip()
    main()
