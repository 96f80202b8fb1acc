# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The commands that look at a VMM, for VMs that the module is switched on for, and what they refuse.

One VMM is static, so that nothing of noexit is in it; QEMU has the library as well.
"""

import json
import re
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent)]

from module_testing import build_or_skip, complaints  # noqa: E402

from lab_testing import ROOT, main, said_in_lab, shared_files  # noqa: E402

VERSION = re.search(r"version : '(.*)'", (ROOT / "meson.build").read_text(encoding="utf-8"))[1]

# try NAME COMMAND...: the output goes to NAME.txt, the status and the last words of complaint are told.
SCRIPT = """
try() {
	name=$1; shift
	"$@" >/out/$name.txt 2>/tmp/words
	echo "$name status $?"
	sed "s/^/$name said /" /tmp/words
}
echo stranger:x:65534:65534::/:/bin/sh >>/etc/passwd
stranger() { start-stop-daemon -S -q -c stranger -x /noexit/cli/noexit -- "$@"; }
vmm() { exec /noexit/tests/kernel/host/vmm mixed 64 1000000000 >/dev/null; }
avoided() { noexit stat -p $1 --json | sed -n 's/^  "exits_avoided": \\([0-9]*\\).*/\\1/p'; }
vmm &
pid=$!
try no-device noexit on $pid
insmod /root/noexit.ko latency_us=1000000 || exit 1
try not-on noexit stat -p $pid
try no-vm noexit on 1
try no-process noexit on 4000000
try on noexit on $pid
until [ "$(avoided $pid)" -gt 500 ] 2>/dev/null; do sleep 0.2; done
try found noexit stat
try stat noexit stat -p $pid --json
try top noexit top --batch -n 2 -i 0.5 -p $pid
try explain noexit explain -p $pid
try alone noexit explain --alone -p $pid
try report noexit report -o /out/page.html /out/stat.txt
try right stranger stat -p $pid
chmod 666 /dev/noexit
try right-device stranger stat -p $pid
tracing=/sys/kernel/debug/tracing
echo 1 >$tracing/events/noexit/enable
sleep 0.5
# All at once: the events end one by one, and on a busy machine that takes longer than 400 lines.
echo 0 >$tracing/tracing_on
echo 0 >$tracing/events/noexit/enable
tail -n 400 $tracing/trace >/out/trace.txt
cat /sys/module/noexit/version >/out/version.txt
try off noexit off $pid
sleep 0.5
first=$(avoided $pid); sleep 1; second=$(avoided $pid)
echo "while off $first $second"
try stat-off noexit stat -p $pid --json
noexit on $pid
until [ "$(avoided $pid)" -gt $second ]; do sleep 0.2; done
try stat-on noexit stat -p $pid --json
kill $pid
wait
try gone noexit stat -p $pid
noexit run --kernel=on -- qemu-system-x86_64 -accel kvm -m 64 -display none -net none -vga std &
pid=$!
until noexit stat -p $pid --json 2>/dev/null | grep -q '"host": "kernel", "exits_taken": [1-9]'; do sleep 0.2; done
try both noexit stat -p $pid --json
try both-text noexit stat -p $pid
try both-top noexit top --batch -n 1 -p $pid
kill $pid
wait
try bench noexit bench --quick --json hosts
dmesg -c >/dev/null
rmmod noexit || exit 1
dmesg
"""


class WatchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as out:
            cls.log = said_in_lab(SCRIPT, share=out, put={"/root/noexit.ko": MODULE})
            cls.out = {Path(name).stem: text for name, text in shared_files(out).items()}
        cls.status, cls.said = {}, {}
        for words in map(str.split, cls.log.splitlines()):
            if words[1:2] == ["status"]:
                cls.status[words[0]] = int(words[2])
            elif words[1:2] == ["said"]:
                cls.said[words[0]] = " ".join(words[2:])

    def figures(self, name):
        return json.loads(self.out[name])

    def check_refused(self, name, *words):
        self.assertEqual(self.status[name], 2, self.said)
        self.assertTrue(self.said[name].startswith("noexit: "), self.said[name])
        for word in words:
            self.assertIn(word, self.said[name])

    def test_refusals(self):
        self.check_refused("no-device", "/dev/noexit", "load noexit.ko")
        self.check_refused("not-on", "has no VM under noexit", "noexit on")
        self.check_refused("no-vm", "process 1 has no VM")
        self.check_refused("no-process", "process 4000000")
        self.check_refused("right", "cannot be looked into", "be its user or root")
        self.check_refused("right-device", "cannot be looked into", "be its user or root")
        self.check_refused("gone", "there is no process")

    def test_commands_work(self):
        for name in ("on", "found", "stat", "top", "explain", "alone", "report", "off", "both", "bench"):
            self.assertEqual(self.status[name], 0, (name, self.said))

    def test_exits_by_class_and_place(self):
        stat = self.figures("stat")
        self.assertGreater(stat["exits_avoided"], 500)
        for kind in ("io", "cpuid", "msr"):
            self.assertGreater(stat["taken_by_kind"][kind], 0, kind)
            self.assertGreater(stat["avoided_by_kind"][kind], 0, kind)
        places = {place["address"]: place["avoided"] for place in stat["by"]}
        for port in ("0x300", "0x304", "0x21"):
            self.assertGreater(places[port], 0, port)
        self.assertEqual([(vcpu["vm"], vcpu["vcpu"], vcpu["host"]) for vcpu in stat["per_vcpu"]],
                         [(0, 0, "kernel")])

    def test_stays(self):
        stat = self.figures("stat")
        self.assertGreater(stat["longest_stay_ns"], 0)
        self.assertGreater(stat["kernel"]["longest_session_ns"], 0)
        self.assertLess(stat["kernel"]["longest_session_ns"], stat["longest_stay_ns"])
        self.assertGreater(stat["engine_ns"], 0)
        self.assertGreater(stat["kernel"]["to_vmm"], 0)

    def test_figures_agree(self):
        # Those of a guest that is being served are read one after the other, some exits apart.
        stat = self.figures("stat-off")
        self.assertEqual(stat["takeovers"], sum(stat["stays_by_us"]))
        self.assertEqual(sum(place["avoided"] for place in stat["by"]), stat["avoided_by_kind"]["io"])

    def test_clusters(self):
        cluster = self.figures("stat")["clusters"][0]
        self.assertEqual(cluster["bits"], 64)
        self.assertGreater(cluster["exits_avoided"], 0)
        for name in ("explain", "top"):
            self.assertIn(cluster["entry"].removeprefix("0x"), self.out[name])
        self.assertRegex(self.out["explain"], r"\* cpuid")
        self.assertRegex(self.out["alone"], r"times  cold")
        self.assertRegex(self.out["page"], r"noexit avoided [0-9.]+% of this guest's exits: [0-9,]+ of")

    def test_it_is_found_by_itself(self):
        self.assertTrue(self.out["found"].startswith("vmm, process "), self.out["found"])

    def test_tracepoints(self):
        trace = self.out["trace"]
        for event in ("stay: vcpu 0 rip 0x10..\n", "exit: vcpu 0 rip 0x1012 cpuid write 0x0 result 1\n",
                      "exit: vcpu 0 rip 0x1044 io write 0x304 result 0\n",
                      "exit: vcpu 0 rip 0x1028 io read 0x21 result 1\n",
                      "exit: vcpu 0 rip 0x1037 msr read 0x1b result 1\n",
                      "leave: vcpu 0 rip 0x10.. reason [A-Z_]+\n"):
            self.assertTrue(re.search("noexit_" + event, trace), (event, trace[:1000]))

    def test_version(self):
        self.assertEqual(self.out["version"].strip(), VERSION)

    def test_off(self):
        first, second = next(line.split()[2:] for line in self.log.splitlines() if line.startswith("while off"))
        self.assertEqual(first, second)
        self.assertEqual(self.figures("stat-off")["per_vcpu"][0]["off"], "it was turned off")
        self.assertEqual(self.figures("stat-on")["per_vcpu"][0]["off"], "")

    def test_both_hosts(self):
        both = self.figures("both")
        self.assertEqual([vcpu["host"] for vcpu in both["per_vcpu"]], ["library", "kernel"])
        # The hardware's exits are not added to those that KVM_RUN returned.
        self.assertEqual(both["exits_taken"], both["per_vcpu"][0]["exits_taken"])
        self.assertEqual(both["kernel"]["exits_taken"], both["per_vcpu"][1]["exits_taken"])
        self.assertNotIn("cpuid", both["taken_by_kind"])
        self.assertIn("in the kernel", self.out["both-text"])
        self.assertIn("the hardware's, by noexit.ko", self.out["both-top"])

    def test_bench(self):
        figures = {(figure["name"], figure["metric"]): figure for figure in self.figures("bench")}
        for name, exits in (("cpuid-16", 16), ("msr-16", 16), ("apic", 6), ("port-kernel", 2)):
            turn = figures[f"hosts/{name}", "host 2: exits of a turn"]
            self.assertGreater(turn["without"], exits - 0.5, name)
            self.assertLess(turn["with"] * 1.5, turn["without"], name)
            self.assertIn((f"hosts/{name}", "host 1: an exit, cycles"), figures)

    def test_kernel_is_silent(self):
        self.assertEqual(complaints(self.log), [])


if __name__ == "__main__":
    MODULE, _ = build_or_skip()
    main()
