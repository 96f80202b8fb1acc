# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""lab/shadow-paging's figures out of a trace: what an exit was about, and which exits are a pair. No lab runs."""

import contextlib
import io
import subprocess
import unittest

from lab_testing import ROOT, lab_tool, main

from image import LabError

shadow = lab_tool("shadow-paging")

HEAD = "# tracer: nop\n#\n# entries-in-buffer/entries-written: {}/{}   #P:1\n"


class Trace:
    """A trace that is written event by event."""

    def __init__(self):
        self.lines, self.time = [], 1000

    def event(self, name, text, ticks=10):
        self.time += ticks
        self.lines.append(f" qemu-system-x86-123     [000] d....  {self.time}: {name}: {text}")
        return self

    def exit(self, reason, rip, info1=0, info2=0, event=0):
        return self.event("kvm_exit", f"vcpu 0 reason {reason} rip {rip:#x} info1 {info1:#018x} info2 {info2:#018x} "
                          f"intr_info {event:#010x} error_code 0x00000000", 500)

    def entry(self, ticks=100):
        return self.event("kvm_entry", "vcpu 0, rip 0xc0101234", ticks)

    def store(self, rip, address, code="89 10"):
        return self.exit("PF excp", rip, 3, address).event("kvm_emulate_insn",
                                                           f"0:{rip:x}:{code} (prot32)").entry()

    def step(self, lost=0):
        count = len(self.lines)
        return shadow.Step("execs", HEAD.format(count, count + lost) + "\n".join(self.lines))


class KindsTest(unittest.TestCase):
    def kinds(self, trace):
        return [one.kind for one in trace.step().exits]

    def test_page_faults(self):
        trace = Trace().store(0xc0100000, 0xf5000000)
        for event in ("kvm_mmio", "kvm_inj_exception", "kvm_mmu_unsync_page", "kvm_mmu_prepare_zap_page"):
            trace.exit("PF excp", 0xc0100000, 3, 0xf5000000)
            if event == "kvm_mmio":
                trace.event("kvm_emulate_insn", "0:c0100000:89 10 (prot32)")
            trace.event(event, "...").entry()
        self.assertEqual(self.kinds(trace), [shadow.STORE, shadow.MMIO, shadow.OWN, shadow.UNSYNC, shadow.FILL])

    def test_intel_has_the_vector_in_the_event(self):
        trace = (Trace().exit("EXCEPTION_NMI", 1, 0xf5000000, 0, 0x80000b0e).entry()
                 .exit("EXCEPTION_NMI", 1, 0, 0, 0x80000306).entry())
        exits = trace.step().exits
        self.assertEqual([(one.kind, one.address) for one in exits],
                         [(shadow.FILL, 0xf5000000), ("EXCEPTION_NMI", 0)])

    def test_one_exit_with_two_rounds_of_the_vmm(self):
        """What is not over at the end of the trace is left out."""
        trace = Trace().exit("io", 1).event("kvm_emulate_insn", "0:1:ee (prot32)").entry().exit("cpuid", 3)
        self.assertEqual(self.kinds(trace), ["io"])

    def test_time(self):
        step = Trace().exit("hlt", 1).entry(5000).exit("cpuid", 3).entry(70).step()
        self.assertEqual([one.ticks for one in step.exits], [5000, 70])
        self.assertEqual(step.ticks, 570)

    def test_lost_events(self):
        for trace, lost in ((Trace().exit("hlt", 1).entry(), 1), (Trace().exit("hlt", 1), 0)):
            with self.assertRaises(LabError):
                trace.step(lost)

    def test_other_words(self):
        with self.assertRaises(LabError):
            Trace().event("kvm_exit", "reason 7").entry().step()


class ClustersTest(unittest.TestCase):
    def test_halves_of_an_entry(self):
        step = (Trace().store(0x1000, 0xf5000004).store(0x1006, 0xf5000000)  # a pair
                .store(0x1006, 0xf5000000)  # the same half again
                .store(0x1010, 0xf5000008)  # another entry
                .exit("interrupt", 0x1010).entry().store(0x1014, 0xf500000c).step())
        self.assertEqual([one.rip for one in step.entry_pairs()], [0x1006])

    def test_distances(self):
        step = (Trace().store(0x1000, 0xf5000000).exit("invlpg", 0x1020).entry()  # 32 bytes
                .exit("write_cr3", 0x1100).entry()  # 224 bytes, and no store
                .store(0x2000, 0xf5000000).exit("interrupt", 0x2000).entry().exit("cpuid", 0x2000).entry().step())
        self.assertEqual([[one.rip for one in step.followers(distance, True)] for distance in shadow.DISTANCES],
                         [[], [0x1020], [0x1020]])
        self.assertEqual([one.rip for one in step.followers(512, False)], [0x1100])

    def test_table(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            Trace().store(0x1000, 0xf5000004).store(0x1006, 0xf5000000, "0f c7 0b").step().show()
        self.assertRegex(out.getvalue(), r"second halves of an entry +1 +50\.0%")
        self.assertIn("1 times 89 10, 1 times 0f c7 0b", out.getvalue())
        # 110 of 720 ticks.
        self.assertIn("takes 110; all of that for each exit within 512 bytes, with such a store, is 15.3%", out.getvalue())

    def test_arguments(self):
        for arguments in (["--steps", "nonsense"], ["--cpu", "arm"]):
            result = subprocess.run([str(ROOT / "lab/shadow-paging"), *arguments], capture_output=True, text=True,
                                    check=False)
            self.assertEqual(result.returncode, 2, result.stderr)


if __name__ == "__main__":
    main()
