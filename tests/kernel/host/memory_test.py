# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The VMM takes guest pages away while sessions are held open (audit_us).

No page may be freed and no byte may change before the session is over. With the protocol switched off
(fail=protocol) the same audit has to find violations, which shows that it can find them.
"""

import collections
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent)]

from module_testing import build_or_skip, complaints  # noqa: E402

from lab_testing import main, said_in_lab  # noqa: E402

TURNS = 800
SCRIPT = """
vmm() {{ timeout 600 /noexit/tests/kernel/host/vmm cpuid_gap 64 {turns} "$@"; }}
echo "stock $(vmm)"
totals() {{ sed "s/^/$way total /" /sys/kernel/debug/noexit/totals; }}
# That something happens while a session is open is a matter of chance, so there are as many rounds as it takes.
happened() {{ totals | grep -qE "$1 +[1-9]"; }}
for way in flip slots dirty; do
	insmod /root/noexit.ko all=1 audit_us=300 latency_us=1000000 || exit 1
	for round in 1 2 3 4 5 6 7 8; do
		vmm $way | sed "s/^/$way /"
		if [ $way = flip ]; then happened audit_zapped; else happened sessions_kicked; fi && break
	done
	totals
	rmmod noexit || exit 1
done
# A page has to be freed, not only taken away.
way=off
insmod /root/noexit.ko all=1 audit_us=2000 latency_us=1000000 fail=protocol || exit 1
for round in 1 2 3 4 5 6 7 8; do
	vmm flip >/dev/null
	happened 'audit_(freed|changed)' && break
done
totals
dmesg -c >/dev/null
rmmod noexit
dmesg
"""


class MemoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = said_in_lab(SCRIPT.format(turns=TURNS), smp=2, put={"/root/noexit.ko": MODULE})
        cls.digests, cls.totals = collections.defaultdict(set), {}
        for words in map(str.split, cls.text.splitlines()):
            if "digest" in words:
                cls.digests[words[0]].add(words[words.index("digest") + 1])
            elif words[1:2] == ["total"]:
                cls.totals.setdefault(words[0], {})[words[2]] = int(words[3])

    def test_pages_were_taken_away_in_sessions(self):
        for way in ("flip", "off"):
            self.assertGreater(self.totals[way]["audit_zapped"], 0, way)
        for way in ("slots", "dirty"):
            self.assertGreater(self.totals[way]["sessions_kicked"], 0, way)

    def test_none_was_freed_or_changed(self):
        for way in ("flip", "slots", "dirty"):
            self.assertGreater(self.totals[way]["audited"], 0, way)
            self.assertEqual(self.totals[way]["audit_freed"], 0, way)
            self.assertEqual(self.totals[way]["audit_changed"], 0, way)

    def test_the_audit_sees_a_missing_protocol(self):
        off = self.totals["off"]
        self.assertGreater(off["audit_freed"] + off["audit_changed"], 0)

    def test_the_guest_sees_the_same(self):
        self.assertEqual(len(self.digests["stock"]), 1)
        for way in ("flip", "slots", "dirty"):
            self.assertEqual(self.digests[way], self.digests["stock"], way)

    def test_kernel_is_silent(self):
        self.assertEqual(complaints(self.text), [])


if __name__ == "__main__":
    MODULE, _ = build_or_skip()
    main()
