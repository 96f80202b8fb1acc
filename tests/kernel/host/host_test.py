# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The module beside the lab's own KVM: host_test.py amd|intel|RELEASE

Every guest runs twice, without the module and with it. The digests of the data that guest and devices
have seen have to be equal, and KVM has to count fewer exits.
"""

import os
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent)]

from module_testing import build_or_skip, complaints, vmm_figures, warnings  # noqa: E402

from lab_testing import BUILD, main, run_lab  # noqa: E402

LAB = sys.argv.pop(1) if len(sys.argv) > 1 else "amd"
# The lab of another Debian release has its kernel.
CPU, RELEASE = (LAB, None) if LAB in ("amd", "intel") else ("amd", LAB)
TURNS = 40
# A kernel that watches itself is shown more.
ROUNDS = 40 if os.environ.get("LAB_KERNEL") else 5

MODES = ("16", "32", "64", "32u", "64u")
# Programs of which no exit can be avoided; they show that the guest sees the same.
NO_GAIN = ("cr_leave", "cr8", "dr", "segment_back") + (("descriptor",) if CPU == "amd" else ())
KERNEL_ONLY = ("msr", "wrmsr", "mixed", "cr", "cr_leave", "cr8", "dr", "descriptor", "window")
PROGRAMS = ("cpuid16", "cpuid_gap", "vectors", "msr", "wrmsr", "port_kernel", "port_vmm", "mixed",
            "cr", "cr_leave", "cr8", "dr", "descriptor", "window", "tsc", "segment",
            "segment_back", "mmio_lapic", "mmio_vmm")
# Devices are beyond 64 KiB, and vmm.c maps them for 64-bit guests only.
DEVICE_MODES = ("32", "64", "64u")
GUESTS = [(program, mode) for program in PROGRAMS for mode in MODES
          if not (program in KERNEL_ONLY and mode.endswith("u"))
          and not (program == "cr8" and mode != "64")
          and not (program.startswith("segment") and mode != "16")
          and not (program.startswith("mmio") and mode not in DEVICE_MODES)]
# The emulated Intel processor is slow: two programs run in each mode, the others in one. In the other
# release's lab the module's code is the same, too. The last programs' exits are compared one by one;
# its emulated processor reports another register for reads of CR4, so that is not "cr".
FEW = [("cpuid16", mode) for mode in MODES] + [("cr", "16"), ("cr", "32")] + [
    (program, "16" if program.startswith("segment") else "64") for program in PROGRAMS[1:]]
if CPU == "intel":
    FEW += [("descriptor", "16"), ("descriptor", "32"), ("vmx", "64")]
CHECKED = 3 if CPU == "intel" else 1

SCRIPT = """
run() {{
	while read -r program mode; do
		timeout 600 /noexit/tests/kernel/host/vmm $program $mode {turns} || echo "$program $mode: failed"
	done
}}
run </root/guests | sed 's/^/stock /'
dmesg -c >/dev/null
insmod /root/noexit.ko latency_us=1000000
echo "loaded $?"
/noexit/tests/kernel/host/vmm cpuid16 64 {turns} | sed 's/^/loaded /'
rmmod noexit
echo "removed $?"
insmod /root/noexit.ko all=1 latency_us=1000000
run </root/guests | sed 's/^/with /'
# Another task has the processor's registers in between. With restartable sequences, a stay ends then.
(while :; do :; done) &
GLIBC_TUNABLES=glibc.pthread.rseq=0 /noexit/tests/kernel/host/vmm vectors 64 {turns} | sed 's/^/shared /'
kill $!
sed 's/^/total /' /sys/kernel/debug/noexit/totals
echo 1 >/sys/module/noexit/parameters/check
tail -n {checked} /root/guests | run | sed 's/^/checked /'
sed 's/^/check /' /sys/kernel/debug/noexit/totals
rmmod noexit
echo "removed $?"
# A guest that runs while the module comes and goes.
/noexit/tests/kernel/host/vmm cpuid16 64 {long} >/tmp/long &
for i in $(seq {rounds}); do
	insmod /root/noexit.ko && rmmod noexit && echo "round"
done
wait
sed 's/^/long /' /tmp/long
dmesg
"""


class HostTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        guests = GUESTS if LAB == "amd" else FEW
        file = Path(BUILD) / f"tests/kernel/host/guests-{LAB}"
        file.write_text("".join(f"{p} {m}\n" for p, m in guests), encoding="ascii")
        cls.guests = guests
        script = SCRIPT.format(turns=TURNS, long=2000, rounds=ROUNDS, checked=CHECKED)
        text = run_lab(script, cpu=CPU, release=RELEASE,
                       put={"/root/noexit.ko": MODULE, "/root/guests": file}).stdout
        cls.lines, cls.found = text.splitlines(), vmm_figures(text)
        cls.total = {name: int(value) for name, value in
                     (line.split()[1:] for line in cls.lines if line.startswith("total "))}
        cls.check = {name: int(value) for name, value in
                     (line.split()[1:] for line in cls.lines if line.startswith("check "))}

    def test_compiler_and_objtool_are_silent(self):
        self.assertEqual(warnings(WORDS), [])

    def test_kernel_is_silent(self):
        self.assertEqual(complaints("\n".join(self.lines), "check: exit"), [])

    def test_guests_see_the_same(self):
        for guest in self.guests:
            with self.subTest(guest):
                self.assertEqual(self.found["stock", *guest][0], self.found["with", *guest][0])
                self.assertEqual(self.found["stock", *guest][2], self.found["with", *guest][2])

    def test_vector_registers_come_back_after_another_task(self):
        guest = ("vectors", "64")
        self.assertEqual(self.found["stock", *guest][0], self.found["shared", *guest][0])

    def test_exits_are_avoided(self):
        for program, mode in self.guests:
            with self.subTest((program, mode)):
                stock = self.found["stock", program, mode][1]
                # Writing such a register ends a stay, so of five exits in a turn two are left.
                part = 2 if program == "wrmsr" else 3
                if program not in NO_GAIN:
                    self.assertLess(self.found["with", program, mode][1] * part, stock)

    def test_the_hardware_delivers_the_same(self):
        """On Intel's processor the last guests access descriptor tables, and one is a hypervisor."""
        for guest in self.guests[-CHECKED:]:
            with self.subTest(guest):
                self.assertEqual(self.found["stock", *guest][0], self.found["checked", *guest][0])
        self.assertGreater(self.check["checked"] - self.total["checked"], TURNS)
        self.assertEqual(self.check["check_differences"], 0)

    def test_a_burst_on_debug_registers_is_one_exit_already(self):
        for program, mode in self.guests:
            if program == "dr":
                self.assertLess(self.found["stock", program, mode][1], 16 * TURNS / 4)

    def test_every_class_is_delivered(self):
        for name in ("delivered_cpuid", "delivered_msr", "delivered_cr", "delivered_io",
                     "delivered_mmio", "to_vmm"):
            self.assertGreater(self.total[name], 0, name)

    def test_a_vm_that_is_not_enabled_keeps_its_exits(self):
        self.assertGreaterEqual(self.found["loaded", "cpuid16", "64"][1], 16 * TURNS)

    def test_it_comes_and_goes_under_a_running_guest(self):
        self.assertEqual(self.lines.count("round"), ROUNDS)
        self.assertEqual(self.lines.count("removed 0"), 2)
        self.assertGreaterEqual(self.found["long", "cpuid16", "64"][1], 16 * 2000)


if __name__ == "__main__":
    MODULE, WORDS = build_or_skip(CPU, debian=RELEASE)
    main()
