# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Loading: the vendor module stays while noexit.ko is there, and what is refused is refused in one
sentence."""

import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parents[2] / "kernel"), str(HERE.parents[2] / "tests/lab")]

from lab_testing import BUILD, ROOT, main, need_lab, skip  # noqa: E402

import build_module  # noqa: E402
from image import Images, LabError  # noqa: E402

SCRIPT = """
try() {
	dmesg -c >/dev/null
	insmod /root/noexit.ko >/dev/null 2>&1
	echo "$1: $?"
	dmesg | sed "s/^/$1: /"
}
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


class LoadTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        vendor = Images(BUILD, print).kernel() / "kvm-amd.ko"
        result = subprocess.run(
            [str(ROOT / "lab/run"), "--put", f"{MODULE}:/root/noexit.ko", "--put",
             f"{vendor}:/root/kvm-amd.ko", "--", SCRIPT], capture_output=True, text=True,
            check=False)
        cls.text = result.stdout + result.stderr
        cls.lines = cls.text.splitlines()

    def test_it_loads_beside_its_own_kvm(self):
        self.assertIn("stock: 0", self.lines)
        self.assertIn("again: 0", self.lines)
        self.assertIn("removed: 0", self.lines)

    def test_the_vendor_module_stays(self):
        self.assertIn("vendor: 1", self.lines)

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
    need_lab()
    try:
        MODULE, _ = build_module.build(BUILD)
    except LabError as error:
        skip(f"the module cannot be built here: {error}")
    main()
