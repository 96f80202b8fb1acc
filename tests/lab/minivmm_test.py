# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""examples/minivmm boots Debian's kernel in the lab, linked with the library: without and with exits
avoided the same transcript, input included. LAB_RELEASE=trixie: in that release's lab."""

import json
import os
import tempfile
import unittest
from pathlib import Path

from lab_testing import BUILD, main, need_lab, said_in_lab, write_initrd

import transcript

INIT = b"""#!/bin/busybox sh
/bin/busybox mkdir /proc
/bin/busybox mount -t proc proc /proc
n=0
while [ $n -lt 100 ]; do
	n=$((n + 1))
	echo "guest: line $n"
done
read -r answer
echo "guest: was told '$answer'"
# Which controller has the timer and the serial port: an interrupt that goes by the local APIC may get lost.
/bin/busybox sed -n 's/^ *\\(0\\|4\\): *[1-9][0-9]* *\\([^ ]*\\) .*/guest: IRQ \\1 by \\2/p' /proc/interrupts
[ "$(/bin/busybox grep -c -w apic /proc/cpuinfo)" = 0 ] && echo "guest: no local APIC"
/bin/busybox reboot -f
"""

# tsc=reliable: otherwise the kernel's watchdog complains at whatever moment of an emulated boot.
SCRIPT = """
echo 'as it was sent' >/input
for off in 1 0; do
	/noexit/examples/minivmm -m 192 -o limits=unweighed -o off=$off \
		-o stats=/out/stats$off /guest/vmlinuz /initrd \
		'console=ttyS0 reboot=t panic=-1 tsc=reliable' </input >/out/console$off || exit
done
"""


RELEASE = os.environ.get("LAB_RELEASE")


class MinivmmTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            write_initrd(path / "initrd", INIT)
            cls.said = said_in_lab(SCRIPT, release=RELEASE, timeout=1200, share=path / "out",
                                   put={"/initrd": path / "initrd"})
            out = path / "out"
            cls.console = [(out / f"console{off}").read_bytes().decode() for off in (1, 0)]
            cls.stats = [json.loads((out / f"stats{off}").read_text()) for off in (1, 0)]

    def test_userspace(self):
        for console in self.console:
            for text in ("guest: line 100\r\n", "guest: was told 'as it was sent'\r\n",
                         "guest: IRQ 0 by XT-PIC\r\n", "guest: IRQ 4 by XT-PIC\r\n",
                         "guest: no local APIC\r\n", "reboot: machine restart\r\n"):
                self.assertIn(text, console)

    def test_transcripts_are_equal(self):
        difference = transcript.difference(*self.console)
        self.assertEqual(difference, [], "\n".join(difference))

    def test_exits(self):
        without, with_noexit = self.stats
        print(f"exits: {without['exits_taken']} without, {with_noexit['exits_taken']} with noexit, "
              f"{with_noexit['exits_avoided']} avoided")
        self.assertEqual(without["exits_avoided"], 0)
        self.assertLess(with_noexit["exits_taken"], without["exits_taken"] / 2)
        # It says the same in words.
        self.assertIn(f"noexit: {with_noexit['exits_taken']} exits taken, "
                      f"{with_noexit['exits_avoided']} avoided", self.said)


if __name__ == "__main__":
    need_lab(release=RELEASE)
    main()
