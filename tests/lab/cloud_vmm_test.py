# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""cloud_vmm, a VMM that uses KVM as those in Rust do, in the lab: with the interrupt controllers of user
space and with a PC's, its guest says the same without and with noexit, which takes over.
LAB_RELEASE=trixie: in that release's lab. LAB_CPU=intel: on the emulated processor that has STI's shadow
also when the host comes in between; there no interrupt may be in it."""

import json
import os
import re
import tempfile
import unittest

from lab_testing import main, need_lab, said_in_lab, shared_files

SCRIPT = """
for chips in split pc; do
	for off in --off ''; do
		name=/out/$chips$off
		timeout 200 noexit run $off --limits=unweighed --stats=$name.json -- \
			/noexit/tests/lab/cloud_vmm $chips /noexit/tests/lab/cloud_guest >$name.console 2>$name.said || {
			echo "$name: status $?, after $(tail -n 2 $name.console)"
		}
		cat $name.said
	done
done
"""
RELEASE = os.environ.get("LAB_RELEASE")
CPU = os.environ.get("LAB_CPU") or "amd"
CHIPS = ("split", "pc")


class CloudVmmTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as name:
            said = said_in_lab(SCRIPT, release=RELEASE, cpu=CPU, share=name,
                               timeout=900 if CPU == "amd" else 1800)
            print(said)
            if ": status" in said:
                raise AssertionError(said)
            cls.files = shared_files(name)

    def test_guest(self):
        """All of it went well without noexit, so that it means something with it."""
        for chips in CHIPS:
            console = self.files[f"{chips}--off.console"]
            self.assertEqual(console.count("guest: 59 the quick brown fox"), 2)
            self.assertEqual(len(re.findall(r"queue [01] answered 100, sum \d+, wrong 0\n", console)), 4)
            self.assertEqual(len(re.findall(r"^guest: .* kept$", console, re.M)), 4)
            self.assertIn("guest: time went forward\n", console)
            self.assertEqual("the 8254 ticks" in console, chips == "pc")

    def test_consoles_are_equal(self):
        for chips in CHIPS:
            self.assertEqual(self.files[f"{chips}--off.console"], self.files[f"{chips}.console"])

    def test_machines_moved(self):
        """The snapshots came meanwhile."""
        for name, text in self.files.items():
            if name.endswith(".said"):
                self.assertRegex(text, r"kicks: [1-9]\d*, snapshots: [1-9]\d*, ")
                self.assertRegex(text, r"state of [1-9]\d* MSRs")

    def test_shadow(self):
        found = [re.search(r"in the shadow of STI: (\d+)\n", text).group(1)
                 for name, text in sorted(self.files.items()) if name.endswith(".said")]
        self.assertEqual(len(found), 2 * len(CHIPS))
        if CPU == "intel":
            self.assertEqual(set(found), {"0"})

    def test_exits(self):
        for chips in CHIPS:
            off, on = (json.loads(self.files[f"{chips}{mode}.json"]) for mode in ("--off", ""))
            print(f"{chips}: {off['exits_taken']} exits without noexit, {on['exits_taken']} with it, "
                  f"{on['exits_avoided']} avoided")
            self.assertEqual(off["exits_avoided"], 0)
            self.assertLess(on["exits_taken"], off["exits_taken"] / 2)
            # One line: noexit had nothing to say but the figures.
            self.assertEqual(len(re.findall("^noexit: ", self.files[f"{chips}.said"], re.M)), 1)


if __name__ == "__main__":
    need_lab(CPU, RELEASE)
    main()
