# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The module around a hypervisor: nested_test.py [vgif=0 ...]

Level 0 is the lab's kernel, level 1 its guest with a KVM of its own, level 2 that one's guest, which
runs programs of guests.S. They run with the module in no level, in level 1 (inner), in level 0 (outer)
and in both, and once more in level 0 with check=1. All have to see the same. KVM's tracepoints in level
0 count the hardware's exits. Words are parameters of kvm_amd in level 0.

It takes minutes, so it is a part of `make soak` (nested). Debian boots in level 2 by lab/nested.
"""

import collections
import re
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent)]

from module_testing import build_or_skip, complaints, vmm_figures  # noqa: E402

from lab_testing import main, said_in_lab, shared_files  # noqa: E402

KVM_ARGS = " ".join(word for word in sys.argv[1:] if "=" in word)
sys.argv = [word for word in sys.argv if "=" not in word]

TURNS = 150
OTHERS = ("cpuid_gap 64", "cpuid16 16", "msr 64", "wrmsr 32", "port_kernel 64", "port_vmm 64",
          "mixed 64", "cr 64", "mmio_lapic 64", "mmio_vmm 64")
RUNS = ("none", "inner", "outer", "both")

# Level 0: a line "MARK NAME" of level 1's shows what was counted since the one before.
OUTER = """
events=/sys/kernel/debug/tracing/events/kvm
keys="kvm_exit:exit_reason kvm_msr:ecx kvm_nested_vmexit_inject:exit_code"
restart() {
	for key in $keys; do
		echo "!hist:keys=${key#*:}:size=512" >$events/${key%:*}/trigger
		echo "hist:keys=${key#*:}:size=512" >$events/${key%:*}/trigger
	done 2>/dev/null
}
show() { for key in $keys; do sed -n "s/^{ /$1 ${key%:*} /p" $events/${key%:*}/hist; done; }
parameter() { echo $2 >/sys/module/noexit/parameters/$1; }
restart
"$@" | tr -d '\\r' | while IFS= read -r line; do
	case $line in
	"MARK load") insmod /root/noexit.ko all=1 latency_us=1000000; echo "loaded $?"; restart;;
	"MARK check") parameter check 1; restart;;
	"MARK uncheck") parameter check 0; restart;;
	"MARK "*) show ${line#MARK }; restart;;
	*) echo "$line";;
	esac
done
sed 's/^/outer total /' /sys/kernel/debug/noexit/totals
dmesg >/out/log-outer
"""
# Level 1. Level 0 looks at a mark when it is read, so level 1 waits.
INNER = """
mark() { echo "MARK $1"; sleep 1; }
vmm() { timeout 600 /noexit/tests/kernel/host/vmm $2 $3 $4 | sed "s/^/$1 /"; }
run() {
	[ $2 = 0 ] || insmod /root/noexit.ko all=1 latency_us=1000000
	while read -r program mode; do vmm $1 $program $mode 20; done </root/others
	mark idle
	vmm $1 cpuid4 64 TURNS
	mark $1
	[ $2 = 0 ] || rmmod noexit
}
# What the kernel has said at boot is about the emulated processor.
dmesg -c >/dev/null
run none 0
run inner 1
mark load
run outer 0
run both 1
mark check
run checked 0
mark uncheck
dmesg >/out/log-inner
"""
HIT = re.compile(r"^([\w-]+) (kvm_\w+) \w+: *(\d+) } hitcount: *(\d+)$")
# SVM_EXIT_*
MSR, VMRUN, VMLOAD, VMSAVE, STGI, CLGI = 0x7c, 0x80, 0x82, 0x83, 0x84, 0x85
DEBUGCTL = 0x1d9


class NestedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            (path / "outer").write_text(OUTER, encoding="ascii")
            (path / "others").write_text("".join(f"{line}\n" for line in OTHERS), encoding="ascii")
            cls.text = said_in_lab(
                INNER.replace("TURNS", str(TURNS)), "--nested", "--outer-prefix", "sh /root/outer",
                "--outer-kvm-args", KVM_ARGS, timeout=3000, outputs="tests/kernel/host/vmm",
                share=path / "out", put={"/root/noexit.ko": MODULE, "/root/outer": path / "outer",
                                         "/root/others": path / "others"})
            cls.out = shared_files(path / "out")
        cls.found, cls.hits = vmm_figures(cls.text), collections.defaultdict(collections.Counter)
        for hit in filter(None, map(HIT.match, cls.text.splitlines())):
            cls.hits[hit[1]][hit[2], int(hit[3])] += int(hit[4])
        cls.total = {words[2]: int(words[3]) for words in map(str.split, cls.text.splitlines())
                     if words[:2] == ["outer", "total"]}

    def sum(self, run, event, keys=None):
        return sum(count for (kind, key), count in self.hits[run].items()
                   if kind == event and (keys is None or key in keys))

    def reflected(self, run):
        """Returns how many exits of level 2 level 1 has got."""
        return self.sum(run, "kvm_nested_vmexit_inject")

    def around(self, run):
        """Returns how many exits at level 0 level 1's KVM has taken around them.

        Its other accesses to MSRs are those of its timer and its interrupts. The engine delivers
        hardly any of these, so each is taken for an exit.
        """
        others = self.sum(run, "kvm_msr") - self.sum(run, "kvm_msr", [DEBUGCTL])
        return (self.sum(run, "kvm_exit", [MSR, VMRUN, VMLOAD, VMSAVE, STGI, CLGI]) - others)

    def show(self):
        """Prints the figures, which docs/nested.md has."""
        for run in RUNS:
            _, exits, _, us = self.found[run, "cpuid4", "64"]
            print(f"{run}: {4 * TURNS} CPUIDs of level 2 take {exits} exits at level 1 and "
                  f"{us / (4 * TURNS):.1f} us each")
        for run, hits in self.hits.items():
            if run == "idle":
                continue
            exits = collections.Counter({key: count for (kind, key), count in hits.items()
                                         if kind == "kvm_exit"})
            print(f"{run}: {sum(exits.values())} exits at level 0: "
                  + ", ".join(f"{key:#x} {count}" for key, count in exits.most_common())
                  + f"; {self.reflected(run)} exits of level 2 given to level 1, "
                  f"{self.around(run)} exits around them")

    def test_guests_see_the_same(self):
        for guest in (*OTHERS, "cpuid4 64"):
            want = self.found["none", *guest.split()]
            for run in (*RUNS[1:], "checked"):
                with self.subTest((guest, run)):
                    found = self.found[run, *guest.split()]
                    self.assertEqual((found[0], found[2]), (want[0], want[2]))

    def test_exits(self):
        self.show()
        # Five around each with virtual GIF, seven without; one and two are left. An interrupt for
        # level 1 has it leave level 2 where no stay begins, which leaves one more.
        self.assertGreater(self.around("none"), 4.5 * self.reflected("none"))
        self.assertLess(self.around("outer") * 2, self.around("none") / self.reflected("none")
                        * self.reflected("outer"))
        for run in ("inner", "both"):
            # The timer of a slow machine brings exits of level 2's, too.
            self.assertLess(self.found[run, "cpuid4", "64"][1] * 2,
                            self.found["none", "cpuid4", "64"][1])

    def test_the_hardware_delivers_the_same(self):
        self.assertGreater(self.total["checked"], 4 * TURNS)
        self.assertEqual(self.total["check_differences"], 0)

    def test_kernels_are_silent(self):
        for name, log in self.out.items():
            if name.startswith("log-"):
                with self.subTest(name):
                    self.assertEqual(complaints(log, "check: exit"), [], log)


if __name__ == "__main__":
    MODULE, _ = build_or_skip()
    main()
